"""A prompt's marks in one view of their picture, and the corrections that clicks ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from refgc.imaging.arrays import Bools, Bytes
from refgc.imaging.image import MARKED, Image
from refgc.masks import morphology
from refgc.masks.prompt import Point, Prompt
from refgc.masks.view import View

# The constants of this file were chosen by hand, not fitted.
# Radius of the disc that a click marks, as a fraction of the view's longer side.
CLICK_RADIUS = 0.01
# A click on an error of an outline is near the middle of the error. The error reaches at most so many times as far as
# the outline is away, and has the click's colour within so many levels of each channel.
ERROR_REACH, COLOUR_TOLERANCE = 2.0, 10
# Fraction of a pixel of the view that paint must cover to mark it.
PAINTED = 0.25
# Distances of a click on the wrong side of an outline, in square roots of the region's area: up to the first it is a
# small correction, from the second on it says that the region is another object.
CORRECTION_DISTANCE, CONTRADICTION_DISTANCE = 0.06, 0.2


class Marks(NamedTuple):
    """What a prompt says about a view.

    Attributes:
        seed: (height, width), what is certainly object from the start: a scribble, or else the first click.
        outside: (height, width), what certainly is not: beyond the box, or transparent.
        positive: pixels clicked as object.
        negative: pixels clicked as background.
    """

    seed: Bools
    outside: Bools
    positive: tuple[Point, ...]
    negative: tuple[Point, ...]

    @property
    def first(self) -> Marks:
        """The marks without the clicks that may correct what the seed found."""
        return self._replace(positive=(), negative=())

    def within(self, view: View) -> Marks:
        """The marks in a view of the picture that they lie in."""
        seed, outside = (view.of_values(marks.astype(np.float32)) > PAINTED for marks in (self.seed, self.outside))
        positive, negative = (tuple(map(view.of_point, clicks)) for clicks in (self.positive, self.negative))
        return Marks(seed, outside, positive, negative)

    def contradiction(self, region: Bools) -> float:
        """How many marks contradict a region: clicks by their distance from it, the seed by the part left out."""
        depth = morphology.signed_distance(region) / max(1.0, float(np.sqrt(np.count_nonzero(region))))
        distances = [-depth[y, x] for x, y in self.positive] + [depth[y, x] for x, y in self.negative]
        left_out = 1.0 - float(region[self.seed].mean()) if self.seed.any() else 0.0
        span = CONTRADICTION_DISTANCE - CORRECTION_DISTANCE
        return left_out + sum(float(np.clip((d - CORRECTION_DISTANCE) / span, 0.0, 1.0)) for d in distances)


class Correction(NamedTuple):
    """What clicks change in a region; every field is (height, width).

    Attributes:
        region: the region after the change.
        added: what clicks on the object add.
        removed: what clicks on the background remove.
    """

    region: Bools
    added: Bools
    removed: Bools


def marks_in(view: View, image: Image, prompt: Prompt) -> Marks:
    """The prompt's marks in a view of the image; transparent pixels are background."""
    shape = (view.size[1], view.size[0])
    positive, negative = (tuple(map(view.of_point, clicks)) for clicks in (prompt.positive, prompt.negative))
    outside = np.zeros(shape, np.bool_) if prompt.box is None else ~view.rectangle(prompt.box)
    if image.alpha is not None:
        outside |= view.of_values(image.alpha.values) < MARKED
    if prompt.scribble is not None:
        seed = view.of_values(prompt.scribble.values) > PAINTED
    else:
        seed = click_discs(shape, positive[:1])
    return Marks(seed & ~outside, outside, positive, negative)


def find_correction(region: Bools, picture: Bytes, marks: Marks) -> Correction | None:
    """The change that clicks ask for in a region that they contradict; None where they do not contradict it.

    Args:
        region: (height, width), the object as it was found.
        picture: uint8 RGB (height, width, 3).
        marks: in this view.
    """
    depth = morphology.signed_distance(region)
    # The reach in pixels of each click that lies on the wrong side of the outline.
    missing, excess = (
        {
            click: ERROR_REACH * sign * float(depth[click[1], click[0]])
            for click in clicks
            if region[click[1], click[0]] == wrong
        }
        for clicks, sign, wrong in ((marks.positive, -1, False), (marks.negative, 1, True))
    )
    if not missing and not excess:
        return None
    smooth = cv2.cvtColor(cv2.medianBlur(picture, 3), cv2.COLOR_RGB2LAB)
    # In a very small view the discs of two clicks overlap; the pixel clicked as object stays object.
    clicked = click_discs(region.shape, marks.positive, 0)
    removed = (_flood_from_clicks(smooth, excess) | click_discs(region.shape, marks.negative)) & ~clicked
    added = (_flood_from_clicks(smooth, missing) | click_discs(region.shape, marks.positive)) & ~removed
    return Correction((region | added) & ~removed, added, removed)


def click_discs(shape: tuple[int, ...], clicks: Sequence[Point], radius: float = CLICK_RADIUS) -> Bools:
    """A mask (height, width) of `shape`, true on a disc around each click.

    The radius is a fraction of the longer side; at 0 only the clicked pixels are marked.
    """
    discs = np.zeros(shape[:2], np.uint8)
    for click in clicks:
        cv2.circle(discs, click, max(round(radius > 0), round(radius * max(discs.shape))), 1, cv2.FILLED)
    return discs > 0


def _flood_from_clicks(colours: Bytes, reaches: dict[Point, float]) -> Bools:
    """Flood fills of similar colour from each click within its reach in pixels; none where that is not positive."""
    height, width = colours.shape[:2]
    flooded = np.zeros((height, width), np.bool_)
    for (x, y), reach in reaches.items():
        if reach <= 0:
            continue
        closed = np.ones((height + 2, width + 2), np.uint8)
        cv2.circle(closed, (x + 1, y + 1), round(min(reach, max(height, width))), 0, cv2.FILLED)
        closed[[0, -1]] = closed[:, [0, -1]] = 1
        flags = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (2 << 8)
        cv2.floodFill(colours, closed, (x, y), 0, (COLOUR_TOLERANCE,) * 3, (COLOUR_TOLERANCE,) * 3, flags)
        flooded |= closed[1:-1, 1:-1] == 2
    return flooded
