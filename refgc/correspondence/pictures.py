"""The pictures a person looks at to understand a result."""

import cv2
import numpy as np

from refgc.correspondence.match import Matches
from refgc.imaging.arrays import Bytes, Floats, Size, resized, size_of
from refgc.imaging.warp import fitted, rescale_points

MATCHES_SIDE = 640
MATCHES_SHOWN = 200
SHOWN_SIDE = 1024


def grey(values: Floats, size: Size) -> Bytes:
    """A field in [0, 1] as a grey RGB picture of `size`."""
    enlarged = cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.repeat((np.clip(enlarged, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def marked(picture: Bytes, mask: Floats) -> Bytes:
    """A picture, at most `SHOWN_SIDE` pixels a side, dimmed outside of the mask."""
    size = fitted(size_of(picture), SHOWN_SIDE)
    share = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)[..., None]
    small = resized(picture, size)
    return np.asarray(small * (0.25 + 0.75 * np.clip(share, 0, 1)) + 0.5, np.uint8)


def side_by_side(reference: Bytes, generated: Bytes, matches: Matches) -> Bytes:
    """Both pictures in equal frames, with lines between the matches that agree."""
    left, placed_left = _framed(reference)
    right, placed_right = _framed(generated)
    canvas = np.hstack([left, right])
    there = rescale_points(matches.reference, size_of(reference), placed_left)
    here = rescale_points(matches.generated, size_of(generated), placed_right) + np.array([MATCHES_SIDE, 0], np.float32)
    order = np.argsort(matches.ambiguity, kind="stable")[:MATCHES_SHOWN]
    for a, b in zip(there[order].round().astype(int).tolist(), here[order].round().astype(int).tolist(), strict=True):
        cv2.line(canvas, a, b, (64, 220, 120), 1, cv2.LINE_AA)
        cv2.circle(canvas, a, 4, (255, 200, 0), 1, cv2.LINE_AA)
        cv2.circle(canvas, b, 4, (255, 200, 0), 1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def _framed(picture: Bytes) -> tuple[Bytes, Size]:
    """The picture fitted into the top left of a white square, and the size it has there."""
    size = fitted(size_of(picture), MATCHES_SIDE, MATCHES_SIDE)
    square = np.full((MATCHES_SIDE, MATCHES_SIDE, 3), 255, np.uint8)
    square[: size[1], : size[0]] = resized(picture, size)
    return square, size
