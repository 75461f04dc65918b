"""Fits the trust of the correspondence engine in an object and the confidence that it reports.

usage: python -m benchmarks.fit_trust gather|fit [--cells DIR] [--renders DIR] [--dreambooth DIR]
                                       [--worker I --workers N]

`gather` runs the engine up to its alignment on the cases of `benchmarks.trust_set` that are for fitting. It writes what
is seen in samples of the grid's cells, and the squared errors of the placed reference and of the enlargement. It goes
on where it was. `fit` fits two logistic regressions and prints the constants for refgc/correspondence/trust.py:
the trust, that the placed reference is nearer to the truth in a cell, and the confidence, that the object as refined
with that trust is nearer to the truth than its enlargement. `benchmarks.confidence` checks the second on other cases.
"""

import argparse
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.trust_set import SCALE, Case, make_case, pairs
from refgc.correspondence.align import align_object
from refgc.correspondence.blend_weights import compare_object, limit_of, object_strength, strength_of
from refgc.correspondence.exposure import expose
from refgc.correspondence.find import search
from refgc.correspondence.fuse import fuse
from refgc.correspondence.trust import (
    CONFIDENCE_NAMES,
    FEATURE_NAMES,
    STANDARD_LIMIT,
    ObjectFit,
    Usage,
    confidence_features,
    usage_of,
)
from refgc.imaging.arrays import Floats, resized, shrink, size_of
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image
from refgc.imaging.upscale import clean_upscale
from refgc.imaging.warp import prefilter
from refgc.request import RefineRequest

CELLS_A_CASE = 4000
# Where both errors are this near (in squared grey levels) there is nothing to decide.
INDIFFERENT = 1.0
# Of the regression on cells, and of the one on the far fewer cases.
RIDGE = 1e-3
CASE_RIDGE = 0.03
FOLDS = 6
BINS = 10
# A smaller share of an object than this counts as nothing refined.
LEAST_SHARE = 0.005
# Whether more of a feature may only speak for (1) or against (-1) the reference; in the order of their names.
FEATURE_SIGNS = (-1, 1, 1, -1, -1, -1, 1, 1, 0, 0, -1, 1, 1, 1, 1, 1, 1, 1)
# The least that these count for or against, for objects that are turned or show other print or colours: the pairs hold
# too little of it. Chosen by hand; they cost 0.03 dB of the mean gain in cross-validation.
LEAST_COEFFICIENTS = {
    "correlation": 0.3,
    "correlation around": 0.3,
    "reliable near": 0.2,
    "reliable around": 0.2,
    "fit reliable": 0.3,
    "fit alike": 0.2,
    "colour difference": 0.4,
    "largest bending": 0.2,
}
CONFIDENCE_SIGNS = (1, 0, 1, -1, -1, 1)
ARRAYS = ("features", "errors", "placed", "visible", "limits")
Doubles = NDArray[np.float64]


def gather_case(case: Case) -> dict[str, NDArray[Any]] | None:
    """Features and errors of samples of a case's cells, or None where no object was placed."""
    request = RefineRequest(Image(case.reference), Image(case.generated), SCALE)
    pair = expose(request.reference, request.generated)
    findings = search(request, pair).findings
    # An object that was found by its outline has a trust of its own.
    if not findings or findings[0].silhouette is not None or (mask := findings[0].object_mask) is None:
        return None
    found = findings[0]
    seen = np.asarray(found.region.of(pair.generated), np.uint8)
    alignment = align_object(seen, pair.reference, found.maps[0], found.region, mask)
    compared = compare_object(seen, pair.reference, alignment, mask, None)
    upscaled = clean_upscale(case.generated, size_of(case.truth))
    part = np.ascontiguousarray(found.region.of(upscaled, SCALE), np.uint8)
    size = size_of(part)
    _, laid = fuse(
        part,
        prefilter(pair.reference, alignment.scale * size_of(alignment.mapping)[0] / size[0]),
        size_of(pair.reference),
        alignment.mapping,
        compared.light.darkened(pair.exposure),
        np.ones((2, 2), np.float32),
        luminance_only=pair.luminance_only,
    )
    truth = np.asarray(found.region.of(resized(case.truth, size_of(upscaled)), SCALE), np.float32)
    # Errors are in the light of the picture: at night all of them are small.
    one, other = ((picture.astype(np.float32) - truth) * pair.exposure for picture in (laid, part))
    grid = size_of(compared.features)
    errors = [shrink(np.asarray(field.mean(axis=2), np.float32), grid) for field in (one**2, other**2, one * other)]
    visible = np.ones(grid[::-1], np.float32)
    if case.truth_mask is not None:
        visible = shrink(np.asarray(found.region.of(case.truth_mask, SCALE), np.float32), grid)
    placed = shrink(compared.placed, grid)
    rows = np.flatnonzero(placed.ravel() > 0.05)
    kept = np.random.default_rng(0).permutation(rows)[:CELLS_A_CASE]
    return {
        "features": compared.features.reshape(-1, compared.features.shape[2])[kept].astype(np.float32),
        "errors": np.stack([error.ravel()[kept] for error in errors], axis=1),
        "placed": placed.ravel()[kept],
        "visible": visible.ravel()[kept],
        "share": np.array(len(kept) / max(1, len(rows))),
        "limits": np.array([compared.detail, compared.magnification, compared.recoloured]),
        "log_false_alarms": np.array(found.log_false_alarms),
    }


def gather(options: argparse.Namespace) -> None:
    """Writes one file a case; an empty one where nothing was placed."""
    options.cells.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(found := pairs("fit", options.renders, options.dreambooth)))
    for number, index in enumerate(order):
        pair = found[int(index)]
        file = options.cells / f"{pair.group}-{pair.kind}-{zlib.crc32(pair.name.encode()):08x}.npz"
        if number % options.workers != options.worker or file.exists():
            continue
        cells = gather_case(make_case(pair, options.seed))
        np.savez_compressed(file.with_suffix(".tmp.npz"), **(cells or {}))  # type: ignore[arg-type]
        file.with_suffix(".tmp.npz").rename(file)


@dataclass(frozen=True, slots=True)
class Cells:
    """The sampled cells of one case: features (n, f), errors (n, 3) of placed, enlarged and their product."""

    group: str
    features: Doubles
    errors: Doubles
    placed: Doubles
    visible: Doubles
    limits: Doubles
    log_false_alarms: float

    @property
    def cost(self) -> Doubles:
        """What a wrong decision costs in each cell, as a share of the enlargement's error in the case."""
        mean = float((self.errors[:, 1] * self.visible).mean()) + 1e-3
        difference = np.abs(self.errors[:, 0] - self.errors[:, 1])
        return np.where(difference > INDIFFERENT, np.minimum(difference / mean, 10.0), 0.0) / len(difference)


def load(folder: Path) -> tuple[list[Cells], int]:
    """The cases that were placed, and how many there are in all."""
    files, cases = sorted(folder.glob("*-*.npz")), []
    for file in files:
        with np.load(file) as data:
            if "features" not in data.files or not len(data["features"]):
                continue
            arrays = {name: data[name].astype(np.float64) for name in ARRAYS}
            cases.append(Cells(file.name.split("-")[0], log_false_alarms=float(data["log_false_alarms"]), **arrays))
    return cases, len(files)


def logistic_regression(
    design: Doubles,
    right: Doubles,
    weight: Doubles,
    signs: tuple[int, ...],
    least: tuple[float, ...] | None = None,
    ridge_weight: float = RIDGE,
) -> Doubles:
    """Coefficients (1 + features,) of a ridge logistic regression on (n, features), the intercept first.

    Each coefficient has the sign in `signs` or is 0; 0 there leaves it free. What speaks against the reference must
    never raise the trust, whatever the pairs have in common by chance. Its size is at least that in `least`.
    """
    columns = np.column_stack([np.ones(len(design)), design])
    weight = weight / weight.sum()

    def loss(coefficients: Doubles) -> tuple[float, Doubles]:
        score = columns @ coefficients
        value = float((weight * (np.logaddexp(0.0, score) - right * score)).sum())
        gradient = columns.T @ (weight * (1.0 / (1.0 + np.exp(-score)) - right))
        ridge = ridge_weight * np.concatenate([[0.0], coefficients[1:]])
        return value + 0.5 * float((ridge * coefficients).sum()), gradient + ridge

    floors = least or (0.0,) * len(signs)
    bounds: list[tuple[float | None, float | None]] = [(None, None)]
    bounds += [
        (floor if sign > 0 else None, -floor if sign < 0 else None) for sign, floor in zip(signs, floors, strict=True)
    ]
    return np.asarray(minimize(loss, np.zeros(columns.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x)


@dataclass(frozen=True, slots=True)
class Regression:
    """A fitted regression with the standardisation of its features."""

    means: Doubles
    deviations: Doubles
    coefficients: Doubles

    def probability(self, features: Doubles) -> Doubles:
        """(n,) of features (n, f)."""
        design = self.design(features)
        score = self.coefficients[0] + design @ self.coefficients[1:]
        return np.asarray(1.0 / (1.0 + np.exp(-score)))

    def design(self, features: Doubles) -> Doubles:
        """The standardised features."""
        return np.clip((features - self.means) / self.deviations, -STANDARD_LIMIT, STANDARD_LIMIT)


def fit_trust(cases: list[Cells]) -> Regression:
    """The trust by cell; each cell counts by what a wrong decision costs there."""
    features = np.concatenate([case.features for case in cases])
    empty = Regression(features.mean(axis=0), features.std(axis=0) + 1e-6, np.zeros(0))
    right = np.concatenate([case.errors[:, 0] < case.errors[:, 1] for case in cases]).astype(np.float64)
    weight = np.concatenate([case.cost for case in cases])
    least = tuple(LEAST_COEFFICIENTS.get(name, 0.0) for name in FEATURE_NAMES)
    coefficients = logistic_regression(empty.design(features), right, weight, FEATURE_SIGNS, least)
    return replace(empty, coefficients=coefficients)


def refine_cells(
    case: Cells, trust: Doubles, strength: Callable[[Floats, Floats], Floats] = object_strength
) -> tuple[Usage, float, bool]:
    """How a case would be used with this trust, the gain in dB on its object, and whether there is one."""
    features, single = np.asarray(case.features, np.float32), np.asarray(trust, np.float32)
    used = strength(features, single) * case.placed
    alpha = used * limit_of(*case.limits)
    placed, enlarged, both = case.errors.T
    error = alpha**2 * placed + (1 - alpha) ** 2 * enlarged + 2 * alpha * (1 - alpha) * both
    before, after = (float((field * case.visible).sum()) + 1e-3 for field in (enlarged, error))
    weight, mask = np.asarray(used, np.float32), np.asarray(case.placed, np.float32)
    usage = usage_of(features, single, weight, mask, case.log_false_alarms)
    return usage, 10 * float(np.log10(before / after)), after < before


def fit_confidence(cases: list[Cells], trusts: list[Doubles]) -> Regression:
    """The confidence by case, from the trust that was fitted without the case's product or subject."""
    features, right = [], []
    for case, trust in zip(cases, trusts, strict=True):
        usage, _, better = refine_cells(case, trust)
        if usage.share * limit_of(*case.limits) < LEAST_SHARE:
            continue
        features.append(confidence_features(usage, fit_of(case)))
        right.append(better)
    table = np.array(features, np.float64)
    empty = Regression(table.mean(axis=0), table.std(axis=0) + 1e-6, np.zeros(0))
    fitted = logistic_regression(
        empty.design(table), np.array(right, np.float64), np.ones(len(right)), CONFIDENCE_SIGNS, ridge_weight=CASE_RIDGE
    )
    return replace(empty, coefficients=fitted)


def fit_of(case: Cells) -> ObjectFit:
    """The fit as a whole, which is the same in every cell."""
    return ObjectFit(*(float(value) for value in case.features[0, -4:]))


def across_groups(cases: list[Cells]) -> list[Doubles]:
    """The trust in each case's cells, by a regression that saw neither its product nor its subject."""
    names = sorted({case.group for case in cases})
    trusts: dict[str, Regression] = {}
    for fold in range(FOLDS):
        left_out = names[fold::FOLDS]
        regression = fit_trust([case for case in cases if case.group not in left_out])
        trusts |= dict.fromkeys(left_out, regression)
    return [trusts[case.group].probability(case.features) for case in cases]


def fit(folder: Path, figures: Path) -> None:
    """Prints the constants and writes what they gain on the cases for fitting."""
    cases, count = load(folder)
    regression = fit_trust(cases)
    trusts = across_groups(cases)
    ways: dict[str, Callable[[Floats, Floats], Floats]] = {
        f"trust, full at {full}, exponent {exponent}": partial(_by_trust, full, exponent)
        for full, exponent in ((0.6, 1.0), (0.7, 1.0), (0.75, 1.5), (0.85, 1.5), (1.0, 1.5), (0.75, 2.0), (0.85, 2.0))
    }
    gained = {}
    for name, way in {**ways, "as built, with whole objects": object_strength}.items():
        gains = np.array([refine_cells(case, trust, way)[1] for case, trust in zip(cases, trusts, strict=True)])
        gained[name] = {
            "mean": round(float(gains.mean()), 3),
            "worst": round(float(gains.min()), 2),
            "under -0.05": int((gains < -0.05).sum()),
        }
    told: dict[str, Any] = {"cases": count, "placed": len(cases)}
    told["gain in dB by strength, cross-validated"] = gained
    told["trust, cross-validated"] = calibration_of_cells(cases, trusts)
    sure = fit_confidence(cases, trusts)
    print(f"# {len(cases)} placed of {count} cases")
    show("OBJECT", regression)
    show("CONFIDENCE", sure)
    for name, value in sorted(
        zip(FEATURE_NAMES, regression.coefficients[1:], strict=True), key=lambda row: -abs(row[1])
    ):
        print(f"#   {name:32} {value:+.2f}")
    for name, value in zip(CONFIDENCE_NAMES, sure.coefficients[1:], strict=True):
        print(f"#   confidence by {name:18} {value:+.2f}")
    print(json.dumps(told, indent=1))
    write_whole(figures, (json.dumps(told, indent=2) + "\n").encode())


def _by_trust(full: float, exponent: float, _: Floats, trust: Floats) -> Floats:
    return strength_of(trust, full, exponent)


def calibration_of_cells(cases: list[Cells], trusts: list[Doubles]) -> dict[str, Any]:
    """How well the trust is a probability over cells, each counted by what a wrong decision costs there."""
    trust = np.concatenate(trusts)
    right = np.concatenate([case.errors[:, 0] < case.errors[:, 1] for case in cases])
    weight = np.concatenate([case.cost for case in cases])
    order = np.argsort(trust)
    bounds = np.searchsorted(np.cumsum(weight[order]), np.linspace(0, weight.sum(), BINS + 1))
    parts = [order[low:high] for low, high in pairwise(bounds) if high > low]
    bins = [[float(np.average(of[part], weights=weight[part])) for of in (trust, right)] for part in parts]
    return {
        "expected calibration error": round(float(np.mean([abs(one - other) for one, other in bins])), 4),
        "bins": [[round(one, 3), round(other, 3)] for one, other in bins],
    }


def show(name: str, regression: Regression) -> None:
    """Prints the constants of a regression."""
    rows = {"MEANS": regression.means, "DEVIATIONS": regression.deviations}
    print(f"{name}_INTERCEPT = {regression.coefficients[0]:.3f}")
    for kind, values in {**rows, "COEFFICIENTS": regression.coefficients[1:]}.items():
        print(f"{name}_{kind} = ({', '.join(f'{value:.3f}' for value in values)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("gather", "fit"))
    parser.add_argument("--cells", type=Path, default=Path("build/trust_cells"), help="folder of the gathered cells")
    parser.add_argument("--renders", type=Path, help="folder that benchmarks.product_views wrote to")
    parser.add_argument("--dreambooth", type=Path, help="folder of the DreamBooth photographs")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn onto the generated pictures")
    parser.add_argument("--worker", type=int, default=0, help="works on this part of the cases, counted from 0")
    parser.add_argument("--workers", type=int, default=1, help="into so many parts the cases are divided")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("trust.json"), help="where figures go")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.action == "gather":
        gather(options)
    else:
        fit(options.cells, options.json)


if __name__ == "__main__":
    main()
