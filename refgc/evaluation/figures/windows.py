"""Windows that a figure enlarges: where the object has most detail, and the same place in the reference."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.match import find_features, match_features, search_mask
from refgc.correspondence.placement import place
from refgc.imaging.arrays import Bytes, Floats, blur, luma, resized, shrink, size_of
from refgc.imaging.image import MARKED
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted, rescaling

# The constants of this file were chosen by hand.
# Side of a window over the square root of the object's area, and its least side in pixels.
WINDOW_SHARE = 0.3
LEAST_SIDE = 24
# Detail is what a Gaussian of so many pixels takes away, in a picture of `DETAIL_SIDE` pixels on its longer side.
DETAIL_SIGMA, DETAIL_SIDE = 1.5, 512
# Pixels within the outline, at that size, that are left out.
RIM = 4
# Two windows are at least so many of their sides apart, so that they do not show the same.
APART = 1.5
# Of a window at least so much is to lie on the object.
LEAST_INSIDE = 0.6
# The longer side at which the two views are matched.
MATCHING_SIDE = 768


def detail_windows(pictures: Sequence[Bytes], mask: Floats | None, number: int) -> list[Region]:
    """The square windows of a scene whose detail is strongest, none over another, the strongest first.

    Detail is the mean square of what a Gaussian takes away from luma, over the pictures. Each window lies mostly on the
    object, where there is one that does.

    Args:
        pictures: uint8 RGB of one size: the truth, or where there is none the results of all methods, so that none is
            preferred.
        mask: (height, width) of the pictures in [0, 1], the object; None for the whole picture.
        number: how many at most; fewer where there is no room.

    Returns:
        Regions in pixels of the pictures, square.
    """
    whole = size_of(pictures[0])
    size = fitted(whole, DETAIL_SIDE)
    energy = np.zeros((size[1], size[0]), np.float32)
    for picture in pictures:
        grey = luma(resized(picture, size)).astype(np.float32)
        energy += (grey - blur(grey, DETAIL_SIGMA)) ** 2 / len(pictures)
    inside = np.ones_like(energy) if mask is None else np.clip(shrink(mask, size), 0, 1)
    side = round(np.clip(WINDOW_SHARE * np.sqrt(inside.sum()), LEAST_SIDE * max(size) / max(whole), min(size)))
    side = max(1, min(side, *size))
    share = _window_means(inside, side)
    # The outline is an edge of every object, and says nothing of its detail.
    core = inside if mask is None else np.asarray(cv2.erode(inside, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)))
    strength = _window_means(energy * core, side)
    # Where no window lies on the object, the one that has most of it.
    strength[share < min(LEAST_INSIDE, float(share.max()))] = -1.0
    found: list[Region] = []
    while len(found) < number and strength.max() >= 0:
        top, left = (int(one) for one in np.unravel_index(int(strength.argmax()), strength.shape))
        found.append(_scaled(left, top, side, whole, size))
        away = round(APART * side)
        strength[max(0, top - away + 1) : top + away, max(0, left - away + 1) : left + away] = -1.0
    return found


def in_reference(
    window: Region, scene: Bytes, reference: Bytes, scene_mask: Floats | None, reference_mask: Floats | None
) -> Region:
    """The window of the reference that shows what a window of the scene shows, upright and square.

    Both views are matched by SIFT, without weights, and mapped by the surest plane. Where they do not match, the window
    has the same place on the object's bounding box.

    Args:
        window: of the scene.
        scene: uint8 RGB, the truth or a result.
        reference: uint8 RGB, the HRRI.
        scene_mask: (height, width) in [0, 1], the object; None for the whole picture.
        reference_mask: the object in the reference, likewise.
    """
    homography = _homography(scene, reference, scene_mask, reference_mask)
    if homography is None:
        homography = _by_boxes(
            _box(scene_mask, size_of(scene)).astype(np.float64),
            _box(reference_mask, size_of(reference)).astype(np.float64),
        )
    middle = np.array([(window.left + window.right - 1) / 2, (window.top + window.bottom - 1) / 2])
    reach = window.size[0] / 2
    corners = middle + reach * np.array([[0, 0], [-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    mapped = cv2.perspectiveTransform(corners.reshape(-1, 1, 2), homography).reshape(-1, 2)
    area = abs(float(cv2.contourArea(mapped[1:].astype(np.float32))))
    width, height = size_of(reference)
    side = int(np.clip(round(np.sqrt(area)), min(LEAST_SIDE, width, height), min(width, height)))
    left = int(np.clip(round(mapped[0, 0] - side / 2), 0, width - side))
    top = int(np.clip(round(mapped[0, 1] - side / 2), 0, height - side))
    return Region(left, top, left + side, top + side)


def _window_means(values: Floats, side: int) -> Floats:
    """Means over all square windows, (height - side + 1, width - side + 1), at the place of their top left corner."""
    sums = cv2.integral(values, sdepth=cv2.CV_64F)
    whole = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(whole / side**2, np.float32)


def _scaled(left: int, top: int, side: int, whole: tuple[int, int], size: tuple[int, int]) -> Region:
    """A window of the small picture in pixels of the whole one."""
    ratio = whole[0] / size[0]
    large = min(round(side * ratio), *whole)
    x, y = min(round(left * ratio), whole[0] - large), min(round(top * ratio), whole[1] - large)
    return Region(x, y, x + large, y + large)


def _homography(
    scene: Bytes, reference: Bytes, scene_mask: Floats | None, reference_mask: Floats | None
) -> NDArray[np.float64] | None:
    """3x3, from pixels of the scene to pixels of the reference; None where both do not match."""
    found, frames = [], []
    for picture, mask in ((scene, scene_mask), (reference, reference_mask)):
        frame = fitted(size_of(picture), MATCHING_SIDE)
        where = None if mask is None else search_mask(mask, frame)
        found.append(find_features(luma(resized(picture, frame)), where))
        frames.append(frame)
    placement = place(match_features(*found), frames[1])
    if placement is None:
        return None
    to_frame = rescaling(size_of(scene), frames[0])
    to_reference = rescaling(frames[1], size_of(reference))
    return np.asarray(to_reference @ placement.homography @ to_frame, np.float64)


def _box(mask: Floats | None, size: tuple[int, int]) -> NDArray[np.intp]:
    """Left, top, right and bottom of the object, or of the whole picture."""
    marked = None if mask is None else np.argwhere(mask >= MARKED)
    if marked is None or not len(marked):
        return np.array([0, 0, size[0] - 1, size[1] - 1])
    (top, left), (bottom, right) = marked.min(axis=0), marked.max(axis=0)
    return np.array([left, top, right, bottom])


def _by_boxes(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map that takes one bounding box to another, without a turn."""
    (left, top, right, bottom), (x, y, far, low) = own, other
    across = (far - x) / max(1.0, right - left)
    down = (low - y) / max(1.0, bottom - top)
    return np.array([[across, 0, x - across * left], [0, down, y - down * top], [0, 0, 1]], np.float64)
