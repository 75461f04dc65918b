"""Openings of an object, a handle's or a strap's, through which its background is seen."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Floats
from refgc.masks import appearance, shapes
from refgc.masks.graph_cut import Bools
from refgc.masks.outline import LEAST

# How much less places count than in outlines, since an opening lies apart from the rest of the background, and below
# which share of the background's own likelihoods colours are none of it: once for plain backdrops, once for others.
BACKDROPS = ((0.03, 0.03), (0.1, 0.1))
# An opening is as large in shares of the object; so much likelier background than object, and about as likely as the
# background is itself, in logarithms.
LARGE, THROUGH, USUAL = 0.03, 4.0, 1.0
# No pixel's colour alone may decide.
MOST = 10.0
# Outlines are mixed with what is behind them, so many pixels to each side.
RIM = 1.5
# What is blown out or black looks alike whatever it is, in the lightness of `appearance.lab`.
TELLING = (2.0 * appearance.BRIGHTNESS, 98.0 * appearance.BRIGHTNESS)


def openings(colours: Floats, found: Bools) -> Bools:
    """What of an object looks like its background and unlike all the rest of it.

    Args:
        colours: `appearance.lab` (height, width, 3).
        found: (height, width), the object with its openings.
    """
    seen = np.zeros_like(found)
    if min(np.count_nonzero(found), np.count_nonzero(~found)) < LEAST:
        return seen
    for place, unlikely in BACKDROPS:
        seen |= _openings(colours, found, place, unlikely)
    return seen


def _openings(colours: Floats, found: Bools, place: float, unlikely: float) -> Bools:
    points = appearance.features(colours) * np.array([1, 1, 1, place, place], np.float32)
    behind = appearance.log_likelihood(points, appearance.learn(points[~found.ravel()])).reshape(found.shape)
    least, usual = np.quantile(behind[~found], (unlikely, 0.5))
    alike = shapes.shrunken(found, RIM) & (behind > least)
    alike = shapes.grown(shapes.shrunken(alike, 1.0), 1.0) & alike
    _, labels, figures, _ = cv2.connectedComponentsWithStats(alike.astype(np.uint8), connectivity=4)
    seen = np.zeros_like(found)
    for label in 1 + np.flatnonzero(figures[1:, cv2.CC_STAT_AREA] >= LARGE * np.count_nonzero(found)):
        part = labels == label
        rest = found & ~shapes.grown(part, RIM)
        if np.count_nonzero(rest) < LEAST or not TELLING[0] < np.median(colours[part][:, 0]) < TELLING[1]:
            continue
        own = appearance.log_likelihood(points[part.ravel()], appearance.learn(points[rest.ravel()]))
        lead = np.clip(behind[part] - own, -MOST, MOST).mean()
        if lead >= THROUGH and behind[part].mean() >= usual - USUAL:
            seen |= part
    return seen
