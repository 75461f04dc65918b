"""Maps from the generated picture's frame into the reference, and pictures sampled through them.

A map is a float32 array of shape (height, width, 2): for each pixel of the generated picture's frame the (x, y) of
the reference's pixel it shows, with pixel centres at whole numbers.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes, Floats, Size, size_of


def pixel_grid(size: Size) -> Floats:
    """The identity map: (x, y) of each pixel."""
    width, height = size
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


def homography_map(homography: NDArray[np.float64], size: Size) -> Floats:
    """The map of a 3x3 homography that takes generated to reference coordinates."""
    points = pixel_grid(size).reshape(-1, 1, 2)
    return np.asarray(cv2.perspectiveTransform(points, homography).reshape(size[1], size[0], 2), np.float32)


def rescale_points(points: Floats, source: Size, target: Size) -> Floats:
    """Pixel coordinates of a picture of size `source` as those of the same picture at size `target`.

    The edges of both pictures coincide, so that centres at whole numbers shift by half a pixel times the scale.
    """
    scale = np.array([target[0] / source[0], target[1] / source[1]], np.float32)
    return np.asarray((points + np.float32(0.5)) * scale - np.float32(0.5), np.float32)


def follow(field: Floats, flow: Floats) -> Floats:
    """`field` sampled where `flow` (displacements in pixels of the field's grid) points."""
    positions = pixel_grid(size_of(field)) + flow
    return np.asarray(cv2.remap(field, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def magnification(mapping: Floats) -> float:
    """Reference pixels per pixel of the map's frame, the median over the frame."""
    down, across = mapping[1:, :-1] - mapping[:-1, :-1], mapping[:-1, 1:] - mapping[:-1, :-1]
    area = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])
    return float(np.sqrt(max(1e-6, float(np.median(area)))))


def prefilter(reference: Bytes, pixels_per_pixel: float) -> Bytes:
    """The reference made small enough that sampling one pixel in `pixels_per_pixel` does not alias."""
    if pixels_per_pixel <= 1.0:
        return reference
    width, height = size_of(reference)
    size = (max(1, round(width / pixels_per_pixel)), max(1, round(height / pixels_per_pixel)))
    return np.asarray(cv2.resize(reference, size, interpolation=cv2.INTER_AREA), np.uint8)


def sample(
    picture: Bytes | Floats, mapping: Floats, frame: Size, interpolation: int = cv2.INTER_CUBIC
) -> Bytes | Floats:
    """`picture` seen through a map whose coordinates are those of a picture of size `frame` (the original)."""
    positions = rescale_points(mapping, frame, size_of(picture))
    seen: Bytes | Floats = cv2.remap(picture, positions, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return seen


def inside(mapping: Floats, frame: Size) -> Floats:
    """1 where the map points into the reference of size `frame`, else 0; shape (height, width)."""
    x, y = mapping[..., 0], mapping[..., 1]
    return ((x >= 0) & (y >= 0) & (x <= frame[0] - 1) & (y <= frame[1] - 1)).astype(np.float32)


def rescaling(source: Size, target: Size) -> NDArray[np.float64]:
    """The 3x3 matrix of `rescale_points`."""
    x, y = target[0] / source[0], target[1] / source[1]
    return np.array([[x, 0.0, 0.5 * x - 0.5], [0.0, y, 0.5 * y - 0.5], [0.0, 0.0, 1.0]])


def fitted(size: Size, side: float, enlargement: float = 1.0) -> Size:
    """`size` times `enlargement`, or less where its longer side would pass `side`; aspect ratio kept."""
    factor = min(enlargement, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
