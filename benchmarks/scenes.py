"""What the trust in a scene gains: photos of one scene from two places, with simulated artifacts.

usage: python -m benchmarks.scenes FOLDER... [--seeds N] [--json FILE]

A FOLDER is one scene with a file hrri.* and a file hrgt.*, two photos of it. Each photo takes each role once. The
command prints the mean gain over the enlargement, in dB, for several values of the constants of
`refgc.correspondence.trust` that were chosen by hand.
"""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.trust_set import SCALE, gain_of
from refgc.correspondence import trust
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image, open_image
from refgc.request import RefineRequest
from refgc.simulator.artifacts import Strengths, simulate

# Values that are compared; each differs from the chosen ones in one constant.
VARIANTS: tuple[dict[str, float], ...] = (
    {},
    {"PARALLAX": 1e-6},
    {"PARALLAX": 0.25},
    {"PARALLAX": 1.0},
    {"MOSTLY_RELIABLE": 0.4},
    {"MOSTLY_RELIABLE": 0.6},
)


def gains(reference: Image, truth: Image, seed: int) -> list[float]:
    """The gain with each variant, in dB over the whole picture."""
    width, height = (side // SCALE * SCALE for side in truth.size)
    truth = Image(np.ascontiguousarray(truth.pixels[:height, :width]))
    size = width // SCALE, height // SCALE
    generated = simulate(truth, None, size=size, strengths=_strengths(seed), seed=seed).image
    request = RefineRequest(reference, generated, SCALE)
    found = []
    for variant in VARIANTS:
        with ExitStack() as stack:
            for name, value in variant.items():
                stack.enter_context(patch.object(trust, name, value))
            result = CorrespondenceEngine().refine(request)
        found.append(gain_of(result, truth.pixels))
    return found


def _strengths(seed: int) -> Strengths:
    random = np.random.default_rng(seed)
    return Strengths(
        identity_distortion=random.uniform(0.0, 0.1),
        detail_inconsistency=random.uniform(0.1, 0.6),
        texture_loss=random.uniform(0.3, 0.9),
        quality_degradation=random.uniform(0.1, 0.6),
    )


def main() -> None:
    """Prints and keeps a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for folder in options.folders:
        photos = [open_image(next(folder.glob(f"{kind}.*")), name=kind) for kind in ("hrri", "hrgt")]
        for role, (reference, truth) in enumerate((photos, photos[::-1]), 1):
            for seed in range(1, options.seeds + 1):
                found[f"{folder.name}, role {role}, seed {seed}"] = gains(reference, truth, seed)
    told: list[dict[str, Any]] = []
    for variant, column in zip(VARIANTS, zip(*found.values(), strict=True), strict=True):
        gain = {name: round(value, 2) for name, value in zip(found, column, strict=True)}
        told.append({"constants": variant, "mean gain": round(float(np.mean(column)), 3), "gain": gain})
        print(json.dumps(told[-1]))
    if options.json is not None:
        write_whole(options.json, (json.dumps(told, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
