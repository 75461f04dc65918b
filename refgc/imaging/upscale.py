"""Upscaling without a reference, which the result is wherever the reference cannot help."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Size, size_of

# Range parameter of the bilateral filter in grey levels: above compression noise and far below edges. Chosen by hand,
# not fitted.
NOISE_LEVEL = 12.0


def clean_upscale(pixels: Bytes, size: Size) -> Bytes:
    """Enlarge a picture without ringing, noise or block artifacts.

    The picture is denoised by a bilateral filter (Tomasi and Manduchi, 1998) and enlarged by bicubic interpolation. One
    step of iterative back-projection (Irani and Peleg, 1991) then makes the result shrink back to its input.

    Args:
        pixels: uint8 RGB of shape (height, width, 3).
        size: (width, height) of the result, at least that of `pixels`.

    Returns:
        uint8 RGB of shape (size[1], size[0], 3); the picture itself where the size is the same.
    """
    if size == size_of(pixels):
        return pixels
    clean = cv2.bilateralFilter(pixels, 5, NOISE_LEVEL, 2.0).astype(np.float32)
    enlarged = cv2.resize(clean, size, interpolation=cv2.INTER_CUBIC)
    residual = clean - cv2.resize(enlarged, size_of(pixels), interpolation=cv2.INTER_AREA)
    enlarged += cv2.resize(residual, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(enlarged, 0, 255) + 0.5, np.uint8)
