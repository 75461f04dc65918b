"""Views: points, boxes and masks there and back."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.masks.view import View, around, whole


def test_a_view_is_never_larger_than_its_window():
    assert whole((40, 20), 256).size == (40, 20)
    assert whole((4096, 1024), 256).size == (256, 64)


def test_a_view_around_a_box_ends_with_the_picture():
    view = around((0, 40, 100, 90), 0.25, (120, 100), 64)
    assert view.window == (0, 24, 120, 100)
    assert view.size == (64, 41)


@pytest.mark.parametrize("size", [(1000, 800), (3000, 17), (16, 2000)])
def test_points_keep_their_place(size):
    view = whole(size, 256)
    assert view.of_point((0, 0)) == (0, 0)
    assert view.of_point((size[0] - 1, size[1] - 1)) == (view.size[0] - 1, view.size[1] - 1)
    middle = view.of_point((size[0] / 2, size[1] / 2))
    assert np.allclose(middle, [view.size[0] / 2, view.size[1] / 2], atol=1)


def test_a_box_comes_back_around_itself():
    view = View((100, 50, 500, 450), (100, 100))
    assert view.of_box((140, 90, 180, 130)) == (10, 10, 20, 20)
    assert view.box_back((10, 10, 20, 20)) == (140, 90, 180, 130)
    assert view.rectangle((140, 90, 180, 130)).sum() == 100


def test_a_mask_of_one_view_is_seen_in_another():
    survey = whole((400, 400), 100)
    mask = np.zeros((100, 100), np.bool_)
    mask[40:60, 30:50] = True
    view = View((80, 120, 280, 280), (100, 80))
    expected = np.zeros((80, 100), np.bool_)
    expected[20:60, 20:60] = True
    assert np.mean(view.of_view(mask, survey) != expected) < 0.02


def test_a_mask_comes_back_to_its_place():
    view = View((100, 50, 300, 250), (50, 50))
    mask = np.zeros((50, 50), np.bool_)
    mask[10:20, 5:15] = True
    back = view.back(mask, (400, 300))
    expected = np.zeros((300, 400), np.bool_)
    expected[90:130, 120:160] = True
    assert back.shape == (300, 400)
    assert np.mean(back != expected) < 0.002
