"""Backward maps from the generated picture's frame into the reference, and warping through them.

A map is a float32 array of shape (height, width, 2). For each pixel of the generated picture's frame it holds the
(x, y) of the reference's pixel that is seen there. Pixel centres are at whole numbers.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes, Floats, Size, size_of


def pixel_grid(size: Size) -> Floats:
    """The identity map (height, width, 2): (x, y) of each pixel."""
    width, height = size
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


def homography_map(homography: NDArray[np.float64], size: Size) -> Floats:
    """The map (height, width, 2) of a 3x3 homography from generated to reference coordinates."""
    points = pixel_grid(size).reshape(-1, 1, 2)
    return np.asarray(cv2.perspectiveTransform(points, homography).reshape(size[1], size[0], 2), np.float32)


def rescale_points(points: Floats, source: Size, target: Size) -> Floats:
    """Pixel coordinates of a picture of size `source` as those of the same picture at size `target`.

    The outer edges of both pictures coincide, so pixel centres shift by half a pixel before and after scaling.

    Args:
        points: (..., 2), (x, y) in pixels.
        source: (width, height) they refer to.
        target: (width, height) they shall refer to.
    """
    scale = np.array([target[0] / source[0], target[1] / source[1]], np.float32)
    return np.asarray((points + np.float32(0.5)) * scale - np.float32(0.5), np.float32)


def follow(field: Floats, flow: Floats) -> Floats:
    """A field (height, width, channels) sampled at each pixel's position plus its flow (height, width, 2) in pixels."""
    positions = pixel_grid(size_of(field)) + flow
    return np.asarray(cv2.remap(field, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def magnification(mapping: Floats, where: Floats | None = None) -> float:
    """Reference pixels per pixel of the map's frame: the square root of the median area ratio.

    Args:
        mapping: (height, width, 2).
        where: (height, width), above 0.5 where the map counts; all of it where that is nowhere, or None.
    """
    down, across = mapping[1:, :-1] - mapping[:-1, :-1], mapping[:-1, 1:] - mapping[:-1, :-1]
    area = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])
    counted = area if where is None or not (where[1:, 1:] > 0.5).any() else area[where[1:, 1:] > 0.5]
    return float(np.sqrt(max(1e-6, float(np.median(counted)))))


def prefilter(reference: Bytes, pixels_per_pixel: float) -> Bytes:
    """The reference shrunk by `pixels_per_pixel` (area average) against aliasing, or itself where that is at most 1."""
    if pixels_per_pixel <= 1.0:
        return reference
    width, height = size_of(reference)
    size = (max(1, round(width / pixels_per_pixel)), max(1, round(height / pixels_per_pixel)))
    return np.asarray(cv2.resize(reference, size, interpolation=cv2.INTER_AREA), np.uint8)


def sample(
    picture: Bytes | Floats, mapping: Floats, frame: Size, interpolation: int = cv2.INTER_CUBIC
) -> Bytes | Floats:
    """A picture warped by a map.

    Args:
        picture: the reference at any size, (rows, columns) or (rows, columns, channels).
        mapping: (height, width, 2), in pixels of the original reference.
        frame: (width, height) of the original reference.
        interpolation: OpenCV's constant.

    Returns:
        (height, width) or (height, width, channels), of the picture's type; border pixels are replicated outwards.
    """
    positions = rescale_points(mapping, frame, size_of(picture))
    seen: Bytes | Floats = cv2.remap(picture, positions, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return seen


def inside(mapping: Floats, frame: Size) -> Floats:
    """(height, width), 1 where the map points into a reference of size `frame`, else 0."""
    x, y = mapping[..., 0], mapping[..., 1]
    return ((x >= 0) & (y >= 0) & (x <= frame[0] - 1) & (y <= frame[1] - 1)).astype(np.float32)


def rescaling(source: Size, target: Size) -> NDArray[np.float64]:
    """`rescale_points` as a 3x3 matrix."""
    x, y = target[0] / source[0], target[1] / source[1]
    return np.array([[x, 0.0, 0.5 * x - 0.5], [0.0, y, 0.5 * y - 0.5], [0.0, 0.0, 1.0]])


def fitted(size: Size, side: float, enlargement: float = 1.0) -> Size:
    """`size` times `enlargement`, or less so that its longer side is at most `side`; the aspect ratio is kept."""
    factor = min(enlargement, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def warp_mask(mask: Floats, mapping: Floats, shown: Floats | None = None) -> Floats:
    """The reference's mask warped by a map; 0 where the map points outside of the reference.

    Args:
        mask: (rows, columns) of the reference.
        mapping: (height, width, 2), in pixels of the reference.
        shown: (height, width) in [0, 1], how well the reference shows what is there; None where it shows all.
    """
    seen = np.asarray(sample(mask, mapping, size_of(mask), cv2.INTER_LINEAR), np.float32)
    placed = seen * inside(mapping, size_of(mask))
    return placed if shown is None else placed * shown
