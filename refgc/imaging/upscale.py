"""The clean upscale: what the result is wherever the reference cannot help."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Size, size_of

# A generated picture carries compression noise of a few grey levels; edges are far above it.
NOISE_LEVEL = 12.0


def clean_upscale(pixels: Bytes, size: Size) -> Bytes:
    """Enlarge without ringing, noise or blocks.

    Bicubic interpolation of the bilaterally denoised picture, then one step of iterative back-projection (Irani and
    Peleg, 1991), so that the result shrinks back to what was enlarged.

    Args:
        pixels: uint8 RGB of shape (height, width, 3).
        size: (width, height) of the result, at least that of `pixels`.

    Returns:
        uint8 RGB of shape (size[1], size[0], 3).
    """
    if size == size_of(pixels):
        return pixels
    clean = cv2.bilateralFilter(pixels, 5, NOISE_LEVEL, 2.0).astype(np.float32)
    enlarged = cv2.resize(clean, size, interpolation=cv2.INTER_CUBIC)
    missing = clean - cv2.resize(enlarged, size_of(pixels), interpolation=cv2.INTER_AREA)
    enlarged += cv2.resize(missing, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(enlarged, 0, 255) + 0.5, np.uint8)
