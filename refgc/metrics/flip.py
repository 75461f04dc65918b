"""FLIP: the difference that a viewer would see who flips between the result and the truth (Andersson et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes
from refgc.metrics.metric import Need, Region, figure_name, region_masks
from refgc.metrics.sample import Sample

# Pixels per degree of the eye's field: a display 0.7 m wide with 3840 pixels, seen from 0.7 m, as its authors take it.
PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * np.pi / 180


@dataclass(frozen=True, slots=True)
class Flip:
    """FLIP against the truth, in [0, 1]; 0 for equal pictures."""

    name: str = "flip"
    label: str = "FLIP"
    unit: str = ""
    digits: int = 4
    higher_is_better: bool = False
    regions: tuple[Region, ...] = ("whole", "inside", "outside")
    needs: frozenset[Need] = frozenset({"truth"})

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRGT at the result's size, 8-bit sRGB, LDR-FLIP, mean of its map, "
            f"{PIXELS_PER_DEGREE:.2f} pixels per degree; flip-evaluator {version('flip-evaluator')}"
        )

    def __call__(self, sample: Sample) -> dict[str, float]:
        """`flip`, `flip_inside` and `flip_outside`: means of the map over the whole picture and over its parts."""
        if sample.truth is None:
            return {}
        errors = flip_map(sample.result.pixels, sample.truth.pixels)
        return {
            figure_name(self.name, region): float((errors if pixels is None else errors[pixels]).mean())
            for region, pixels in region_masks(sample).items()
        }


def flip_map(result: Bytes, truth: Bytes) -> NDArray[np.float64]:
    """The visible difference at each pixel.

    Args:
        result: uint8 RGB (height, width, 3).
        truth: of the same size.

    Returns:
        (height, width) in [0, 1].
    """
    import flip_evaluator

    errors, _, _ = flip_evaluator.evaluate(
        np.float32(truth / 255.0),
        np.float32(result / 255.0),
        "LDR",
        applyMagma=False,
        computeMeanError=False,
        parameters={"ppd": float(PIXELS_PER_DEGREE)},
    )
    return np.asarray(errors[..., 0], np.float64)
