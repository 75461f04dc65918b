"""Where figures look closely."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.evaluation.figures.windows import detail_windows, in_reference
from refgc.imaging.arrays import Bytes
from refgc.imaging.image import open_image
from refgc.imaging.region import Region
from tests.support.compared_scenes import SIDE, drawn, object_mask
from tests.support.dataset_pairs import EXAMPLES


def middle(window: Region) -> tuple[float, float]:
    return (window.left + window.right) / 2, (window.top + window.bottom) / 2


def test_the_window_lies_where_the_object_has_most_detail() -> None:
    (window,) = detail_windows([drawn(0)], object_mask().values, 1)
    # The lower right quarter of the object, which reaches from a quarter to three quarters of the picture.
    assert window.left >= SIDE / 2 - 4
    assert window.right <= 3 * SIDE / 4 + 4
    assert window.top >= SIDE / 2 - 4
    assert window.bottom <= 3 * SIDE / 4 + 4
    assert window.size[0] == window.size[1]


def test_detail_beside_the_object_does_not_count() -> None:
    picture = drawn(0)
    picture[:32, :32] = 255 * np.random.default_rng(1).integers(0, 2, (32, 32, 3))
    with_mask, without = detail_windows([picture], object_mask().values, 1), detail_windows([picture], None, 1)
    assert with_mask[0].left >= SIDE / 2 - 4
    assert middle(without[0])[0] < SIDE / 4


def test_the_outline_is_no_detail() -> None:
    picture = np.full((512, 512, 3), 255, np.uint8)
    picture[128:384, 128:384] = 60
    picture[240:272, 240:272] += np.random.default_rng(0).integers(0, 20, (32, 32, 3)).astype(np.uint8)
    (window,) = detail_windows([picture], object_mask(512).values, 1)
    assert np.hypot(*(np.array(middle(window)) - 256)) < 40


def test_windows_do_not_overlap() -> None:
    windows = detail_windows([drawn(0)], None, 2)
    assert len(windows) == 2
    first, second = (np.array(middle(window)) for window in windows)
    assert np.abs(first - second).max() >= windows[0].size[0]


def test_without_a_truth_all_methods_decide_alike() -> None:
    left, right = (np.full((SIDE, SIDE, 3), 128, np.uint8) for _ in range(2))
    noise = np.random.default_rng(0).integers(0, 200, (32, 32, 3)).astype(np.uint8)
    left[48:80, 8:40], right[48:80, 88:120] = noise // 2, noise
    assert middle(detail_windows([left, right], None, 1)[0])[0] > SIDE / 2
    assert detail_windows([left, right], None, 2) == detail_windows([right, left], None, 2)


def test_the_window_of_the_reference_shows_the_same_place() -> None:
    reference = open_image(EXAMPLES / "paperback" / "hrri.jpg", name="reference").pixels
    # The scene is the reference at half of its size, 40 pixels lower and 100 further to the right.
    scene: Bytes = np.full((800, 800, 3), 128, np.uint8)
    scene[40:552, 100:612] = reference[::2, ::2]
    window = in_reference(Region(300, 200, 360, 260), scene, reference, None, None)
    assert middle(window) == pytest.approx((2 * (330 - 100), 2 * (230 - 40)), abs=6)
    assert window.size[0] == pytest.approx(120, abs=6)
    assert window.size[0] == window.size[1]


def test_views_that_do_not_match_are_mapped_by_the_boxes_of_their_objects() -> None:
    scene, reference = (np.full((side, side, 3), 90, np.uint8) for side in (100, 200))
    scene_mask, reference_mask = (np.zeros((side, side), np.float32) for side in (100, 200))
    scene_mask[20:60, 20:60] = 1
    reference_mask[100:180, 40:120] = 1
    window = in_reference(Region(20, 20, 40, 40), scene, reference, scene_mask, reference_mask)
    assert middle(window) == pytest.approx((60, 120), abs=2)
    assert window.size[0] == pytest.approx(40, abs=2)


def test_a_window_stays_inside_the_reference() -> None:
    scene, reference = np.full((100, 100, 3), 90, np.uint8), np.full((50, 80, 3), 90, np.uint8)
    window = in_reference(Region(80, 80, 100, 100), scene, reference, None, None)
    assert window.right <= 80
    assert window.bottom <= 50
