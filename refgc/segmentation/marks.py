"""A prompt's marks in one view of their picture."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from refgc.correspondence.arrays import Bytes
from refgc.images import MARKED, Image
from refgc.segmentation.graph_cut import Bools
from refgc.segmentation.prompt import Point, Prompt
from refgc.segmentation.view import View

# What lies so near to a click is meant by it, and what has its colour within a larger distance; in sizes of the view,
# and in levels of each channel.
NEAR, REACH, ALIKE = 0.01, 0.12, 5
# Paint that covers this share of a pixel of the view marks it.
PAINTED = 0.25


class Marks(NamedTuple):
    """What surely is object (height, width), and what surely is not; never both."""

    inside: Bools
    outside: Bools

    def within(self, view: View) -> Marks:
        """The marks in a view of what they lie in."""
        return Marks(*(view.of_values(marks.astype(np.float32)) > PAINTED for marks in self))


def marks_in(view: View, picture: Bytes, image: Image, prompt: Prompt) -> Marks:
    """What the prompt says about a view of the image.

    Args:
        view: the view.
        picture: the image in it.
        image: the picture that was marked; what is transparent in it is no object.
        prompt: the marks.
    """
    inside, outside = (np.zeros(picture.shape[:2], np.bool_) for _ in range(2))
    if prompt.scribble is not None:
        inside |= view.of_values(prompt.scribble.values) > PAINTED
    for click in prompt.positive:
        inside |= _near(picture, view.of_point(click))
    for click in prompt.negative:
        outside |= _meant(picture, view.of_point(click))
    if prompt.box is not None:
        outside |= ~view.rectangle(prompt.box)
    if image.alpha is not None:
        outside |= view.of_values(image.alpha.values) < MARKED
    for click in prompt.positive:
        outside &= ~_near(picture, view.of_point(click))
    return Marks(inside & ~outside, outside)


def _near(picture: Bytes, point: Point) -> Bools:
    disc = np.zeros(picture.shape[:2], np.uint8)
    cv2.circle(disc, point, max(1, round(NEAR * max(disc.shape))), 1, cv2.FILLED)
    return disc > 0


def _meant(picture: Bytes, point: Point) -> Bools:
    height, width = picture.shape[:2]
    within = np.ones((height + 2, width + 2), np.uint8)
    cv2.circle(within, (point[0] + 1, point[1] + 1), round(REACH * max(height, width)), 0, cv2.FILLED)
    flooded = within.copy()
    alike = (ALIKE,) * 3
    cv2.floodFill(
        cv2.cvtColor(picture, cv2.COLOR_RGB2LAB), flooded, point, 0, alike, alike,
        4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (2 << 8),
    )  # fmt: skip
    return np.asarray(flooded[1:-1, 1:-1] == 2) | _near(picture, point)
