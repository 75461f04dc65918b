"""A rectangular region of a picture, and the one around some points of it."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Array, Floats, Size

# Chosen by hand, not fitted, in pixels: space added on each side besides the relative margin, and the smallest side of
# a region that is worth working on.
ABSOLUTE_MARGIN = 4.0
MINIMUM_SIDE = 8


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in pixels of a picture; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        return self.right - self.left, self.bottom - self.top

    def of(self, picture: Array, scale: int = 1) -> Array:
        """The view (no copy) of this region in a picture that is enlarged `scale` times."""
        return cast(Array, picture[self.top * scale : self.bottom * scale, self.left * scale : self.right * scale])

    def to_picture(self) -> NDArray[np.float64]:
        """The 3x3 translation from the region's coordinates to those of its picture."""
        return np.array([[1.0, 0.0, self.left], [0.0, 1.0, self.top], [0.0, 0.0, 1.0]])


def region_around(points: Floats, size: Size, margin: float) -> Region | None:
    """The part of a picture around points, or None where they lie outside of it.

    Args:
        points: (..., 2) in pixels of the picture, at least one.
        size: (width, height) of the picture.
        margin: added on each side, as a fraction of the longer side of what the points cover.
    """
    seen = points.reshape(-1, 2)
    low, high = seen.min(axis=0), seen.max(axis=0)
    space = margin * float((high - low).max()) + ABSOLUTE_MARGIN
    left, top = (max(0, int(v)) for v in np.floor(low - space))
    right, bottom = (min(limit, int(v) + 1) for v, limit in zip(np.ceil(high + space), size, strict=True))
    return Region(left, top, right, bottom) if min(right - left, bottom - top) >= MINIMUM_SIDE else None
