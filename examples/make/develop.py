"""Tone mapping of rendered radiance to a photograph: exposure, film curve, vignette and grain."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Strength of the film grain; chosen by hand, not fitted.
GRAIN = 1.6


def develop(radiance: NDArray[np.float32], key: float, seed: int) -> NDArray[np.uint8]:
    """uint8 sRGB of the same shape as `radiance` (rows, columns, 3); exposed so that the mean luminance becomes `key`.

    The film curve is Narkowicz's fit of the ACES tone curve.
    """
    luminance = radiance @ np.array([0.2126, 0.7152, 0.0722])
    exposed = radiance * (key / np.minimum(luminance, np.quantile(luminance, 0.98)).mean())
    rows, columns = luminance.shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    exposed = exposed * (1 - 0.09 * (x**2 + y**2))[..., None]
    mapped = np.clip(exposed * (2.51 * exposed + 0.03) / (exposed * (2.43 * exposed + 0.59) + 0.14), 0, 1)
    encoded = np.where(mapped <= 0.0031308, mapped * 12.92, 1.055 * np.power(mapped, 1 / 2.4) - 0.055) * 255
    random = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(random.standard_normal((rows, columns)), (0, 0), 0.7) * 2.2
    return np.asarray(np.clip(np.rint(encoded + GRAIN * grain[..., None]), 0, 255), np.uint8)
