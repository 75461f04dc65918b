"""A prompt's marks in one view of their picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from refgc.correspondence.arrays import Bytes, Floats
from refgc.images import MARKED, Image
from refgc.segmentation import shapes
from refgc.segmentation.graph_cut import Bools
from refgc.segmentation.prompt import Point, Prompt
from refgc.segmentation.view import View

# What lies so near to a click is meant by it, in shares of the view.
NEAR = 0.01
# Who clicks on a flaw of an outline clicks on its middle: it reaches so many times as far as the outline is away, as
# long as the colour is the same within so many levels of each channel.
REACH, ALIKE = 2.0, 8
# Paint that covers this share of a pixel of the view marks it.
PAINTED = 0.25
# A click no farther than this on the wrong side of an outline only puts it right, one as far as that says the region is
# another; in sizes of the region.
RIGHT, WRONG = 0.06, 0.2


class Marks(NamedTuple):
    """What a prompt says about a view.

    Attributes:
        inside: (height, width), what surely is object.
        outside: (height, width), what surely is not; never both.
        positive: pixels clicked as object.
        negative: pixels clicked as background.
    """

    inside: Bools
    outside: Bools
    positive: tuple[Point, ...]
    negative: tuple[Point, ...]

    @property
    def seed(self) -> Bools:
        """What was marked first: a scribble, or the first click; later clicks only put right what came of it."""
        if not self.positive:
            return self.inside
        first = np.zeros_like(self.inside)
        first[self.positive[0][1], self.positive[0][0]] = True
        return shapes.parts_with(self.inside, first)

    def within(self, view: View) -> Marks:
        """The marks in a view of what they lie in."""
        inside, outside = (view.of_values(marks.astype(np.float32)) > PAINTED for marks in (self.inside, self.outside))
        positive, negative = (tuple(map(view.of_point, clicks)) for clicks in (self.positive, self.negative))
        return Marks(inside, outside, positive, negative)

    def contradiction(self, region: Bools) -> float:
        """How many clicks the region is wrong about, one nearly right counting less; a scribble counts by its share."""
        depth = shapes.depth(region) / max(1.0, float(np.sqrt(np.count_nonzero(region))))
        missed = [-depth[y, x] for x, y in self.positive] + [depth[y, x] for x, y in self.negative]
        unpainted = 1.0 - float(region[self.inside].mean()) if self.inside.any() else 0.0
        return unpainted + sum(float(np.clip((by - RIGHT) / (WRONG - RIGHT), 0.0, 1.0)) for by in missed)


def marks_in(view: View, picture: Bytes, image: Image, prompt: Prompt) -> Marks:
    """What the prompt says about a view of the image.

    Args:
        view: the view.
        picture: the image in it.
        image: the picture that was marked; what is transparent in it is no object.
        prompt: the marks.
    """
    positive, negative = (tuple(map(view.of_point, clicks)) for clicks in (prompt.positive, prompt.negative))
    inside, outside = _near(picture, positive), _near(picture, negative)
    if prompt.scribble is not None:
        inside |= view.of_values(prompt.scribble.values) > PAINTED
    if prompt.box is not None:
        outside |= ~view.rectangle(prompt.box)
    if image.alpha is not None:
        outside |= view.of_values(image.alpha.values) < MARKED
    # However small the view is, a click on the object holds.
    for x, y in positive:
        inside[y, x], outside[y, x] = True, False
    return Marks(inside & ~outside, outside, positive, negative)


def correct(rough: Bools, picture: Bytes, marks: Marks) -> tuple[Bools, Marks]:
    """A region put right where clicks contradict it, and the marks with all that those clicks mean."""
    depth = shapes.depth(rough)
    more, less = (
        _meant(picture, [click for click in clicks if side * depth[click[1], click[0]] <= 0], np.abs(depth))
        for clicks, side in ((marks.positive, 1), (marks.negative, -1))
    )
    outside = marks.outside | (less & ~marks.inside)
    inside = (marks.inside | more) & ~outside
    return (rough | inside) & ~outside, marks._replace(inside=inside, outside=outside)


def _near(picture: Bytes, clicks: Sequence[Point]) -> Bools:
    discs = np.zeros(picture.shape[:2], np.uint8)
    for click in clicks:
        cv2.circle(discs, click, max(1, round(NEAR * max(discs.shape))), 1, cv2.FILLED)
    return discs > 0


def _meant(picture: Bytes, clicks: Sequence[Point], distance: Floats) -> Bools:
    """What has a click's colour, joins it, and is near in comparison with the outline it lies from."""
    colours = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    meant = np.zeros(picture.shape[:2], np.bool_)
    for x, y in clicks:
        near = np.pad(np.zeros_like(meant, np.uint8), 1, constant_values=1)
        beyond = np.ones_like(near)
        reach = min(REACH * float(distance[y, x]), max(meant.shape))
        cv2.circle(beyond, (x + 1, y + 1), round(reach), 0, cv2.FILLED)
        near |= beyond
        flags = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (2 << 8)
        cv2.floodFill(colours, near, (x, y), 0, (ALIKE,) * 3, (ALIKE,) * 3, flags)
        meant |= near[1:-1, 1:-1] == 2
    return meant
