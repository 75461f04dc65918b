"""Segmentation of an object on a plain background, as in product photos."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, resized, size_of
from refgc.imaging.warp import fitted
from refgc.masks import morphology

# The constants of this file were chosen by hand, not fitted.
# Longer side at which a larger picture is looked at: 64 megapixels took 19 seconds and 3 GB.
LONGEST_SIDE = 2048
# A background is plain if at least this fraction of the picture's border lies within so many levels of its median.
PLAIN_FRACTION = 0.8
PLAIN_TOLERANCE = 10
# If more than this fraction of the mask's outline is not at an edge, the outline is that of a shadow or a reflection.
# At an edge, levels differ by at least the step within this distance, a fraction of the picture's longer side.
SOFT_FRACTION = 0.2
EDGE_DISTANCE = 0.004
EDGE_STEP = 16
# Components smaller than this fraction of the largest are streaks and specks of the backdrop.
LEAST_COMPONENT = 0.05
# An object covers at least and at most these fractions of the picture.
OBJECT_AREA = (0.01, 0.95)


def object_on_plain_background(reference: Bytes) -> Floats | None:
    """The object on a background of one colour, or None where the background is not plain.

    A background with the object's shadow on it is not plain, since the shadow would be taken for a part of the object.

    Args:
        reference: uint8 RGB (height, width, 3).

    Returns:
        float32 (height, width), 0 or 1.
    """
    size = size_of(reference)
    if max(size) > LONGEST_SIDE:
        found = object_on_plain_background(resized(reference, fitted(size, LONGEST_SIDE)))
        return None if found is None else np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_NEAREST))
    border = np.concatenate([reference[0], reference[-1], reference[:, 0], reference[:, -1]]).astype(np.int16)
    colour = np.median(border, axis=0)
    if float(np.mean(np.abs(border - colour).max(axis=1) <= PLAIN_TOLERANCE)) < PLAIN_FRACTION:
        return None
    similar = np.abs(reference.astype(np.int16) - colour).max(axis=2) <= PLAIN_TOLERANCE
    # The same colour enclosed by the object belongs to the object.
    background = morphology.flood_from_border(similar)
    solid = cv2.morphologyEx((~background).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, components, statistics, _ = cv2.connectedComponentsWithStats(solid)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    if len(areas):
        solid = np.isin(components, 1 + np.flatnonzero(areas >= LEAST_COMPONENT * areas.max())).astype(np.uint8)
    is_object = OBJECT_AREA[0] < float(solid.mean()) < OBJECT_AREA[1] and _ends_at_edges(solid, reference)
    return solid.astype(np.float32) if is_object else None


def _ends_at_edges(solid: Bytes, picture: Bytes) -> bool:
    """Whether the picture has an edge nearly everywhere along a mask's outline."""
    rim = (solid > 0) & (cv2.erode(solid, np.ones((3, 3), np.uint8)) == 0)
    rim[[0, -1]] = rim[:, [0, -1]] = False
    reach = max(2, round(EDGE_DISTANCE * max(solid.shape)))
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    step = (cv2.dilate(picture, window) - cv2.erode(picture, window)).max(axis=2)
    return not rim.any() or float((step[rim] < EDGE_STEP).mean()) <= SOFT_FRACTION
