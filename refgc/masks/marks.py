"""A prompt's marks in one view of their picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes
from refgc.imaging.image import MARKED, Image
from refgc.masks import shapes
from refgc.masks.graph_cut import Bools
from refgc.masks.prompt import Point, Prompt
from refgc.masks.view import View

# What lies so near to a click is meant by it, in shares of the view.
NEAR = 0.01
# Who clicks on a flaw of an outline clicks on its middle: it reaches so many times as far as the outline is away, as
# long as the colour is the same within so many levels of each channel.
REACH, ALIKE = 2.0, 10
# Paint that covers this share of a pixel of the view marks it.
PAINTED = 0.25
# A click no farther than this on the wrong side of an outline only puts it right, one as far as that says the region is
# another; in sizes of the region.
RIGHT, WRONG = 0.06, 0.2


class Marks(NamedTuple):
    """What a prompt says about a view.

    Attributes:
        seed: (height, width), what surely is object from the start: a scribble, or else the first click.
        outside: (height, width), what surely is none from the start: beyond the box, or transparent.
        positive: pixels clicked as object.
        negative: pixels clicked as background.
    """

    seed: Bools
    outside: Bools
    positive: tuple[Point, ...]
    negative: tuple[Point, ...]

    @property
    def first(self) -> Marks:
        """Without the later clicks."""
        return self._replace(positive=(), negative=())

    def within(self, view: View) -> Marks:
        """The marks in a view of what they lie in."""
        seed, outside = (view.of_values(marks.astype(np.float32)) > PAINTED for marks in (self.seed, self.outside))
        positive, negative = (tuple(map(view.of_point, clicks)) for clicks in (self.positive, self.negative))
        return Marks(seed, outside, positive, negative)

    def contradiction(self, region: Bools) -> float:
        """How many clicks the region is wrong about, one nearly right counting less; a scribble counts by its share."""
        depth = shapes.depth(region) / max(1.0, float(np.sqrt(np.count_nonzero(region))))
        missed = [-depth[y, x] for x, y in self.positive] + [depth[y, x] for x, y in self.negative]
        unpainted = 1.0 - float(region[self.seed].mean()) if self.seed.any() else 0.0
        return unpainted + sum(float(np.clip((by - RIGHT) / (WRONG - RIGHT), 0.0, 1.0)) for by in missed)


class Correction(NamedTuple):
    """What clicks say about a region: all of it put right, and what each kind of click means."""

    region: Bools
    more: Bools
    less: Bools


def marks_in(view: View, image: Image, prompt: Prompt) -> Marks:
    """What the prompt says about a view of the image, in which what is transparent is no object."""
    shape = (view.size[1], view.size[0])
    positive, negative = (tuple(map(view.of_point, clicks)) for clicks in (prompt.positive, prompt.negative))
    outside = np.zeros(shape, np.bool_) if prompt.box is None else ~view.rectangle(prompt.box)
    if image.alpha is not None:
        outside |= view.of_values(image.alpha.values) < MARKED
    if prompt.scribble is not None:
        seed = view.of_values(prompt.scribble.values) > PAINTED
    else:
        seed = near(shape, positive[:1])
    return Marks(seed & ~outside, outside, positive, negative)


def correct(region: Bools, picture: Bytes, marks: Marks) -> Correction | None:
    """What clicks put right in a region that they contradict; None where they do not.

    Args:
        region: (height, width), the object as it was found.
        picture: RGB (height, width, 3).
        marks: in this view.
    """
    depth = shapes.depth(region)
    missed, taken = (
        {
            click: REACH * side * float(depth[click[1], click[0]])
            for click in clicks
            if region[click[1], click[0]] == wrong
        }
        for clicks, side, wrong in ((marks.positive, -1, False), (marks.negative, 1, True))
    )
    if not missed and not taken:
        return None
    smooth = cv2.cvtColor(cv2.medianBlur(picture, 3), cv2.COLOR_RGB2LAB)
    # However small the view is, a click on the object holds.
    clicked = near(region.shape, marks.positive, 0)
    less = (_meant(smooth, taken) | near(region.shape, marks.negative)) & ~clicked
    more = (_meant(smooth, missed) | near(region.shape, marks.positive)) & ~less
    return Correction((region | more) & ~less, more, less)


def near(shape: tuple[int, ...], clicks: Sequence[Point], share: float = NEAR) -> Bools:
    """The clicks' surroundings in a view of (height, width), to so many sizes of it."""
    discs = np.zeros(shape[:2], np.uint8)
    for click in clicks:
        cv2.circle(discs, click, max(round(share > 0), round(share * max(discs.shape))), 1, cv2.FILLED)
    return discs > 0


def _meant(colours: Bytes, reaches: dict[Point, float]) -> Bools:
    """What has a click's colour, joins it, and is within its reach; nothing where that is not positive."""
    height, width = colours.shape[:2]
    meant = np.zeros((height, width), np.bool_)
    for (x, y), reach in reaches.items():
        if reach <= 0:
            continue
        closed = np.ones((height + 2, width + 2), np.uint8)
        cv2.circle(closed, (x + 1, y + 1), round(min(reach, max(height, width))), 0, cv2.FILLED)
        closed[[0, -1]] = closed[:, [0, -1]] = 1
        flags = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (2 << 8)
        cv2.floodFill(colours, closed, (x, y), 0, (ALIKE,) * 3, (ALIKE,) * 3, flags)
        meant |= closed[1:-1, 1:-1] == 2
    return meant
