"""The array types of this engine and the few operations every stage shares."""

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Size = tuple[int, int]
"""(width, height) in pixels, as OpenCV takes it."""


def size_of(array: Bytes | Floats) -> Size:
    """(width, height) of an array of shape (height, width, ...)."""
    return array.shape[1], array.shape[0]


def blur(array: Floats, sigma: float) -> Floats:
    """Gaussian blur of each channel; `sigma` in pixels of `array`."""
    return np.asarray(cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def local_variance(values: Floats, sigma: float) -> Floats:
    """Variance around each pixel, weighted by a Gaussian of `sigma` pixels; never below 0."""
    mean = blur(values, sigma)
    return np.asarray(np.maximum(blur(values * values, sigma) - mean * mean, 0.0), np.float32)


def resized(pixels: Bytes, size: Size) -> Bytes:
    """A picture at another size: averaged where that is smaller, bicubic where it is larger."""
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] or size[1] < pixels.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)


def shrink(array: Floats, size: Size) -> Floats:
    """Area average to a smaller size, bilinear where the size is larger."""
    smaller = size[0] <= array.shape[1] and size[1] <= array.shape[0]
    return np.asarray(
        cv2.resize(array, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.float32
    )


def luma(pixels: Bytes) -> Bytes:
    """RGB (height, width, 3) to grey (height, width)."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def smoothstep(values: Floats, low: float, high: float) -> Floats:
    """0 at `low`, 1 at `high`, a cubic without kinks between; `low` may be the larger of the two."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)
