"""Operations on the shapes of masks."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Floats
from refgc.masks.graph_cut import Bools


def grown(mask: Bools, radius: float) -> Bools:
    """The mask and all within so many pixels of it."""
    return _distance_to(mask) <= radius


def shrunken(mask: Bools, radius: float) -> Bools:
    """What of the mask is farther than so many pixels from all that is not in it; the picture's border is nothing."""
    return _distance_to(~mask) > radius


def depth(mask: Bools) -> Floats:
    """Pixels to the mask's edge, positive within it and negative outside."""
    return _distance_to(~mask) - _distance_to(mask)


def parts_with(mask: Bools, seed: Bools) -> Bools:
    """The connected parts of the mask that hold something of the seed."""
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
    return np.isin(labels, np.unique(labels[seed & mask]))


def largest_part(mask: Bools) -> Bools:
    """The connected part with the most pixels."""
    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return np.asarray(labels == 1 + int(figures[1:, cv2.CC_STAT_AREA].argmax())) if len(figures) > 1 else mask


def reached_from_border(passable: Bools) -> Bools:
    """What can be reached from the border of the picture through passable pixels; the border itself is passable."""
    framed = np.pad(passable, 1, constant_values=True).astype(np.uint8)
    labels = cv2.connectedComponents(framed, connectivity=4)[1]
    return np.asarray((labels == labels[0, 0])[1:-1, 1:-1])


def filled(mask: Bools) -> Bools:
    """The mask with its holes."""
    return ~reached_from_border(~mask)


def overlap(one: Bools, other: Bools) -> float:
    """Intersection over union."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def box_of(mask: Bools) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is marked, right and bottom exclusive."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return left, top, left + width, top + height


def _distance_to(mask: Bools) -> Floats:
    """Pixels from each place to the nearest one of the mask."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3), np.float32)


def bounding(mask: Bools) -> Bools:
    """The smallest box that holds the mask, filled."""
    left, top, right, bottom = box_of(mask)
    box = np.zeros_like(mask)
    box[top:bottom, left:right] = True
    return box
