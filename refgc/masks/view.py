"""Part of a picture at a size that can be worked on quickly."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, shrink
from refgc.imaging.warp import fitted
from refgc.masks.graph_cut import Bools
from refgc.masks.prompt import Box


@dataclass(frozen=True, slots=True)
class View:
    """A window of a picture and the size at which it is seen.

    Attributes:
        window: in pixels of the picture.
        size: (width, height) of the view; never larger than the window.
    """

    window: Box
    size: Size

    @property
    def scales(self) -> tuple[float, float]:
        """Pixels of the view to a pixel of the picture, across and down; they differ by rounding alone."""
        left, top, right, bottom = self.window
        return self.size[0] / (right - left), self.size[1] / (bottom - top)

    def of_picture(self, pixels: Bytes) -> Bytes:
        """The picture (height, width, 3) in this view."""
        left, top, right, bottom = self.window
        return np.asarray(cv2.resize(pixels[top:bottom, left:right], self.size, interpolation=cv2.INTER_AREA), np.uint8)

    def of_values(self, values: Floats) -> Floats:
        """A mask (height, width) of the picture, or colours (height, width, 3) of it, in this view."""
        left, top, right, bottom = self.window
        return shrink(values[top:bottom, left:right], self.size)

    def of_point(self, point: tuple[float, float]) -> tuple[int, int]:
        """Column and row of the view's pixel that a pixel of the picture lies in; within the view."""
        x, y = (
            int(np.clip((value + 0.5 - start) * scale, 0, side - 1))
            for value, start, scale, side in zip(point, self.window[:2], self.scales, self.size, strict=True)
        )
        return x, y

    def rectangle(self, box: Box) -> Bools:
        """A box of the picture as a mask of this view."""
        left, top, right, bottom = self.of_box(box)
        mask = np.zeros((self.size[1], self.size[0]), np.bool_)
        mask[top:bottom, left:right] = True
        return mask

    def of_box(self, box: Box) -> Box:
        """A box of the picture in this view; at least a pixel wide and high."""
        left, top = self.of_point((box[0], box[1]))
        right, bottom = self.of_point((box[2] - 1, box[3] - 1))
        return left, top, right + 1, bottom + 1

    def box_back(self, box: Box) -> Box:
        """A box of this view in the picture."""
        left, top, right, bottom = self.window
        across, down = self.scales
        return (
            left + int(box[0] / across),
            top + int(box[1] / down),
            min(right, left + int(np.ceil(box[2] / across))),
            min(bottom, top + int(np.ceil(box[3] / down))),
        )

    def of_view(self, mask: Bools, other: View) -> Bools:
        """A mask that was found in another view of the same picture, in this one."""
        matrix = np.zeros((2, 3), np.float32)
        for axis, (ours, theirs) in enumerate(zip(self.scales, other.scales, strict=True)):
            matrix[axis, axis] = theirs / ours
            matrix[axis, 2] = (0.5 / ours + self.window[axis] - other.window[axis]) * theirs - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(mask.astype(np.float32), matrix, self.size, flags=flags) > 0.5)

    def back(self, mask: Bools, size: Size) -> Bools:
        """A mask that was found in this view, in the picture of `size`."""
        left, top, right, bottom = self.window
        placed = np.zeros((size[1], size[0]), np.bool_)
        placed[top:bottom, left:right] = shrink(mask.astype(np.float32), (right - left, bottom - top)) > 0.5
        return placed


def whole(size: Size, side: int) -> View:
    """A picture of `size`, its longer side at most `side` pixels."""
    return View((0, 0, *size), fitted(size, side))


def around(box: Box, margin: float, size: Size, side: int) -> View:
    """A box in a picture of `size` with a margin, in sizes of the box, at most `side` pixels long."""
    across, down = (int(margin * (box[2] - box[0])) + 4, int(margin * (box[3] - box[1])) + 4)
    window = (
        max(0, box[0] - across),
        max(0, box[1] - down),
        min(size[0], box[2] + across),
        min(size[1], box[3] + down),
    )
    return View(window, fitted((window[2] - window[0], window[3] - window[1]), side))
