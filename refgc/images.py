"""Picture intake: the only door through which pictures and masks enter the project."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """How much of each pixel belongs to the object.

    `values` is a read-only float32 array of shape (height, width) in [0, 1].
    """

    values: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.values.shape[1], self.values.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One upright sRGB picture.

    `pixels` is a read-only uint8 array of shape (height, width, 3), RGB, already oriented, colour-converted to sRGB
    and flattened over white. `alpha` is the transparency the file came with, as a mask of the same size, or None
    where the file was opaque.
    """

    pixels: NDArray[np.uint8]
    alpha: Mask | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]
