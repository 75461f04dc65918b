"""Operations on pictures that give the same bytes on any processor and with any number of threads.

OpenCV's results in single precision differ in the last digit between processors, and a level that lies just at a half
is then rounded the other way. Whole numbers and double precision, rounded in the end, do not.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes, Size

Doubles = NDArray[np.float64]
Inside = NDArray[np.bool_]
"""(height, width), true where the object is."""

# Sampling positions are rounded to this part of a pixel, far coarser than what processors differ by.
POSITION_STEP = 1 / 32
# Random numbers that vary faster than this many pixels would be no smooth field.
LEAST_DISTANCE = 3.0


def levels(values: Doubles) -> Bytes:
    """Rounded and clipped to 0 to 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def positions(size: Size) -> tuple[Doubles, Doubles]:
    """X and y of each pixel, (height, width) each."""
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    return x, y


def sampled(pixels: Bytes, x: Doubles, y: Doubles) -> Bytes:
    """The picture as seen at the positions x and y, (height, width) each; beyond its border that goes on."""
    maps = (np.asarray(np.rint(place / POSITION_STEP) * POSITION_STEP, np.float32) for place in (x, y))
    return np.asarray(cv2.remap(pixels, *maps, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def smoothed(values: Doubles, sigma: float) -> Doubles:
    """Nearly a Gaussian blur of `sigma` pixels, by three boxes (Wells, 1986), which cost the same at any width."""
    width = 2 * max(1, round((np.sqrt(4.0 * sigma * sigma + 1.0) - 1.0) / 2.0)) + 1
    for _ in range(3):
        values = cv2.blur(values, (width, width), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(values, np.float64)


def smooth_noise(size: Size, distance: float, random: np.random.Generator) -> Doubles:
    """(height, width, 2) of random numbers, standard deviation about 1, that vary smoothly over `distance` pixels."""
    distance = max(distance, LEAST_DISTANCE)
    nodes = random.standard_normal((max(4, round(size[1] / distance) + 3), max(4, round(size[0] / distance) + 3), 2))
    return np.asarray(cv2.resize(nodes, size, interpolation=cv2.INTER_CUBIC), np.float64)


def smoothstep(values: Doubles, low: float, high: float) -> Doubles:
    """0 at `low`, 1 at `high`, a cubic without kinks between; `low` may be the larger of the two."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float64)


def spread(pixels: Bytes, inside: Inside) -> Bytes:
    """The object's pixels, and outside of it the nearest of them; so that nothing drawn mixes with the background."""
    if inside.all():
        return pixels
    _, nearest = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colours[nearest[inside]] = pixels[inside]
    return np.asarray(colours[nearest], np.uint8)


def side_of(inside: Inside) -> float:
    """The side of a square as large as the object, in pixels."""
    return float(np.sqrt(np.count_nonzero(inside)))
