"""The comparison that the node shows: before and after side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Bytes = NDArray[np.uint8]
Box = tuple[int, int, int, int]

# Around the object, as a share of its longer side, so that its surroundings can be told. Chosen by hand.
MARGIN = 0.06
# The longer side of each half in pixels; a larger one is made smaller. Chosen by hand.
LONGEST = 1024
GAP = 8
LABELS = ("before", "after")


def before_and_after(before: Bytes, after: Bytes, box: Box | None) -> Image.Image:
    """The generated picture's plain enlargement and the result, side by side.

    Args:
        before: uint8 RGB (height, width, 3).
        after: of the same size.
        box: left, top, right and bottom of what was refined, which both are cut to; None shows them whole.
    """
    left, top, right, bottom = (0, 0, *before.shape[1::-1]) if box is None else _with_margin(box, before.shape[:2])
    halves = [Image.fromarray(picture[top:bottom, left:right]) for picture in (before, after)]
    for half, label in zip(halves, LABELS, strict=True):
        half.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        _write(half, label)
    width, height = halves[0].size
    whole = Image.new("RGB", (2 * width + GAP, height), "white")
    whole.paste(halves[0], (0, 0))
    whole.paste(halves[1], (width + GAP, 0))
    return whole


def _with_margin(box: Box, size: tuple[int, ...]) -> Box:
    left, top, right, bottom = box
    height, width = size
    margin = round(MARGIN * max(right - left, bottom - top))
    return max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin)


def _write(picture: Image.Image, label: str) -> None:
    """Writes a label into the upper left corner, white on black."""
    font = ImageFont.load_default(max(10, picture.height // 28))
    draw = ImageDraw.Draw(picture)
    _, top, right, bottom = draw.textbbox((0, 0), label, font=font)
    pad = max(3, (bottom - top) // 3)
    draw.rectangle((0, 0, right + 2 * pad, bottom + 2 * pad), fill="black")
    draw.text((pad, pad), label, font=font, fill="white")
