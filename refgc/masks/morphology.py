"""Binary masks: morphology, connected components, flood fills and overlap."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Bools, Floats


def dilate(mask: Bools, radius: float) -> Bools:
    """Dilation by a disc of `radius` pixels."""
    return _distance_to(mask) <= radius


def erode(mask: Bools, radius: float) -> Bools:
    """Erosion by a disc of `radius` pixels; the picture's border does not count as outside."""
    return _distance_to(~mask) > radius


def opening(mask: Bools, radius: float) -> Bools:
    """Opening by a disc of `radius` pixels: the mask without parts and bridges thinner than twice that."""
    return dilate(erode(mask, radius), radius) & mask


def signed_distance(mask: Bools) -> Floats:
    """Distance in pixels to the mask's edge, positive inside and negative outside."""
    return _distance_to(~mask) - _distance_to(mask)


def components_touching(mask: Bools, seed: Bools) -> Bools:
    """The connected components (4 neighbours) of the mask that overlap with the seed."""
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
    return np.isin(labels, np.unique(labels[seed & mask]))


def largest_component(mask: Bools) -> Bools:
    """The connected component (4 neighbours) with the most pixels."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return np.asarray(labels == 1 + int(areas.argmax())) if len(areas) else mask


def components_from(mask: Bools, least_area: float) -> list[Bools]:
    """The connected components (4 neighbours) of at least so many pixels, in scan order."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return [labels == label for label in 1 + np.flatnonzero(statistics[1:, cv2.CC_STAT_AREA] >= least_area)]


def flood_from_border(passable: Bools) -> Bools:
    """Flood fill from outside of the picture through passable pixels (4 neighbours)."""
    framed = np.pad(passable, 1, constant_values=True).astype(np.uint8)
    labels = cv2.connectedComponents(framed, connectivity=4)[1]
    return np.asarray((labels == labels[0, 0])[1:-1, 1:-1])


def fill_holes(mask: Bools) -> Bools:
    """The mask together with its holes."""
    return ~flood_from_border(~mask)


def overlap(one: Bools, other: Bools) -> float:
    """Intersection over union, in [0, 1]; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def bounding_box(mask: Bools) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the marked pixels, right and bottom exclusive."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return left, top, left + width, top + height


def bounding_box_mask(mask: Bools) -> Bools:
    """The bounding box as a mask."""
    left, top, right, bottom = bounding_box(mask)
    box = np.zeros_like(mask)
    box[top:bottom, left:right] = True
    return box


def box_side(mask: Bools) -> float:
    """The side, in pixels, of the square with the bounding box's area."""
    left, top, right, bottom = bounding_box(mask)
    return float(np.sqrt((right - left) * (bottom - top)))


def _distance_to(mask: Bools) -> Floats:
    """Distance in pixels from each pixel to the nearest one of the mask."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3), np.float32)
