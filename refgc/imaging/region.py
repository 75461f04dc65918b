"""The part of the generated picture that is worked on: the object's surroundings, or all of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes, Floats, Size


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in pixels of the generated picture, `right` and `bottom` outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> Size:
        """(width, height)."""
        return self.right - self.left, self.bottom - self.top

    def of(self, picture: Bytes | Floats, scale: int = 1) -> Bytes | Floats:
        """The view of a picture that is `scale` times the generated one."""
        return picture[self.top * scale : self.bottom * scale, self.left * scale : self.right * scale]

    def to_frame(self) -> NDArray[np.float64]:
        """The 3x3 matrix from the region's to the generated picture's coordinates."""
        return np.array([[1.0, 0.0, self.left], [0.0, 1.0, self.top], [0.0, 0.0, 1.0]])


def around(homography: NDArray[np.float64], mask: Floats, size: Size, margin: float) -> Region | None:
    """The region of a picture of `size` where an object is seen, or None where that is outside of the picture.

    Args:
        homography: 3x3, generated to reference coordinates.
        mask: the object in the reference, (height, width).
        size: of the generated picture.
        margin: added on each side, as a share of the object's longer side.
    """
    outlines, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    corners = cv2.convexHull(np.concatenate(outlines).astype(np.float32))
    seen = cv2.perspectiveTransform(corners, np.linalg.inv(homography)).reshape(-1, 2)
    low, high = seen.min(axis=0), seen.max(axis=0)
    space = margin * float((high - low).max()) + 4.0
    left, top = (max(0, int(v)) for v in np.floor(low - space))
    right, bottom = (min(limit, int(v) + 1) for v, limit in zip(np.ceil(high + space), size, strict=True))
    return Region(left, top, right, bottom) if right - left >= 8 and bottom - top >= 8 else None
