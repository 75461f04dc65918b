"""The part of the picture that is worked on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.imaging.region import Region, object_region

MASK = np.zeros((100, 100), np.float32)
MASK[20:80, 30:70] = 1


def placed_at(x: float, y: float, scale: float = 2.0) -> np.ndarray:
    """Generated to reference, where the reference's corner is seen at (x, y), `scale` times smaller."""
    return np.array([[scale, 0, -scale * x], [0, scale, -scale * y], [0, 0, 1]])


def test_the_region_holds_the_object_and_its_margin():
    region = object_region(placed_at(100, 60), MASK, (300, 200), 0.15)
    assert region is not None
    # The object is seen from (115, 70) to (134.5, 99.5), and its longer side is 29.5.
    space = 0.15 * 29.5 + 4
    assert (region.left, region.top) == (int(115 - space), int(70 - space))
    assert region.right - 1 == pytest.approx(134.5 + space, abs=1)
    assert region.bottom - 1 == pytest.approx(99.5 + space, abs=1)


@pytest.mark.parametrize(("x", "y"), [(-20, -20), (270, 160), (-20, 160)])
def test_the_region_is_clipped_to_the_picture(x, y):
    region = object_region(placed_at(x, y), MASK, (300, 200), 0.15)
    assert region is not None
    assert 0 <= region.left < region.right <= 300
    assert 0 <= region.top < region.bottom <= 200


@pytest.mark.parametrize(("x", "y"), [(-200, 0), (400, 0), (0, 500)])
def test_an_object_outside_of_the_picture_has_no_region(x, y):
    assert object_region(placed_at(x, y), MASK, (300, 200), 0.15) is None


def test_an_object_of_which_next_to_nothing_is_in_the_picture_has_no_region():
    # The object ends at x = -4, its margin at 5.
    assert object_region(placed_at(-38.5, 60), MASK, (300, 200), 0.15) is None


def test_an_empty_mask_has_no_region():
    assert object_region(placed_at(100, 60), 0 * MASK, (300, 200), 0.15) is None


def test_the_view_of_a_picture_is_a_view_at_every_scale():
    region = Region(10, 20, 40, 30)
    picture = np.zeros((200, 200, 3), np.uint8)
    region.of(picture, 2)[:] = 1
    assert region.size == (30, 10)
    assert region.of(picture).shape == (10, 30, 3)
    assert picture[40:60, 20:80].all()
    assert picture.sum() == 20 * 60 * 3


def test_coordinates_go_from_the_region_to_the_frame():
    corner = cv2.perspectiveTransform(np.array([[[0, 0]], [[3, 4]]], np.float32), Region(10, 20, 40, 30).to_picture())
    assert corner[:, 0].tolist() == [[10, 20], [13, 24]]
