"""Denoising of path-traced pictures: the albedo has no noise, so only the light on it is averaged."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
# The constants of this file were chosen by hand, not fitted.
# Radius of the window in pixels.
REACH = 6
# Differences at which a neighbour's weight has fallen to exp(-1/2): of albedo, of normals, and of log light in units of
# its noise.
ALBEDO_TOLERANCE, NORMAL_TOLERANCE, NOISE_TOLERANCE = 0.05, 0.12, 1.6
# Darker albedo counts as this, so that light can be divided by it.
DARKEST_ALBEDO = 0.04


def denoise(first: Field, second: Field, albedo: Field, normals: Field) -> Field:
    """The mean of two independent renderings, denoised; all arrays are (rows, columns, 3).

    A non-local mean over the light (radiance over albedo) whose weights fall with the difference in albedo, in normal,
    and in light as far as that exceeds the noise, which is measured from how the two renderings differ.
    """
    surface = np.maximum(albedo, DARKEST_ALBEDO)
    light = (first + second) / 2 / surface
    brightness = cv2.blur(np.log(light.mean(axis=-1) + 1e-3), (3, 3))
    halves = [np.log((half / surface).mean(axis=-1) + 1e-3) for half in (first, second)]
    noise = np.sqrt(cv2.blur((halves[0] - halves[1]) ** 2, (15, 15))) / 2 / 3
    features = [
        *np.moveaxis(albedo / ALBEDO_TOLERANCE, -1, 0),
        *np.moveaxis(normals / NORMAL_TOLERANCE, -1, 0),
        brightness / (NOISE_TOLERANCE * np.maximum(noise, 0.01)),
    ]
    rows, columns = brightness.shape
    padded = [cv2.copyMakeBorder(feature, REACH, REACH, REACH, REACH, cv2.BORDER_REFLECT_101) for feature in features]
    padded_light = cv2.copyMakeBorder(light, REACH, REACH, REACH, REACH, cv2.BORDER_REFLECT_101)
    total, weights = np.zeros_like(light), np.zeros((rows, columns, 1), np.float32)
    for down in range(2 * REACH + 1):
        for right in range(2 * REACH + 1):
            window = np.s_[down : down + rows, right : right + columns]
            distance = sum((other[window] - here) ** 2 for other, here in zip(padded, features, strict=True))
            weight = np.exp(-0.5 * np.asarray(distance, np.float32))[..., None]
            total += weight * padded_light[window]
            weights += weight
    return np.asarray(total / weights * surface, np.float32)
