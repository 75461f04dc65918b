"""Transparent pictures: the colours of their soft edges, with and without the white that is seen through them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refgc.imaging.levels import Levels

Floats = NDArray[np.float32]

# Side in pixels of the window from which a fully transparent pixel takes its colour. Chosen by hand, not fitted: wide
# enough for programs that interpolate colours without regard to the transparency.
BLEED = 9
# Rows that are worked on at a time, to limit memory.
STRIP = 256


def without_white(flat: Levels, alpha: Floats) -> Levels:
    """The own colours of a picture that is seen on white, the inverse of compositing it.

    Args:
        flat: uint8 or uint16 RGB (height, width, 3).
        alpha: (height, width) in [0, 1].

    Returns:
        The colours, of the same type and shape. Where `alpha` is 1 they are those of `flat`. Where it is 0 nothing is
        known of them: they are the mean of the visible colours nearby, or without any those of `flat`.
    """
    top = np.float32(np.iinfo(flat.dtype).max)
    own = np.empty_like(flat)
    for rows in _strips(len(flat)):
        coverage = alpha[rows, :, None]
        coverage = np.where(coverage > 0, coverage, np.float32(1))
        own[rows] = np.clip(top + (flat[rows] - top) / coverage, 0, top) + np.float32(0.5)
    for rows in _strips(len(flat)):
        _bleed(own, alpha, rows)
    return own


def changed_over_white(before: Levels, after: Levels, alpha: Floats) -> Levels:
    """A transparent picture that was changed as if it were opaque, seen on white.

    The changed colours at a soft edge are those of an object that ends elsewhere, or of its inside. Divided by a small
    alpha they would become far too dark or bright. Therefore the change is weighted by the
    square of the alpha. On synthetic printed cards with soft edges, holes and translucent parts, that came nearest to
    the true colours, compared with the whole change and with the alpha itself as its weight.

    Args:
        before: uint8 or uint16 RGB (height, width, 3), on white.
        after: the changed picture, of the same type and shape.
        alpha: (height, width) in [0, 1].

    Returns:
        The type and shape of `before`. Where `alpha` is 1 it is `after`; where both are the same, it is both.
    """
    changed = np.empty_like(before)
    top = np.float32(np.iinfo(before.dtype).max)
    for rows in _strips(len(before)):
        coverage, old = alpha[rows, :, None], before[rows].astype(np.float32)
        changed[rows] = np.clip(old + coverage * coverage * (after[rows] - old), 0, top) + np.float32(0.5)
    return changed


def _bleed(colours: Levels, alpha: Floats, rows: slice) -> None:
    """Give fully transparent pixels of some rows the mean colour of the visible ones around them."""
    import cv2  # on first need: whoever only opens pictures does without it

    hidden = alpha[rows] == 0
    if not hidden.any():
        return
    start, stop = max(0, rows.start - BLEED), min(len(colours), rows.stop + BLEED)
    near = alpha[start:stop, :, None]
    window, border = (BLEED, BLEED), cv2.BORDER_REPLICATE
    weight = cv2.blur(near, window, borderType=border)
    total = cv2.blur(colours[start:stop].astype(np.float32) * near, window, borderType=border)
    inside = slice(rows.start - start, rows.stop - start)
    weight, total = weight[inside], total[inside]
    filled = hidden & (weight > np.finfo(np.float32).eps)
    top = np.float32(np.iinfo(colours.dtype).max)
    colours[rows][filled] = np.minimum(total[filled] / weight[filled][:, None], top) + np.float32(0.5)


def _strips(height: int) -> list[slice]:
    return [slice(top, min(top + STRIP, height)) for top in range(0, height, STRIP)]
