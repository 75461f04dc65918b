"""An object that stands on a background of one colour, as product photos show it."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats

# Product photos stand on one colour: so much of the border lies within so many grey levels of its median.
PLAIN_SHARE = 0.8
PLAIN_TOLERANCE = 10
# Where more than this share of the outline is no edge, shadow or gleam on the ground made it: within so far of an edge,
# as a share of the picture's longer side, so many grey levels change.
SOFT_SHARE = 0.2
EDGE_REACH = 0.004
EDGE_STEP = 16
# Parts of an object smaller than this share of its largest part are none.
LEAST_PART = 0.05


def object_on_plain_background(reference: Bytes) -> Floats | None:
    """Mask (height, width) of what stands on a background of one colour, or None where the background is not plain.

    A ground that the object throws its shadow on is not plain: the shadow would be taken for a part of the object.
    """
    border = np.concatenate([reference[0], reference[-1], reference[:, 0], reference[:, -1]]).astype(np.int16)
    colour = np.median(border, axis=0)
    if float(np.mean(np.abs(border - colour).max(axis=1) <= PLAIN_TOLERANCE)) < PLAIN_SHARE:
        return None
    like = (np.abs(reference.astype(np.int16) - colour).max(axis=2) <= PLAIN_TOLERANCE).astype(np.uint8)
    # What joins the border is background; the same colour enclosed by the object belongs to the object.
    _, labels = cv2.connectedComponents(np.pad(like, 1, constant_values=1), connectivity=4)
    background = (labels == labels[0, 0])[1:-1, 1:-1]
    solid = cv2.morphologyEx((~background).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    # Streaks and specks of the backdrop are no parts of the object.
    _, parts, figures, _ = cv2.connectedComponentsWithStats(solid)
    areas = figures[1:, cv2.CC_STAT_AREA]
    if len(areas):
        solid = np.isin(parts, 1 + np.flatnonzero(areas >= LEAST_PART * areas.max())).astype(np.uint8)
    share = float(solid.mean())
    return solid.astype(np.float32) if 0.01 < share < 0.95 and _ends_at_edges(solid, reference) else None


def _ends_at_edges(solid: Bytes, picture: Bytes) -> bool:
    """Whether the picture has an edge nearly everywhere where a mask ends."""
    rim = (solid > 0) & (cv2.erode(solid, np.ones((3, 3), np.uint8)) == 0)
    rim[[0, -1]] = rim[:, [0, -1]] = False
    reach = max(2, round(EDGE_REACH * max(solid.shape)))
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    step = (cv2.dilate(picture, window) - cv2.erode(picture, window)).max(axis=2)
    return not rim.any() or float((step[rim] < EDGE_STEP).mean()) <= SOFT_SHARE
