"""Soft edges: a binary mask found at low resolution refined to an alpha mask of the picture's own size."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Bools, Bytes, Floats, enlarge, shrink
from refgc.imaging.warp import fitted
from refgc.masks.view import View

# The constants of this file were chosen by hand, not fitted.
# Radius of the guided filter in pixels of the view that the mask was found in: the largest error of its outline.
RADIUS = 2.5
# Regularisation of the guided filter: the variance of noise, for colours in [0, 1].
NOISE_VARIANCE = 1e-5
# The filter's coefficients vary slowly and are computed at this longer side in pixels (He and Sun, 2015).
SIDE = 480
# The filter spreads an edge over its window; this contrast around a half narrows it again.
CONTRAST = 2.0
# The filter is repeated on its own result, sharpened, since one pass moves a wrong edge only part of the way.
ROUNDS, SHARPNESS = 2, 3.0


def soften(pixels: Bytes, found: Bools, view: View) -> Floats:
    """Guided filter (He et al., 2010) of a mask, with the picture as its guide.

    Args:
        pixels: uint8 RGB (height, width, 3).
        found: the object in the view, of the view's size.
        view: the view of the picture in which it was found.

    Returns:
        Alpha (height, width) in [0, 1] with edges as sharp as the picture's; 0 outside of the view's window.
    """
    left, top, right, bottom = view.window
    window = pixels[top:bottom, left:right]
    size = fitted((right - left, bottom - top), SIDE)
    guide = cv2.resize(window, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    radius = round(RADIUS * size[0] / view.size[0])
    rough = shrink(found.astype(np.float32), size)
    for _ in range(ROUNDS):
        slopes, offset = _coefficients(guide, rough, radius)
        rough = np.clip(SHARPNESS * (offset + np.einsum("ijk,ijk->ij", slopes, guide) - 0.5) + 0.5, 0.0, 1.0)
    alpha = enlarge(offset, (right - left, bottom - top))
    for channel in range(3):
        slope = enlarge(np.ascontiguousarray(slopes[..., channel]), (right - left, bottom - top))
        alpha += slope * (window[..., channel] * np.float32(1 / 255))
    soft = np.zeros(pixels.shape[:2], np.float32)
    soft[top:bottom, left:right] = np.clip(CONTRAST * (alpha - 0.5) + 0.5, 0.0, 1.0)
    return soft


def _coefficients(guide: Floats, alpha: Floats, radius: int) -> tuple[Floats, Floats]:
    """Slopes (height, width, 3) and offset (height, width) of the filter's local linear model."""
    window = (2 * max(1, radius) + 1,) * 2
    mean, mean_alpha = cv2.blur(guide, window), cv2.blur(alpha, window)
    # Away from edges all slopes are 0.
    edge = (mean_alpha > NOISE_VARIANCE) & (mean_alpha < 1.0 - NOISE_VARIANCE)
    covariance = (cv2.blur(guide * alpha[..., None], window) - mean * mean_alpha[..., None])[edge]
    variance = np.empty((len(covariance), 3, 3), np.float32)
    for one in range(3):
        for other in range(one, 3):
            product = cv2.blur(guide[..., one] * guide[..., other], window) - mean[..., one] * mean[..., other]
            variance[:, one, other] = variance[:, other, one] = product[edge]
    slopes = np.zeros_like(guide)
    slopes[edge] = np.linalg.solve(variance + NOISE_VARIANCE * np.eye(3, dtype=np.float32), covariance[..., None])[
        ..., 0
    ]
    offset = mean_alpha - np.einsum("ijk,ijk->ij", slopes, mean)
    return np.asarray(cv2.blur(slopes, window), np.float32), np.asarray(cv2.blur(offset, window), np.float32)
