"""Array types and the elementary image operations that every stage shares."""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Size = tuple[int, int]
"""(width, height) in pixels, the order that OpenCV takes."""

Array = TypeVar("Array", bound=NDArray[Any])
Real = TypeVar("Real", np.float32, np.float64)


def size_of(array: NDArray[Any]) -> Size:
    """(width, height) of an array of shape (height, width, ...)."""
    return array.shape[1], array.shape[0]


def blur(array: Floats, sigma: float) -> Floats:
    """Gaussian blur of each channel.

    Args:
        array: float32 (height, width) or (height, width, channels), mirrored at its border.
        sigma: standard deviation in pixels of `array`, above 0.
    """
    return np.asarray(cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def local_variance(values: Floats, sigma: float) -> Floats:
    """Variance around each pixel under a Gaussian window; never below 0.

    Args:
        values: (height, width) or (height, width, channels).
        sigma: standard deviation of the window in pixels.
    """
    mean = blur(values, sigma)
    return np.asarray(np.maximum(blur(values * values, sigma) - mean * mean, 0.0), np.float32)


def resized(pixels: Bytes, size: Size) -> Bytes:
    """An 8-bit picture at another size: area average when it shrinks, bicubic when it grows."""
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] or size[1] < pixels.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)


def bicubic(pixels: Bytes, size: Size) -> Bytes:
    """An 8-bit picture at another size by bicubic interpolation (Keys, 1981), which averages where it shrinks.

    This is what papers on super-resolution mean by bicubic. OpenCV's does not average, so that it aliases.
    """
    return np.asarray(PILImage.fromarray(pixels).resize(size, PILImage.Resampling.BICUBIC), np.uint8)


def enlarge(array: Floats, size: Size) -> Floats:
    """Bilinear interpolation of a float array to (width, height) `size`."""
    return np.asarray(cv2.resize(array, size, interpolation=cv2.INTER_LINEAR), np.float32)


def shrink(array: Floats, size: Size) -> Floats:
    """A float array at (width, height) `size`: area average, or bilinear where the size is larger."""
    smaller = size[0] <= array.shape[1] and size[1] <= array.shape[0]
    return np.asarray(
        cv2.resize(array, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.float32
    )


def luma(pixels: Bytes) -> Bytes:
    """RGB (height, width, 3) to the luma of ITU-R BT.601 (height, width), both uint8."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def smoothstep(values: NDArray[Real], low: float, high: float) -> NDArray[Real]:
    """Cubic Hermite step: 0 at `low`, 1 at `high`, clamped beyond; `low` may be the larger of the two."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), values.dtype)
