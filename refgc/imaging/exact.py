"""Image operations with bit-identical results on every processor and with any number of threads.

OpenCV's single-precision results differ in the last digit between processors. A level that lies exactly at a half is
then rounded either way. Integer arithmetic and double precision, rounded at the end, avoid this.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bools, Bytes, Size

Doubles = NDArray[np.float64]

# Chosen by hand, not fitted. Sampling positions are rounded to this fraction of a pixel, which is far coarser than the
# differences between processors.
POSITION_STEP = 1 / 32
# Chosen by hand, not fitted: the smallest correlation length, in pixels, of a smooth noise field.
MINIMUM_CORRELATION_LENGTH = 3.0


def to_levels(values: Doubles) -> Bytes:
    """Rounded and clipped to [0, 255]."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def pixel_coordinates(size: Size) -> tuple[Doubles, Doubles]:
    """The x and the y coordinate of each pixel, float64 (height, width) each."""
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    return x, y


def sample_at(pixels: Bytes, x: Doubles, y: Doubles) -> Bytes:
    """Lanczos interpolation (8x8) of a picture, its border pixels replicated outwards.

    Args:
        pixels: uint8 (rows, columns) or (rows, columns, channels).
        x: (height, width), column coordinates in `pixels`.
        y: (height, width), row coordinates in `pixels`.

    Returns:
        uint8 (height, width) or (height, width, channels).
    """
    maps = (np.asarray(np.rint(place / POSITION_STEP) * POSITION_STEP, np.float32) for place in (x, y))
    return np.asarray(cv2.remap(pixels, *maps, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def gaussian_by_boxes(values: Doubles, sigma: float) -> Doubles:
    """An approximate Gaussian blur of standard deviation `sigma` pixels by three box filters (Wells, 1986).

    The cost does not depend on `sigma`.
    """
    width = 2 * max(1, round((np.sqrt(4.0 * sigma * sigma + 1.0) - 1.0) / 2.0)) + 1
    for _ in range(3):
        values = cv2.blur(values, (width, width), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(values, np.float64)


def smooth_noise(size: Size, correlation_length: float, random: np.random.Generator) -> Doubles:
    """A smooth random vector field (height, width, 2) with a standard deviation of about 1.

    Args:
        size: (width, height) in pixels.
        correlation_length: distance in pixels over which values vary; at least `MINIMUM_CORRELATION_LENGTH` is used.
        random: source of the normally distributed nodes, which bicubic interpolation joins.
    """
    spacing = max(correlation_length, MINIMUM_CORRELATION_LENGTH)
    nodes = random.standard_normal((max(4, round(size[1] / spacing) + 3), max(4, round(size[0] / spacing) + 3), 2))
    return np.asarray(cv2.resize(nodes, size, interpolation=cv2.INTER_CUBIC), np.float64)


def extend_outwards(pixels: Bytes, mask: Bools) -> Bytes:
    """The picture with each pixel outside of the mask replaced by the nearest pixel inside.

    What is then drawn on the object does not mix with its background.

    Args:
        pixels: uint8 RGB (height, width, 3).
        mask: (height, width), true on the object, at least one pixel of it.
    """
    if mask.all():
        return pixels
    _, nearest = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colours[nearest[mask]] = pixels[mask]
    return np.asarray(colours[nearest], np.uint8)


def equivalent_side(mask: Bools) -> float:
    """The side, in pixels, of the square that has the mask's area."""
    return float(np.sqrt(np.count_nonzero(mask)))
