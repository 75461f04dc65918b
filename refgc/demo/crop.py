"""Where the second slider looks: a window on the object, with room around it."""

from __future__ import annotations

Box = tuple[int, int, int, int]

MARGIN = 0.12
WIDEST, TALLEST = 16 / 9, 3 / 4


def object_window(object_box: Box, size: tuple[int, int]) -> Box:
    """Returns (left, top, right, bottom) in pixels: `object_box` with a margin, inside a picture of `size`.

    The margin is 12% of the object's longer side. A very flat or very tall window is opened along its short side, as
    far as the picture goes, so that the slider shows it at a readable size.
    """
    left, top, right, bottom = object_box
    margin = MARGIN * max(right - left, bottom - top)
    width = right - left + 2 * margin
    height = bottom - top + 2 * margin
    left, right = _span((left + right) / 2, max(width, height * TALLEST), size[0])
    top, bottom = _span((top + bottom) / 2, max(height, width / WIDEST), size[1])
    return left, top, right, bottom


def _span(centre: float, length: float, limit: int) -> tuple[int, int]:
    """A stretch of `length` about `centre`, moved and if need be cut so that it lies in [0, limit]."""
    whole = min(limit, max(1, round(length)))
    start = min(max(0, round(centre - whole / 2)), limit - whole)
    return start, start + whole
