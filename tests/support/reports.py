"""Reports and results that no engine made."""

from __future__ import annotations

import numpy as np

from refgc.engine import RefineResult, Report
from refgc.imaging.image import Image


def make_report(**changes: object) -> Report:
    """A report of a placed object, with other values where they are given."""
    values: dict[str, object] = {
        "engine": "correspondence",
        "placed": True,
        "message": "The reference was placed.",
        "confidence": 0.914,
        "coverage": 0.305,
        "matches": 1431,
        "object_box": (40, 40, 120, 100),
        "scale": 4,
        "strength": 1.0,
        "seed": 0,
        "reference_size": (300, 200),
        "generated_size": (50, 40),
        "output_size": (200, 160),
        "seconds": {"matching": 0.75, "fusing": 0.5},
        "versions": {"refgc": "0.1.0"},
    }
    return Report.model_validate(values | changes)


def make_result(report: Report) -> RefineResult:
    """Noise of the size that the report names, with its negative as the enlarged picture."""
    width, height = report.output_size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return RefineResult(Image(pixels), report, {"upscaled": Image(255 - pixels), "object mask": Image(pixels.copy())})
