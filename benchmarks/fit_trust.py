"""Fits the trust of the correspondence engine in an object and the confidence that it reports.

usage: python -m benchmarks.fit_trust gather|fit [--cells DIR] [--renders DIR] [--dreambooth DIR] [--worker I --workers N]

`gather` runs the engine up to its alignment on the cases of `benchmarks.trust_set` that are for fitting. It writes what
is seen in samples of the grid's cells, and the squared errors of the placed reference and of the enlargement. It goes on
where it was. `fit` fits two logistic regressions and prints the constants for refgc/correspondence/trust.py:
the trust, that the placed reference is nearer to the truth in a cell, and the confidence, that the object as refined
with that trust is nearer to the truth than its enlargement. `benchmarks.confidence` checks both on other cases.
"""

import argparse
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.trust_set import SCALE, Case, make_case, pairs
from refgc.correspondence.align import align_object
from refgc.correspondence.blend_weights import USED_RANGE, compare_object
from refgc.correspondence.exposure import expose
from refgc.correspondence.find import search
from refgc.correspondence.fuse import fuse
from refgc.correspondence.trust import CONFIDENCE_NAMES, FEATURE_NAMES, Usage, confidence_features
from refgc.imaging.arrays import Floats, resized, shrink, size_of
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image
from refgc.imaging.upscale import clean_upscale
from refgc.imaging.warp import prefilter
from refgc.request import RefineRequest

CELLS_A_CASE = 4000
# Where both errors are this near (in squared grey levels) there is nothing to decide.
INDIFFERENT = 1.0
RIDGE = 1e-3
FOLDS = 6


def gather_case(case: Case) -> dict[str, NDArray[Any]] | None:
    """Features and errors of samples of a case's cells, or None where no object was placed."""
    request = RefineRequest(Image(case.reference), Image(case.generated), SCALE)
    pair = expose(request.reference, request.generated)
    findings = search(request, pair).findings
    if not findings or findings[0].object_mask is None:
        return None
    found = findings[0]
    seen = np.asarray(found.region.of(pair.generated), np.uint8)
    alignment = align_object(seen, pair.reference, found.maps[0], found.region, found.object_mask)
    compared = compare_object(seen, pair.reference, alignment, found.object_mask, None)
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
