"""Segmentation prompts: boxes, clicks, scribbles, rough masks and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refgc.errors import InputError
from refgc.imaging.arrays import Size
from refgc.imaging.image import MARKED, Image, Mask

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the object lies in columns left to right - 1 and rows top to bottom - 1."""
Point = tuple[int, int]
"""Column and row of a pixel."""

# A box narrower than this many pixels is taken for an accident. Chosen by hand, not fitted.
LEAST_BOX_SIDE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """Marks in one picture that hold together; without any, the most prominent object is meant.

    It is checked once, when it is made.

    Attributes:
        size: (width, height) in pixels of the picture that the marks lie in.
        box: two opposite corners (x, y, x, y) in pixels around the whole object, in any order; stored as left, top,
            right, bottom and clipped to the picture.
        positive: (x, y) in pixels on the object.
        negative: (x, y) in pixels on the background.
        scribble: painted over the object or a good part of it. Each pixel that it marks belongs to the object; those
            outside of the box do not count.
        alpha: a rough mask of the whole object; the true outline is looked for near its edge.
        text: the object in words; blank text is the same as none.

    Raises:
        InputError: a mark lies outside of the picture or of the box, marks contradict each other, a mask has another
            size than the picture, or marks nothing of it or all of it.
    """

    size: Size
    box: Box | None = None
    positive: tuple[Point, ...] = ()
    negative: tuple[Point, ...] = ()
    scribble: Mask | None = None
    alpha: Mask | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        text = " ".join((self.text or "").split())
        checked = {
            "box": None if self.box is None else _box(self.box, self.size),
            "positive": tuple(_point(click, self.size) for click in self.positive),
            "negative": tuple(_point(click, self.size) for click in self.negative),
            "text": text or None,
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for mask, name in ((self.scribble, "scribble"), (self.alpha, "rough mask")):
            if mask is not None:
                _check_mask(mask, self.size, name)
        self._check_agreement()

    @property
    def is_empty(self) -> bool:
        """Whether there are neither marks nor words."""
        return self.text is None and not self.is_marked

    @property
    def is_marked(self) -> bool:
        """Whether there are marks in the picture."""
        masks = (self.box, self.scribble, self.alpha)
        return bool(self.positive or self.negative) or any(mark is not None for mark in masks)

    def _check_agreement(self) -> None:
        for x, y in self.positive:
            if (x, y) in self.negative:
                raise InputError(f"The place ({x}, {y}) is marked as object and as background; take one mark back.")
            if self.box is not None and not _holds(self.box, (x, y)):
                raise InputError(f"The click at ({x}, {y}) lies outside of the box; draw the box around the object.")
        if self.box is not None and self.scribble is not None:
            left, top, right, bottom = self.box
            if not (self.scribble.values[top:bottom, left:right] >= MARKED).any():
                raise InputError("The scribble lies outside of the box; draw the box around the object.")


def require_same_picture(image: Image, prompt: Prompt) -> None:
    """Check that the marks were made in a picture of this size.

    Raises:
        InputError: the sizes differ.
    """
    if image.size != prompt.size:
        ours, theirs = ("{}x{}".format(*size) for size in (image.size, prompt.size))
        raise InputError(f"The picture has {ours} pixels, the one that was marked {theirs}; mark this one.")


def _box(corners: Sequence[float], size: Size) -> Box:
    if len(corners) != 4 or not all(math.isfinite(value) for value in corners):
        raise InputError("A box takes four numbers: left, top, right and bottom in pixels.")
    left, right = sorted((corners[0], corners[2]))
    top, bottom = sorted((corners[1], corners[3]))
    box = (max(0, math.floor(left)), max(0, math.floor(top)), math.ceil(right), math.ceil(bottom))
    box = (box[0], box[1], min(size[0], box[2]), min(size[1], box[3]))
    if min(box[2] - box[0], box[3] - box[1]) < LEAST_BOX_SIDE:
        raise InputError(
            f"Less than {LEAST_BOX_SIDE} pixels of the box lie in the picture; draw it around the object from corner "
            "to corner."
        )
    return box


def _point(click: Sequence[float], size: Size) -> Point:
    if len(click) != 2 or not all(math.isfinite(value) for value in click):
        raise InputError("A click takes two numbers: x and y in pixels.")
    x, y = math.floor(click[0]), math.floor(click[1])
    if not (0 <= x < size[0] and 0 <= y < size[1]):
        raise InputError(f"The click at ({x}, {y}) lies outside of the picture of {size[0]}x{size[1]} pixels.")
    return x, y


def _holds(box: Box, point: Point) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


def _check_mask(mask: Mask, size: Size, name: str) -> None:
    if mask.size != size:
        ours, theirs = ("{}x{}".format(*pair) for pair in (mask.size, size))
        raise InputError(f"The {name} is {ours} pixels and its picture {theirs}; give one of the same size.")
    marked = mask.values >= MARKED
    if not marked.any():
        raise InputError(f"The {name} marks nothing; mark the object.")
    if marked.all():
        raise InputError(f"The {name} covers the whole picture; leave out what is not the object.")
