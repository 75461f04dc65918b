"""Maps and what is sampled through them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.imaging.warp import (
    fitted,
    follow,
    homography_map,
    inside,
    magnification,
    pixel_grid,
    prefilter,
    rescale_points,
    rescaling,
    sample,
)
from tests.support.synthetic import draw_card


def test_rescaling_points_and_their_matrix_agree():
    source, target = (60, 33), (241, 90)
    points = np.random.default_rng(0).uniform(-5, 70, (50, 2)).astype(np.float32)
    by_matrix = cv2.perspectiveTransform(points[:, None], rescaling(source, target))[:, 0]
    assert rescale_points(points, source, target) == pytest.approx(by_matrix, abs=1e-3)


def test_rescaling_keeps_the_edges_of_the_picture():
    edges = np.array([[-0.5, -0.5], [59.5, 32.5]], np.float32)
    assert rescale_points(edges, (60, 33), (240, 99)) == pytest.approx(
        np.array([[-0.5, -0.5], [239.5, 98.5]], np.float32)
    )


def test_rescaling_is_undone_by_its_inverse():
    assert rescaling((60, 33), (7, 90)) @ rescaling((7, 90), (60, 33)) == pytest.approx(np.eye(3))


def test_sampling_through_the_identity_is_the_picture():
    card = draw_card(60, 0)[:40]
    assert np.array_equal(sample(card, pixel_grid((60, 40)), (60, 40)), card)


def test_sampling_a_smaller_copy_shows_the_same_spots():
    ramp = np.repeat(np.linspace(0, 240, 64, dtype=np.float32)[None], 48, axis=0)
    small = cv2.resize(ramp, (16, 12), interpolation=cv2.INTER_AREA)
    seen = sample(small, pixel_grid((64, 48)), (64, 48), cv2.INTER_LINEAR)
    assert seen[4:-4, 4:-4] == pytest.approx(ramp[4:-4, 4:-4], abs=0.5)


def test_a_homographys_map_takes_each_pixel_where_the_homography_does():
    homography = np.array([[1.1, 0.1, 5.0], [0.0, 0.9, -3.0], [1e-3, 0, 1]])
    mapping = homography_map(homography, (30, 20))
    assert mapping.shape == (20, 30, 2)
    x, y, w = homography @ [17, 11, 1]
    assert mapping[11, 17] == pytest.approx([x / w, y / w], abs=1e-3)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.5])
def test_magnification_is_reference_pixels_per_pixel(factor):
    turned = factor * np.array([[0.8, -0.6], [0.6, 0.8]])
    homography = np.vstack([np.column_stack([turned, [30, -9]]), [0, 0, 1]])
    assert magnification(homography_map(homography, (40, 30))) == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize("pixels_per_pixel", [1.7, 3.0, 8.0])
def test_prefiltering_shrinks_and_keeps_the_mean(pixels_per_pixel):
    card = draw_card(240, 1)[:200]
    small = prefilter(card, pixels_per_pixel)
    assert small.shape[:2] == (round(200 / pixels_per_pixel), round(240 / pixels_per_pixel))
    assert small.mean(axis=(0, 1)) == pytest.approx(card.mean(axis=(0, 1)), abs=0.5)


def test_prefiltering_leaves_alone_what_is_enlarged():
    card = draw_card(50, 1)
    assert np.array_equal(prefilter(card, 0.4), card)


def test_prefiltering_keeps_at_least_one_pixel():
    assert prefilter(draw_card(50, 1)[:16], 400.0).shape == (1, 1, 3)


def test_inside_is_where_the_map_points_into_the_frame():
    mapping = np.array([[[0, 0], [9, 4], [9.5, 4], [-0.1, 2], [3, 4.1]]], np.float32)
    assert inside(mapping, (10, 5)).tolist() == [[1, 1, 0, 0, 0]]


def test_following_a_flow_samples_the_field_where_it_points():
    field = pixel_grid((20, 10))
    flow = np.full((10, 20, 2), (2.0, 1.0), np.float32)
    assert follow(field, flow)[:8, :17] == pytest.approx((field + flow)[:8, :17])


@pytest.mark.parametrize(
    ("size", "side", "enlargement", "expected"),
    [((100, 50), 400, 2.0, (200, 100)), ((100, 50), 150, 2.0, (150, 75)), ((1000, 3), 100, 1.0, (100, 1))],
)
def test_fitting_keeps_the_aspect_ratio_within_the_side(size, side, enlargement, expected):
    assert fitted(size, side, enlargement) == expected
