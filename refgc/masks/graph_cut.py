"""The cheapest outline through a picture whose pixels each lean to the object or to the background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes, Floats

Bools = NDArray[np.bool_]

# OpenCV's GrabCut takes no leanings, but it takes colour models, and need not change them. So the leaning is drawn as
# the first colour, with one Gaussian on either side of the middle: the logarithm of their ratio is linear in it.
MIDDLE, APART = 128.0, 48.0
# Alike for both sides, the other colours say where an outline is cheap and nothing else.
INDIFFERENT = 1e5


def cut(colours: Floats, leaning: Floats, most: float, inside: Bools, outside: Bools) -> Bools:
    """Minimum cut (Boykov and Jolly, 2001) through OpenCV's GrabCut, with frozen models.

    Args:
        colours: (height, width, 3), in which edges are looked for.
        leaning: (height, width), logarithm of how much likelier object is than background.
        most: leanings count as at most so much.
        inside: (height, width), what surely is object.
        outside: (height, width), what surely is not; it wins where both are true.

    Returns:
        (height, width), the object.
    """
    level = np.clip(MIDDLE + (MIDDLE - 1) * leaning / most, 0, 255).astype(np.uint8)
    drawn = np.ascontiguousarray(np.dstack([level, _main_axes(colours)]))
    labels = np.where(leaning > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inside] = cv2.GC_FGD
    labels[outside] = cv2.GC_BGD
    variance = 2.0 * APART * (MIDDLE - 1) / most
    behind, object_ = (_gaussian(MIDDLE + side * APART, variance) for side in (-1, 1))
    cv2.grabCut(drawn, labels, None, behind, object_, 1, cv2.GC_EVAL_FREEZE_MODEL)
    return np.isin(labels, [cv2.GC_FGD, cv2.GC_PR_FGD])


def _main_axes(colours: Floats) -> Bytes:
    """The two directions in which the colours differ most, (height, width, 2)."""
    flat = colours.reshape(-1, 3)
    flat = flat - flat.mean(axis=0)
    axes = np.linalg.eigh(flat.T @ flat)[1][:, :0:-1]
    drawn: Bytes = np.clip(flat @ axes + MIDDLE, 0, 255).astype(np.uint8)
    return np.reshape(drawn, (*colours.shape[:2], 2))


def _gaussian(mean: float, variance: float) -> NDArray[np.float64]:
    """One Gaussian as OpenCV keeps mixtures: 5 shares, 5 means of 3 numbers, 5 covariances of 9."""
    model = np.zeros((1, 65))
    model[0, 0] = 1.0
    model[0, 5:8] = mean, MIDDLE, MIDDLE
    model[0, 20:29] = np.diag([variance, INDIFFERENT, INDIFFERENT]).ravel()
    return model
