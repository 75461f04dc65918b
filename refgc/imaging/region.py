"""A rectangular region of a picture, and the one that an object covers under a homography."""

from dataclasses import dataclass
from typing import cast

import cv2
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


def object_region(homography: NDArray[np.float64], mask: Floats, size: Size, margin: float) -> Region | None:
    """The part of a picture in which an object is seen, or None where it lies outside of the picture.

    Args:
        homography: 3x3, from the picture's to the reference's coordinates.
        mask: (height, width) of the reference, above 0.5 on the object.
        size: (width, height) of the picture.
        margin: added on each side, as a fraction of the object's longer side.
    """
    outlines, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    corners = cv2.convexHull(np.concatenate(outlines).astype(np.float32))
    seen = cv2.perspectiveTransform(corners, np.linalg.inv(homography)).reshape(-1, 2)
    low, high = seen.min(axis=0), seen.max(axis=0)
    space = margin * float((high - low).max()) + ABSOLUTE_MARGIN
    left, top = (max(0, int(v)) for v in np.floor(low - space))
    right, bottom = (min(limit, int(v) + 1) for v, limit in zip(np.ceil(high + space), size, strict=True))
    return Region(left, top, right, bottom) if min(right - left, bottom - top) >= MINIMUM_SIDE else None
