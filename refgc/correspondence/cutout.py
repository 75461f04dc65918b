"""The object cut out of a picture that shows more than it, where nobody gave its mask."""

import cv2
import numpy as np

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Floats, size_of
from refgc.imaging.image import MARKED, Image, Mask
from refgc.masks import Prompt
from refgc.masks.grabcut import GrabCutSegmenter

# What stands out in the reference is the object that was matched if it has so many of the matches.
HELD = 0.9
# Features lie beside outlines too, so many pixels at most.
RIM = 5


def object_around(reference: Bytes, points: Floats) -> Floats:
    """Mask (height, width) in [0, 1] of the object that carries matches.

    A match is only a spot of the object, and a label is only a part of it: all that stands out together with the spots
    is the object.

    Args:
        reference: RGB (height, width, 3).
        points: (n, 2), where the reference was matched.
    """
    picture, segmenter = Image(reference), GrabCutSegmenter()
    try:
        prominent = segmenter.segment(picture, Prompt(picture.size)).values
    except InputError:
        prominent = np.zeros(reference.shape[:2], np.float32)
    if _share_held(prominent, points) >= HELD:
        return prominent
    spots = tuple((int(x), int(y)) for x, y in np.clip(np.rint(points), 0, np.array(picture.size) - 1))
    try:
        return segmenter.segment(picture, Prompt(picture.size, positive=spots)).values
    except InputError:
        return _hull(points, reference)


def outline_near(picture: Bytes, rough: Floats) -> Floats:
    """Mask (height, width) in [0, 1] of the object in a picture that a mask of the same size marks roughly."""
    try:
        return GrabCutSegmenter().segment(Image(picture), Prompt(size_of(picture), alpha=Mask(rough))).values
    except InputError:
        return rough


def _share_held(mask: Floats, points: Floats) -> float:
    wider = cv2.dilate((mask >= MARKED).astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))
    columns, rows = np.clip(np.rint(points), 0, np.array(size_of(mask)) - 1).astype(int).T
    return float(wider[rows, columns].mean())


def _hull(points: Floats, reference: Bytes) -> Floats:
    """1 between the points."""
    mask = np.zeros(reference.shape[:2], np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1.0)
    return mask
