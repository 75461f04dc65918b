"""Fits the trust of the correspondence engine in an object, and checks it on what was held out.

usage: python -m benchmarks.fit_trust gather|fit [--cells DIR] [--dreambooth DIR] [--seeds N] [--part I --parts N]

`gather` runs the engine on every case of `benchmarks.trust_set` up to its alignment. For samples of the cells it writes
what is seen there, and the squared errors of the placed reference and of the enlargement. It goes on where it was.
`fit` fits a logistic regression of "the placed reference is nearer to the truth" on the part "fit". It prints the
constants for refgc/correspondence/trust.py, and the calibration on the part "held_out".
"""

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.trust_set import Case, Part, photo_cases, product_cases
from refgc.correspondence.align import align_object
from refgc.correspondence.blend_weights import gather_object
from refgc.correspondence.exposure import expose
from refgc.correspondence.find import find
from refgc.correspondence.fuse import fuse
from refgc.correspondence.trust import FEATURE_NAMES
from refgc.imaging.arrays import Floats, resized, shrink, size_of
from refgc.imaging.files import write_whole
from refgc.imaging.upscale import clean_upscale
from refgc.imaging.warp import prefilter
from refgc.request import RefineRequest

SCALE = 4
CELLS_A_CASE = 1500
# Where both errors are this near (in squared grey levels) there is nothing to decide.
INDIFFERENT = 4.0
RIDGE = 1e-3
BINS = 10


def gather_case(case: Case) -> dict[str, NDArray[Any]] | None:
    """Features and errors of samples of a case's cells, or None where no object was placed."""
    request = RefineRequest(case.reference, case.generated, SCALE)
    pair = expose(case.reference, case.generated)
    found = find(request, pair)
    if found is None or found.object_mask is None:
        return None
    seen = np.asarray(found.region.of(pair.generated), np.uint8)
    alignment = align_object(seen, pair.reference, found.maps[0], found.region, found.object_mask)
    compared, features, placed, _ = gather_object(seen, pair.reference, alignment, found.object_mask, None)
    width, height = case.generated.size
    upscaled = clean_upscale(case.generated.pixels, (width * SCALE, height * SCALE))
    part = np.ascontiguousarray(found.region.of(upscaled, SCALE), np.uint8)
    size = size_of(part)
    sharp = prefilter(pair.reference, alignment.scale * size_of(alignment.mapping)[0] / size[0])
    everywhere = np.ones((2, 2), np.float32)
    _, laid = fuse(
        part,
        sharp,
        size_of(pair.reference),
        alignment.mapping,
        compared.light.darkened(pair.exposure),
        everywhere,
        luminance_only=pair.luminance_only,
    )
    truth = np.asarray(found.region.of(resized(case.truth, size_of(upscaled)), SCALE), np.float32)
    grid = (features.shape[1], features.shape[0])
    errors = [shrink(((picture.astype(np.float32) - truth) ** 2).mean(axis=2), grid) for picture in (laid, part)]
    inside = shrink(placed, grid) > 0.5
    # Errors are in the light of the picture: at night all of them are small.
    errors = [error * pair.exposure**2 for error in errors]
    rows = np.flatnonzero(inside.ravel())
    rows = np.random.default_rng(0).permutation(rows)[:CELLS_A_CASE]
    return {
        "features": features.reshape(-1, features.shape[2])[rows],
        "laid": errors[0].ravel()[rows],
        "upscaled": errors[1].ravel()[rows],
        "share": np.array(len(rows) / max(1, int(inside.sum()))),
        "confidence": np.array(found.confidence),
    }


def gather(part: Part, folder: Path, dreambooth: Path | None, seeds: int, which: int, parts: int) -> None:
    """Writes one file a case into a folder; an empty one where nothing was placed."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = photo_cases(part, dreambooth, range(1)) if dreambooth else iter(())
    for number, case in enumerate(chain(product_cases(part, range(seeds)), photos)):
        file = folder / f"{part}-{case.group}-{case.name}.npz"
        if number % parts != which or file.exists():
            continue
        cells = gather_case(case)
        np.savez(file.with_suffix(".tmp.npz"), **(cells or {}))  # type: ignore[arg-type]
        file.with_suffix(".tmp.npz").rename(file)


def load(part: Part, folder: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int, int]:
    """Features (n, f), errors of the placed reference and of the enlargement (n,), cases placed and in all."""
    features, laid, upscaled, placed, cases = [], [], [], 0, 0
    for file in sorted(folder.glob(f"{part}-*.npz")):
        cases += 1
        with np.load(file) as cells:
            if "features" in cells.files and len(cells["features"]):
                placed += 1
                features.append(cells["features"].astype(np.float64))
                laid.append(cells["laid"])
                upscaled.append(cells["upscaled"])
    return np.concatenate(features), np.concatenate(laid), np.concatenate(upscaled), placed, cases


def fit(folder: Path, figures: Path) -> None:
    """Prints the constants and writes the calibration."""
    features, laid, upscaled, placed, cases = load("fit", folder)
    means, deviations = features.mean(axis=0), features.std(axis=0) + 1e-6
    decided = np.abs(laid - upscaled) > INDIFFERENT
    design = np.column_stack([np.ones(decided.sum()), ((features - means) / deviations)[decided]])
    better = (laid < upscaled)[decided].astype(np.float64)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        score = design @ weights
        value = np.logaddexp(0.0, score) - better * score
        gradient = design.T @ (1.0 / (1.0 + np.exp(-score)) - better) / len(better)
        ridge = RIDGE * np.concatenate([[0.0], weights[1:]])
        return float(value.mean() + 0.5 * (ridge * weights).sum()), gradient + ridge

    weights = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B").x
    print(f"# fitted on {placed} placed of {cases} cases, {len(better)} cells, {better.mean():.1%} of them better")
    for name, values in (("MEANS", means), ("DEVIATIONS", deviations), ("COEFFICIENTS", weights[1:])):
        print(f"OBJECT_{name} = ({', '.join(f'{value:.3f}' for value in values)})")
    print(f"OBJECT_INTERCEPT = {weights[0]:.3f}")
    for name, value in sorted(zip(FEATURE_NAMES, weights[1:], strict=True), key=lambda row: -abs(row[1])):
        print(f"#   {name:20} {value:+.2f}")
    told: dict[str, Any] = {}
    for part in ("fit", "held_out"):
        features, laid, upscaled, placed, cases = load(part, folder)
        score = np.column_stack([np.ones(len(laid)), (features - means) / deviations]) @ weights
        trust = 1.0 / (1.0 + np.exp(-score))
        told[part] = {"cases": cases, "placed": placed, **calibration(trust, laid, upscaled)}
    print(json.dumps(told, indent=1))
    write_whole(figures, (json.dumps(told, indent=2) + "\n").encode())


def calibration(trust: Floats, laid: Floats, upscaled: Floats) -> dict[str, Any]:
    """How well trust is a probability, and what using it gains in dB over cells of objects."""
    decided = np.abs(laid - upscaled) > INDIFFERENT
    better, said = (laid < upscaled)[decided], trust[decided]
    order = np.argsort(said)
    bins = [(float(said[part].mean()), float(better[part].mean())) for part in np.array_split(order, BINS)]
    base = better.mean()
    ranks = np.empty(len(said))
    ranks[order] = np.arange(1, len(said) + 1)
    positive = int(better.sum())
    area = (ranks[better].sum() - positive * (positive + 1) / 2) / max(1, positive * (len(better) - positive))
    gains = {}
    for low, high in ((0.2, 0.5), (0.3, 0.6), (0.35, 0.65), (0.4, 0.7), (0.5, 0.8), (0.6, 0.9)):
        alpha = np.clip((trust - low) / (high - low), 0, 1)
        alpha = alpha * alpha * (3 - 2 * alpha)
        # Errors of a blend lie between those of both; the square root makes them add as amplitudes.
        mixed = (alpha * np.sqrt(laid) + (1 - alpha) * np.sqrt(upscaled)) ** 2
        gains[f"{low} to {high}"] = round(float(10 * np.log10(upscaled.mean() / mixed.mean())), 3)
    return {
        "cells": len(said),
        "better": round(float(base), 3),
        "expected calibration error": round(float(np.mean([abs(a - b) for a, b in bins])), 4),
        "Brier score": round(float(((said - better) ** 2).mean()), 4),
        "Brier score of the base rate": round(float(base * (1 - base)), 4),
        "area under the curve": round(float(area), 3),
        "bins": [[round(a, 3), round(b, 3)] for a, b in bins],
        "gain in dB by range": gains,
        "gain in dB of the oracle": round(float(10 * np.log10(upscaled.mean() / np.minimum(laid, upscaled).mean())), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("gather", "fit"))
    parser.add_argument("--cells", type=Path, default=Path("build/trust_cells"), help="folder of the gathered cells")
    parser.add_argument("--dreambooth", type=Path, help="folder of the DreamBooth photographs")
    parser.add_argument("--seeds", type=int, default=6, help="generated pictures of each product")
    parser.add_argument("--part", type=int, default=0, help="this part of the cases, counted from 0")
    parser.add_argument("--parts", type=int, default=1, help="into so many parts the cases are divided")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_name("trust.json"), help="where the figures go"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.action == "fit":
        fit(options.cells, options.json)
        return
    for part in ("fit", "held_out"):
        gather(part, options.cells, options.dreambooth, options.seeds, options.part, options.parts)


if __name__ == "__main__":
    main()
