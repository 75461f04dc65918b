"""Segmentation: plain grounds, enclosed holes, thin parts and leftovers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence import segment
from refgc.correspondence.match import Matches, find_features
from refgc.correspondence.segment import object_at_matches
from refgc.masks.plain_background import object_on_plain_background
from tests.support.synthetic import draw_card

CARD = draw_card(100, 0)


def on_ground(ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    picture = ground.copy()
    picture[50:150, 60:160] = CARD
    where = np.zeros(ground.shape[:2], np.float32)
    where[50:150, 60:160] = 1
    return picture, where


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    a, b = one > 0.5, other > 0.5
    return float((a & b).sum() / (a | b).sum())


def clutter() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (200, 220, 3), dtype=np.uint8)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (120, 160, 200)])
def test_an_object_on_a_plain_ground_is_found(colour):
    noise = np.random.default_rng(0).integers(-3, 4, (200, 220, 3))
    ground = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    picture, where = on_ground(ground)
    cv2.rectangle(picture, (62, 52), (157, 147), (200, 30, 90), 4)
    mask = object_on_plain_background(picture)
    assert mask is not None
    assert overlap(mask, where) > 0.98


def test_a_ground_that_is_not_plain_is_told():
    assert object_on_plain_background(on_ground(clutter())[0]) is None


def test_a_plain_picture_without_an_object_has_none():
    assert object_on_plain_background(np.full((100, 100, 3), 200, np.uint8)) is None


def test_a_large_picture_is_looked_at_smaller_and_its_mask_is_of_its_size():
    picture = np.full((1200, 2600, 3), 230, np.uint8)
    picture[301:900, 702:1901] = (180, 40, 30)
    mask = object_on_plain_background(picture)
    truth = np.zeros(picture.shape[:2], bool)
    truth[301:900, 702:1901] = True
    assert mask is not None
    assert mask.shape == truth.shape
    assert ((mask > 0) & truth).sum() / ((mask > 0) | truth).sum() > 0.99


def test_a_shadow_on_a_plain_ground_is_no_part_of_the_object():
    ground = np.full((200, 220, 3), 200, np.uint8)
    cv2.ellipse(ground, (110, 150), (80, 25), 0, 0, 360, (120, 120, 120), cv2.FILLED)
    picture, where = on_ground(cv2.GaussianBlur(ground, (0, 0), 10))
    assert object_on_plain_background(picture) is None
    points = np.argwhere(where[::10, ::10])[:, ::-1].astype(np.float32) * 10
    assert overlap(object_at_matches(picture, points), where) > 0.95


def test_an_object_is_told_from_a_more_prominent_one_by_its_features():
    picture = np.full((200, 220, 3), 200, np.uint8)
    cv2.circle(picture, (120, 110), 45, (200, 20, 20), cv2.FILLED)
    picture[10:60, 10:60] = cv2.resize(CARD, (50, 50), interpolation=cv2.INTER_AREA)
    points = np.argwhere(np.ones((5, 5)))[:, ::-1].astype(np.float32) * 10 + 15
    mask = object_at_matches(picture, points)
    assert mask[15:55, 15:55].mean() > 0.95
    assert mask[110, 120] == 0


def test_an_enclosed_spot_of_the_grounds_colour_belongs_to_the_object():
    picture = np.full((200, 200, 3), 255, np.uint8)
    cv2.circle(picture, (100, 100), 60, (30, 60, 90), 12)
    mask = object_on_plain_background(picture)
    assert mask is not None
    assert mask[100, 100] == 1
    assert mask[5, 5] == 0
    assert mask.sum() == pytest.approx(np.pi * 66**2, rel=0.03)


def test_a_spot_that_joins_the_ground_does_not_belong_to_the_object():
    picture = np.full((200, 200, 3), 255, np.uint8)
    cv2.circle(picture, (100, 100), 60, (30, 60, 90), 12)
    picture[80:120, 140:200] = 255
    mask = object_on_plain_background(picture)
    assert mask is not None
    assert mask[100, 100] == 0
    assert mask[100, 40] == 1


def test_an_object_is_cut_out_around_its_features():
    ramp = np.repeat(np.linspace(90, 160, 220, dtype=np.uint8)[None], 200, axis=0)
    picture, where = on_ground(np.dstack([ramp, ramp, ramp]))
    points = find_features(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (255 * where).astype(np.uint8)).points
    mask = object_at_matches(picture, points)
    assert mask.shape == (200, 220)
    assert overlap(mask, where) > 0.85
    assert np.array_equal(mask, object_at_matches(picture, points))


def test_cutting_out_does_not_depend_on_what_ran_before():
    picture, where = on_ground(clutter())
    points = np.argwhere(where[::10, ::10])[:, ::-1].astype(np.float32) * 10
    masks = []
    for seed in range(3):
        cv2.setRNGSeed(seed)
        masks.append(object_at_matches(picture, points))
        cv2.setRNGSeed(seed)
        masks[-1] = np.dstack([masks[-1], segment.object_at_placement(picture, where, 0 * where)])
    assert all(np.array_equal(mask, masks[0]) for mask in masks)


def test_an_object_is_found_where_it_was_placed_though_a_little_off():
    picture, where = on_ground(np.full((200, 220, 3), 100, np.uint8))
    placed = np.roll(where, (3, -4), axis=(0, 1))
    assert overlap(segment.object_at_placement(picture, placed, where), where) > 0.95


def test_a_handle_is_a_thin_part_and_a_body_is_not():
    mask = np.zeros((200, 200), np.float32)
    mask[60:160, 40:140] = 1
    mask[100:106, 140:190] = 1
    body = segment.remove_thin_parts(mask)
    assert body[60:160, 40:140].mean() > 0.97
    assert body[100:106, 150:].max() == 0


def test_leftovers_speak_against_what_lies_beside_them_only():
    placed, outline = np.zeros((2, 200, 200), np.float32)
    placed[50:150, 50:150] = 1
    outline[50:150, 50:180] = 1
    away = segment.suppress_near_uncovered(placed, outline)
    assert away[100, 148] < 0.05
    assert away[100, 60] == 1
    assert (segment.suppress_near_uncovered(placed, placed) == 1).all()


def test_a_mask_is_widened_by_about_so_many_pixels():
    mask = np.zeros((60, 60), np.float32)
    mask[20:40, 20:40] = 1
    wider = segment.dilate_softly(mask, 4)
    assert wider[30, 30] == pytest.approx(1, abs=0.01)
    assert (wider > 0.5).sum() == pytest.approx(28 * 28, rel=0.05)
    assert wider[30, 8] == pytest.approx(0, abs=1e-3)


def test_the_share_of_a_mask_within_another():
    part, whole = np.zeros((2, 10, 10), np.float32)
    part[:, :4], whole[:, 1:6] = 1, 1
    assert segment.fraction_inside(part, whole) == pytest.approx(3 / 4)
    assert segment.fraction_inside(whole, part) == pytest.approx(3 / 5)
    assert segment.fraction_inside(0 * part, whole) == 0


def test_the_hulls_share_of_a_picture():
    square = np.array([[0, 0], [50, 0], [50, 40], [0, 40], [20, 20]], np.float32)
    assert segment.hull_coverage(square, (100, 80)) == pytest.approx(0.25)
    assert segment.hull_coverage(square[:2], (100, 80)) == 0


@pytest.mark.parametrize(("width", "suppressed"), [(5, False), (9, True)])
def test_a_thin_uncovered_rim_is_an_error_of_the_outline(width, suppressed):
    placed, outline = np.zeros((2, 200, 200), np.float32)
    placed[50:150, 50:150] = 1
    outline[50:150, 50 : 150 + width] = 1
    assert (segment.suppress_near_uncovered(placed, outline)[100, 149] < 0.5) == suppressed


def test_the_weight_beside_what_is_uncovered_rises_within_a_seventh_of_the_object():
    placed, outline = np.zeros((2, 200, 200), np.float32)
    placed[50:150, 50:150] = 1
    outline[50:150, 50:180] = 1
    weight = segment.suppress_near_uncovered(placed, outline)[100]
    assert 0.3 < weight[140] < 0.7
    assert weight[120] == 1


@pytest.mark.parametrize(("side", "one_scene"), [(0.5, False), (0.7, True)])
def test_matches_over_a_third_of_both_pictures_show_one_scene(side, one_scene):
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * np.float32(side * 100)
    nothing = np.zeros(4, np.float32)
    everywhere = np.array([[0, 0], [100, 0], [100, 100], [0, 100]], np.float32)
    for points in ((corners, everywhere), (everywhere, corners)):
        matches = Matches(points[0], points[1], nothing, nothing, nothing)
        assert segment.shows_one_scene(matches, (100, 100), (100, 100)) == one_scene


def test_what_is_far_from_where_an_object_was_placed_is_no_part_of_it():
    picture, where = on_ground(np.full((200, 220, 3), 100, np.uint8))
    picture[50:150, 162:205] = CARD[:, :43]
    assert segment.object_at_placement(picture, where, where)[50:150, 190:].max() < 0.5
