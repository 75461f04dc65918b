"""Views: a window of a picture at a reduced size, and the coordinate changes between the two."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Bools, Bytes, Floats, Size, shrink
from refgc.imaging.warp import fitted
from refgc.masks.prompt import Box


@dataclass(frozen=True, slots=True)
class View:
    """A window of a picture and the size to which it is reduced.

    Attributes:
        window: left, top, right, bottom in pixels of the picture.
        size: (width, height) of the view in pixels, never larger than the window.
    """

    window: Box
    size: Size

    @property
    def scales(self) -> tuple[float, float]:
        """Pixels of the view per pixel of the picture, across and down; they differ by rounding only."""
        left, top, right, bottom = self.window
        return self.size[0] / (right - left), self.size[1] / (bottom - top)

    def of_picture(self, pixels: Bytes) -> Bytes:
        """The picture (height, width, 3) in this view."""
        left, top, right, bottom = self.window
        return np.asarray(cv2.resize(pixels[top:bottom, left:right], self.size, interpolation=cv2.INTER_AREA), np.uint8)

    def of_values(self, values: Floats) -> Floats:
        """A float array of the picture's size, (height, width) or (height, width, 3), in this view."""
        left, top, right, bottom = self.window
        return shrink(values[top:bottom, left:right], self.size)

    def of_point(self, point: tuple[float, float]) -> tuple[int, int]:
        """Column and row of the view's pixel that contains a pixel (x, y) of the picture; clipped to the view."""
        x, y = (
            int(np.clip((value + 0.5 - start) * scale, 0, side - 1))
            for value, start, scale, side in zip(point, self.window[:2], self.scales, self.size, strict=True)
        )
        return x, y

    def rectangle(self, box: Box) -> Bools:
        """A box of the picture as a filled mask (height, width) of this view."""
        left, top, right, bottom = self.of_box(box)
        mask = np.zeros((self.size[1], self.size[0]), np.bool_)
        mask[top:bottom, left:right] = True
        return mask

    def of_box(self, box: Box) -> Box:
        """A box of the picture in this view, at least one pixel wide and high."""
        left, top = self.of_point((box[0], box[1]))
        right, bottom = self.of_point((box[2] - 1, box[3] - 1))
        return left, top, right + 1, bottom + 1

    def box_back(self, box: Box) -> Box:
        """A box of this view in pixels of the picture, rounded outwards."""
        left, top, right, bottom = self.window
        across, down = self.scales
        return (
            left + int(box[0] / across),
            top + int(box[1] / down),
            min(right, left + int(np.ceil(box[2] / across))),
            min(bottom, top + int(np.ceil(box[3] / down))),
        )

    def of_view(self, mask: Bools, other: View) -> Bools:
        """A mask of another view of the same picture, resampled to this one."""
        matrix = np.zeros((2, 3), np.float32)
        for axis, (ours, theirs) in enumerate(zip(self.scales, other.scales, strict=True)):
            matrix[axis, axis] = theirs / ours
            matrix[axis, 2] = (0.5 / ours + self.window[axis] - other.window[axis]) * theirs - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(mask.astype(np.float32), matrix, self.size, flags=flags) > 0.5)

    def back(self, mask: Bools, size: Size) -> Bools:
        """A mask of this view placed in a picture of `size`, false outside of the window."""
        left, top, right, bottom = self.window
        placed = np.zeros((size[1], size[0]), np.bool_)
        placed[top:bottom, left:right] = shrink(mask.astype(np.float32), (right - left, bottom - top)) > 0.5
        return placed


def whole(size: Size, side: int) -> View:
    """The view of a whole picture of `size`, at most `side` pixels on its longer side."""
    return View((0, 0, *size), fitted(size, side))


def around(box: Box, margin: float, size: Size, side: int) -> View:
    """The view of a box with a margin.

    Args:
        box: left, top, right, bottom in pixels of the picture.
        margin: on each side, as a fraction of the box's own; 4 pixels are added.
        size: (width, height) of the picture.
        side: longer side of the view in pixels, at most.
    """
    across, down = (int(margin * (box[2] - box[0])) + 4, int(margin * (box[3] - box[1])) + 4)
    window = (
        max(0, box[0] - across),
        max(0, box[1] - down),
        min(size[0], box[2] + across),
        min(size[1], box[3] + down),
    )
    return View(window, fitted((window[2] - window[0], window[3] - window[1]), side))
