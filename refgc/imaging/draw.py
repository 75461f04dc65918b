"""A mask drawn over its picture, for people to judge."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes
from refgc.imaging.image import MARKED, Image, Mask

# What is not the object keeps this share of its light, and none of its colour.
DIMMED = 0.4
# The outline is drawn light on dark, so that it is seen over anything; widths in shares of the picture's longer side.
LINES: tuple[tuple[tuple[int, int, int], float], ...] = (((8, 33, 31), 0.006), ((114, 207, 193), 0.003))


def shown_over(image: Image, mask: Mask) -> Image:
    """The picture with the object as it is, all else dark and grey, and a line between them.

    Args:
        image: the picture.
        mask: of the same size; soft edges fade.
    """
    grey = np.repeat(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    share = mask.values[..., None]
    shown = (image.pixels * share + DIMMED * grey * (1.0 - share)).round().astype(np.uint8)
    return Image(_outlined(shown, mask))


def _outlined(pixels: Bytes, mask: Mask) -> Bytes:
    solid = (mask.values >= MARKED).astype(np.uint8)
    outlines = cv2.findContours(solid, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    for colour, width in LINES:
        cv2.drawContours(pixels, outlines, -1, colour, max(1, round(width * max(mask.size))), cv2.LINE_AA)
    return pixels
