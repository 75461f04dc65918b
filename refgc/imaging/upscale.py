"""Upscaling without a reference, which the result is wherever the reference cannot help."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, luma, size_of

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
    enlarged = DENOISED_SHARE * _denoised_upscale(pixels, size)
    enlarged += (1.0 - DENOISED_SHARE) * cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_LANCZOS4)
    return np.asarray(np.clip(enlarged + 0.5, 0, 255), np.uint8)


def estimate_noise(grey: Bytes) -> float:
    """Standard deviation of the noise in grey levels, from the Laplacian's difference of Immerkaer (1996).

    Args:
        grey: uint8 (height, width). The median makes it a measure of the flat parts of the picture.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(grey.astype(np.float32), -1, kernel)) / 6.0
    # The median of the absolute values of a normal distribution is 0.6745 standard deviations.
    return float(np.median(response) / 0.6745)


def _denoised_upscale(pixels: Bytes, size: Size) -> Floats:
    grey = luma(pixels)
    spread = min(NOISE_LEVEL * min(1.0, float(grey.mean()) / MIDDLE_LUMA), RANGE_PER_NOISE * estimate_noise(grey))
    clean = pixels.astype(np.float32)
    if spread > LEAST_RANGE:
        clean = cv2.bilateralFilter(clean, 5, spread, 2.0)
    enlarged = cv2.resize(clean, size, interpolation=cv2.INTER_CUBIC)
    residual = clean - cv2.resize(enlarged, size_of(pixels), interpolation=cv2.INTER_AREA)
    return np.asarray(enlarged + cv2.resize(residual, size, interpolation=cv2.INTER_CUBIC), np.float32)
