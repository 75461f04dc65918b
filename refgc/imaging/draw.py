"""Pictures for people to judge a result by: masks over their picture, matches, scalar fields."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, resized, size_of
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.warp import fitted, rescale_points

# All constants of this file were chosen by hand, by eye.
# The background keeps this fraction of its brightness and none of its colour.
BACKGROUND_BRIGHTNESS = 0.4
# An outline is a light line on a wider dark one, so that it is seen on any ground: colours, and widths as a fraction of
# the picture's longer side.
LINES: tuple[tuple[tuple[int, int, int], float], ...] = (((8, 33, 31), 0.006), ((114, 207, 193), 0.003))
# Sides in pixels of a drawing of matches, for each of the two pictures, and of a dimmed picture.
MATCHES_SIDE = 640
DIMMED_SIDE = 1024
MATCH_LINE, MATCH_POINT = (64, 220, 120), (255, 200, 0)


def overlay_mask(image: Image, mask: Mask) -> Image:
    """The picture with its object unchanged, the background dark and grey, and the outline drawn.

    Args:
        image: the picture.
        mask: of the same size; soft edges fade.
    """
    grey = np.repeat(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    alpha = mask.values[..., None]
    shown = (image.pixels * alpha + BACKGROUND_BRIGHTNESS * grey * (1.0 - alpha)).round().astype(np.uint8)
    return Image(_outlined(shown, mask))


def dim_outside(picture: Bytes, mask: Floats) -> Bytes:
    """A picture dimmed outside of a mask.

    Args:
        picture: uint8 RGB (height, width, 3).
        mask: (rows, columns) in [0, 1], of any size with the same frame.

    Returns:
        uint8 RGB, at most `DIMMED_SIDE` pixels a side.
    """
    size = fitted(size_of(picture), DIMMED_SIDE)
    alpha = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)[..., None]
    small = resized(picture, size)
    return np.asarray(small * (0.25 + 0.75 * np.clip(alpha, 0, 1)) + 0.5, np.uint8)


def draw_field(values: Floats, size: Size) -> Bytes:
    """A scalar field in [0, 1] as a grey uint8 RGB picture of (width, height) `size`."""
    enlarged = cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.repeat((np.clip(enlarged, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def draw_matches(reference: Bytes, generated: Bytes, reference_points: Floats, generated_points: Floats) -> Bytes:
    """Two pictures side by side with a line between each pair of matched points.

    Args:
        reference: uint8 RGB, drawn on the left.
        generated: uint8 RGB, drawn on the right.
        reference_points: (n, 2), pixels of `reference`.
        generated_points: (n, 2), pixels of `generated`; row i matches row i of the others.

    Returns:
        uint8 RGB (`MATCHES_SIDE`, 2 * `MATCHES_SIDE`, 3).
    """
    left, left_size = _on_white_square(reference)
    right, right_size = _on_white_square(generated)
    canvas = np.hstack([left, right])
    starts = rescale_points(reference_points, size_of(reference), left_size)
    ends = rescale_points(generated_points, size_of(generated), right_size) + np.array([MATCHES_SIDE, 0], np.float32)
    for start, end in zip(starts.round().astype(int).tolist(), ends.round().astype(int).tolist(), strict=True):
        cv2.line(canvas, start, end, MATCH_LINE, 1, cv2.LINE_AA)
        cv2.circle(canvas, start, 4, MATCH_POINT, 1, cv2.LINE_AA)
        cv2.circle(canvas, end, 4, MATCH_POINT, 1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def _outlined(pixels: Bytes, mask: Mask) -> Bytes:
    solid = (mask.values >= MARKED).astype(np.uint8)
    outlines = cv2.findContours(solid, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    for colour, width in LINES:
        cv2.drawContours(pixels, outlines, -1, colour, max(1, round(width * max(mask.size))), cv2.LINE_AA)
    return pixels


def _on_white_square(picture: Bytes) -> tuple[Bytes, Size]:
    """The picture fitted into the top left corner of a white square, and its size there."""
    size = fitted(size_of(picture), MATCHES_SIDE, MATCHES_SIDE)
    square = np.full((MATCHES_SIDE, MATCHES_SIDE, 3), 255, np.uint8)
    square[: size[1], : size[0]] = resized(picture, size)
    return square, size
