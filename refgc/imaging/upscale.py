"""Upscaling without a reference, which the result is wherever the reference cannot help."""

from typing import Literal

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, luma, size_of
from refgc.imaging.levels import Words, to_words

Enlargement = Literal["bicubic", "clean"]
"""How a picture is enlarged before a model sees it: by bicubic interpolation, or by `clean_upscale`."""

# The constants of this file were chosen by comparing a few values on the scenes of examples/ and on photographs, each
# as a simulated generated picture, shrunk only, compressed, dark, and out of focus. They are those whose worst gain
# over a Lanczos enlargement is best.
# Range parameter of the bilateral filter in grey levels of a picture of mean luma `MIDDLE_LUMA`: above compression
# noise and far below edges. It falls with the light of a darker picture, and with the noise: what has little noise has
# little that a filter may remove.
NOISE_LEVEL = 12.0
MIDDLE_LUMA = 110.0
RANGE_PER_NOISE = 16.0
# A smaller range changes nothing in 8 bits.
LEAST_RANGE = 0.05
# Share of the denoised enlargement in the result; the rest is the Lanczos enlargement, whose errors are others.
DENOISED_SHARE = 0.5


def clean_upscale(pixels: Bytes, size: Size) -> Bytes:
    """Enlarge a picture with little ringing, noise and block artifacts.

    The picture is denoised by a bilateral filter (Tomasi and Manduchi, 1998) and enlarged by bicubic interpolation. One
    step of iterative back-projection (Irani and Peleg, 1991) then makes the result shrink back to its input. Half of
    that and half of a Lanczos enlargement is the result.

    Args:
        pixels: uint8 RGB of shape (height, width, 3).
        size: (width, height) of the result, at least that of `pixels`.

    Returns:
        uint8 RGB of shape (size[1], size[0], 3); the picture itself where the size is the same.
    """
    if size == size_of(pixels):
        return pixels
    return np.asarray(np.clip(_enlarged(pixels, size) + 0.5, 0, 255), np.uint8)


def deep_upscale(pixels: Bytes, size: Size) -> Words:
    """The same as `clean_upscale`, rounded to 16 bits.

    Args:
        pixels: uint8 RGB of shape (height, width, 3).
        size: (width, height) of the result, at least that of `pixels`.

    Returns:
        uint16 RGB of shape (size[1], size[0], 3).
    """
    if size == size_of(pixels):
        return to_words(pixels)
    return np.asarray(np.clip(_enlarged(pixels, size), 0, 255) * 257 + 0.5, np.uint16)


def upscale_alpha(alpha: Floats, size: Size) -> Floats:
    """Enlarge a transparency as `clean_upscale` enlarges colours, without its denoising.

    The result stays in the range of the 3 x 3 pixels around each pixel of `alpha`. Thus an edge gets no ringing: what
    is surrounded by full transparency stays fully transparent, and what is surrounded by full opacity stays opaque.

    Args:
        alpha: float32 (height, width) in [0, 1].
        size: (width, height) of the result, a whole multiple of that of `alpha`.

    Returns:
        float32 (size[1], size[0]) in [0, 1]; a copy where the size is the same.
    """
    if size == size_of(alpha):
        return alpha.copy()
    enlarged = DENOISED_SHARE * _back_projected(alpha, size)
    enlarged += (1.0 - DENOISED_SHARE) * cv2.resize(alpha, size, interpolation=cv2.INTER_LANCZOS4)
    around = np.ones((3, 3), np.uint8)
    least, most = (
        cv2.resize(one, size, interpolation=cv2.INTER_NEAREST)
        for one in (cv2.erode(alpha, around), cv2.dilate(alpha, around))
    )
    return np.asarray(np.clip(enlarged, least, most), np.float32)


def estimate_noise(grey: Bytes) -> float:
    """Standard deviation of the noise in grey levels, from the Laplacian's difference of Immerkaer (1996).

    Args:
        grey: uint8 (height, width). The median makes it a measure of the flat parts of the picture.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(grey.astype(np.float32), -1, kernel)) / 6.0
    # The median of the absolute values of a normal distribution is 0.6745 standard deviations.
    return float(np.median(response) / 0.6745)


def _enlarged(pixels: Bytes, size: Size) -> Floats:
    """The mean of both enlargements before it is rounded; it may leave [0, 255]."""
    enlarged = DENOISED_SHARE * _denoised_upscale(pixels, size)
    enlarged += (1.0 - DENOISED_SHARE) * cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_LANCZOS4)
    return enlarged


def _denoised_upscale(pixels: Bytes, size: Size) -> Floats:
    grey = luma(pixels)
    spread = min(NOISE_LEVEL * min(1.0, float(grey.mean()) / MIDDLE_LUMA), RANGE_PER_NOISE * estimate_noise(grey))
    clean = pixels.astype(np.float32)
    if spread > LEAST_RANGE:
        clean = np.asarray(cv2.bilateralFilter(clean, 5, spread, 2.0), np.float32)
    return _back_projected(clean, size)


def _back_projected(clean: Floats, size: Size) -> Floats:
    """Bicubic enlargement with one step of iterative back-projection."""
    enlarged = cv2.resize(clean, size, interpolation=cv2.INTER_CUBIC)
    residual = clean - cv2.resize(enlarged, size_of(clean), interpolation=cv2.INTER_AREA)
    return np.asarray(enlarged + cv2.resize(residual, size, interpolation=cv2.INTER_CUBIC), np.float32)
