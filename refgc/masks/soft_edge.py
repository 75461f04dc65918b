"""From a rough outline to a soft one at the picture's own size."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, shrink
from refgc.imaging.warp import fitted
from refgc.masks.graph_cut import Bools
from refgc.masks.view import View

# How far the true edge may lie from the rough one, in pixels of the view that the rough one was found in.
REACH = 2.5
# Colour differences below a third of a percent are noise.
NOISE = 1e-5
# The filter's coefficients vary slowly, and are found at this size.
SIDE = 480
# The filter spreads an edge over its window; pictures show it over some pixels.
CONTRAST = 2.0
# Where the rough edge is off, the filter goes some way to the true one; from a sharp edge there it goes the rest.
ROUNDS, SHARPNESS = 2, 3.0


def soften(pixels: Bytes, found: Bools, view: View) -> Floats:
    """A guided filter (He et al., 2010) with the picture as guide, then a contrast that makes the edge narrow again.

    Args:
        pixels: RGB (height, width, 3).
        found: the object in the view.
        view: of the picture.

    Returns:
        (height, width) in [0, 1], the edge at the picture's own sharpness; 0 outside of the view's window.
    """
    left, top, right, bottom = view.window
    window = pixels[top:bottom, left:right]
    size = fitted((right - left, bottom - top), SIDE)
    guide = cv2.resize(window, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    radius = round(REACH * size[0] / view.size[0])
    rough = shrink(found.astype(np.float32), size)
    for _ in range(ROUNDS):
        slopes, offset = _coefficients(guide, rough, radius)
        rough = np.clip(SHARPNESS * (offset + np.einsum("ijk,ijk->ij", slopes, guide) - 0.5) + 0.5, 0.0, 1.0)
    share = _enlarged(offset, (right - left, bottom - top))
    for channel in range(3):
        slope = _enlarged(np.ascontiguousarray(slopes[..., channel]), (right - left, bottom - top))
        share += slope * (window[..., channel] * np.float32(1 / 255))
    soft = np.zeros(pixels.shape[:2], np.float32)
    soft[top:bottom, left:right] = np.clip(CONTRAST * (share - 0.5) + 0.5, 0.0, 1.0)
    return soft


def _coefficients(guide: Floats, share: Floats, radius: int) -> tuple[Floats, Floats]:
    """Slopes (height, width, 3) and offset (height, width) of the filter's local linear model."""
    window = (2 * max(1, radius) + 1,) * 2
    mean, mean_share = cv2.blur(guide, window), cv2.blur(share, window)
    # Where all is object or all background there is nothing to explain.
    edge = (mean_share > NOISE) & (mean_share < 1.0 - NOISE)
    covariance = (cv2.blur(guide * share[..., None], window) - mean * mean_share[..., None])[edge]
    variance = np.empty((len(covariance), 3, 3), np.float32)
    for one in range(3):
        for other in range(one, 3):
            product = cv2.blur(guide[..., one] * guide[..., other], window) - mean[..., one] * mean[..., other]
            variance[:, one, other] = variance[:, other, one] = product[edge]
    slopes = np.zeros_like(guide)
    slopes[edge] = np.linalg.solve(variance + NOISE * np.eye(3, dtype=np.float32), covariance[..., None])[..., 0]
    offset = mean_share - np.einsum("ijk,ijk->ij", slopes, mean)
    return np.asarray(cv2.blur(slopes, window), np.float32), np.asarray(cv2.blur(offset, window), np.float32)


def _enlarged(values: Floats, size: Size) -> Floats:
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.float32)
