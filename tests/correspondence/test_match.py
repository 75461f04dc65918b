"""Placement: known ones are recovered to the pixel, chance and mirrors are refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from refgc.correspondence.match import Features, Matches, find_features, match_features
from refgc.correspondence.placement import consistent, middle_plane, place, place_all, sureness, with_learned
from tests.support.synthetic import draw_card

FRAME = (400, 400)
TURNED_AND_SMALLER = np.array([[1.15, -0.42, 40.0], [0.42, 1.15, -90.0], [0, 0, 1]])
FROM_THE_SIDE = np.array([[1.1, 0.12, 10.0], [-0.08, 1.25, -20.0], [2e-4, -3e-4, 1]])


def rendered(homography: np.ndarray, seed: int) -> Matches:
    """Matches of a card with what is seen of it through the homography (generated to reference), softened."""
    card = draw_card(FRAME[0], seed)
    seen = cv2.warpPerspective(card, np.linalg.inv(homography), FRAME, flags=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(seen, (0, 0), 1.5)
    grey = [np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) for picture in (soft, card)]
    return match_features(find_features(grey[0]), find_features(grey[1]))


def by_chance(count: int, seed: int) -> Matches:
    random = np.random.default_rng(seed)
    return Matches(
        random.uniform(0, 400, (count, 2)).astype(np.float32),
        random.uniform(0, 400, (count, 2)).astype(np.float32),
        random.normal(0, 1, count).astype(np.float32),
        random.uniform(-360, 360, count).astype(np.float32),
        random.uniform(0.5, 0.92, count).astype(np.float32),
    )


def following(homography: np.ndarray, count: int, seed: int) -> Matches:
    """Matches that keep to a similarity."""
    points = np.random.default_rng(seed).uniform(0, 400, (count, 2)).astype(np.float32)
    there = cv2.perspectiveTransform(points[:, None], homography)[:, 0]
    size = np.full(count, 0.5 * np.log(abs(np.linalg.det(homography[:2, :2]))), np.float32)
    turn = np.full(count, np.degrees(np.arctan2(homography[1, 0], homography[0, 0])), np.float32)
    return Matches(points, there, size, turn, np.full(count, 0.5, np.float32))


@pytest.mark.parametrize("homography", [TURNED_AND_SMALLER, FROM_THE_SIDE], ids=["similarity", "homography"])
@pytest.mark.parametrize("seed", range(3))
def test_a_rendered_view_is_placed_within_a_pixel(homography, seed):
    matches = rendered(homography, seed)
    placement = place(matches, FRAME)
    assert placement is not None
    assert sureness(placement.log_false_alarms) > 0.99
    spots = placement.matches.generated[:, None]
    missed = cv2.perspectiveTransform(spots, placement.homography) - cv2.perspectiveTransform(spots, homography)
    enlargement = np.sqrt(np.linalg.det(homography[:2, :2]))
    off = np.linalg.norm(missed, axis=2) / enlargement
    assert np.median(off) < 1.0
    assert off.max() < 2.0


@pytest.mark.parametrize("count", [12, 60, 300])
def test_chance_is_refused(count):
    assert [seed for seed in range(15) if place(by_chance(count, seed), FRAME) is not None] == []


@pytest.mark.parametrize("count", [20, 60, 300])
def test_chance_is_refused_where_everything_stands_upright(count):
    placed = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        matches = by_chance(count, seed)
        upright = Matches(
            matches.generated,
            matches.reference,
            random.normal(0, 0.15, count).astype(np.float32),
            random.normal(0, 8, count).astype(np.float32),
            matches.ambiguity,
        )
        placed += [seed] if place(upright, FRAME) is not None else []
    assert placed == []


def test_a_placement_is_found_among_chance():
    matches = Matches.joined([by_chance(60, 0), following(TURNED_AND_SMALLER, 12, 1)])
    placement = place(matches, FRAME)
    assert placement is not None
    assert len(placement.matches) >= 12
    assert placement.homography == pytest.approx(TURNED_AND_SMALLER, abs=0.05)


def test_a_mirrored_object_is_refused():
    straight = following(TURNED_AND_SMALLER, 40, 0)
    mirrored = straight.at(
        straight.generated * np.array([-1, 1], np.float32) + np.array([400, 0], np.float32), straight.reference
    )
    assert place(straight, FRAME) is not None
    assert place(mirrored, FRAME) is None


def test_features_that_are_turned_otherwise_do_not_agree():
    agreeing = following(TURNED_AND_SMALLER, 10, 0)
    turned = Matches(
        agreeing.generated, agreeing.reference, agreeing.size_ratios, agreeing.turns + 90, agreeing.ambiguity
    )
    assert consistent(agreeing, TURNED_AND_SMALLER).all()
    assert not consistent(turned, TURNED_AND_SMALLER).any()


def test_faces_that_move_apart_are_placed_one_by_one_the_surest_first():
    far = TURNED_AND_SMALLER + np.array([[0, 0, 120.0], [0, 0, 60.0], [0, 0, 0]])
    matches = Matches.joined([following(far, 20, 1), following(TURNED_AND_SMALLER, 40, 2), by_chance(20, 3)])
    placements = place_all(matches, FRAME, limit=3)
    assert len(placements) == 2
    assert placements[0].homography == pytest.approx(TURNED_AND_SMALLER, abs=0.05)
    assert placements[1].homography == pytest.approx(far, abs=0.05)
    assert placements[0].log_false_alarms <= placements[1].log_false_alarms
    assert len(place_all(matches, FRAME, limit=1)) == 1


@pytest.mark.parametrize("count", range(1, 4))
def test_too_few_matches_place_nothing(count):
    assert place(following(TURNED_AND_SMALLER, count, 0), FRAME) is None


def test_features_keep_to_the_mask():
    card = cv2.cvtColor(draw_card(200, 0), cv2.COLOR_RGB2GRAY)
    mask = np.zeros((200, 200), np.uint8)
    mask[:, 120:] = 255
    everywhere, masked = find_features(card), find_features(card, mask)
    assert 10 < len(masked.points) < len(everywhere.points)
    assert masked.points[:, 0].min() >= 119
    assert np.linalg.norm(masked.descriptors, axis=1) == pytest.approx(1, abs=1e-3)


def test_a_picture_without_features_matches_nothing():
    nothing = find_features(np.full((100, 100), 128, np.uint8))
    something = find_features(cv2.cvtColor(draw_card(100, 0), cv2.COLOR_RGB2GRAY))
    assert isinstance(nothing, Features)
    assert len(nothing.points) == 0
    assert len(something.points) > 10
    assert len(match_features(nothing, something)) == len(match_features(something, nothing)) == 0


def test_each_spot_is_matched_once():
    matches = rendered(FROM_THE_SIDE, 0)
    for points in (matches.generated, matches.reference):
        assert len(np.unique(np.round(points / 3), axis=0)) == len(points)


def off_by(pixels: float) -> Matches:
    """Matches that lie so many pixels of the generated picture beside where the placement says."""
    agreeing = following(TURNED_AND_SMALLER, 10, 0)
    there = cv2.perspectiveTransform(
        agreeing.generated[:, None] + np.array([pixels, 0], np.float32), TURNED_AND_SMALLER
    )[:, 0]
    return agreeing.at(agreeing.generated, there)


def test_inliers_lie_within_the_tolerance_in_place_scale_and_rotation():
    agreeing = following(TURNED_AND_SMALLER, 10, 0)
    assert consistent(off_by(7.5), TURNED_AND_SMALLER).all()
    assert not consistent(off_by(8.5), TURNED_AND_SMALLER).any()
    for size, turn, expected in ((0.6, 0, True), (-0.6, 0, True), (0.8, 0, False), (0, -30, True), (0, 40, False)):
        changed = replace(agreeing, size_ratios=agreeing.size_ratios + size, turns=agreeing.turns + turn)
        assert consistent(changed, TURNED_AND_SMALLER).all() == expected
        assert consistent(changed, TURNED_AND_SMALLER).any() == expected


@pytest.mark.parametrize(("ambiguity", "placed"), [(0.84, True), (0.91, True), (0.93, False)])
def test_ambiguous_matches_are_used_only_up_to_the_looser_ratio(ambiguity, placed):
    matches = following(TURNED_AND_SMALLER, 30, 0)
    unsure = replace(matches, ambiguity=np.full(30, ambiguity, np.float32))
    assert (place(unsure, FRAME) is not None) == placed


def test_confidence_rises_with_the_number_of_matches():
    def confidence(count: int) -> float:
        placement = place(Matches.joined([following(TURNED_AND_SMALLER, count, 1), by_chance(40, 0)]), FRAME)
        return sureness(placement.log_false_alarms) if placement is not None else 0.0

    values = [confidence(count) for count in (5, 8, 12, 20, 40)]
    assert values == sorted(values)
    assert values[0] < 0.5
    assert values[-1] > 0.999


def test_a_squeezed_object_is_refused():
    squeezed = np.array([[3.0, 0, 0], [0, 0.5, 0], [0, 0, 1]])
    assert place(following(squeezed, 40, 0), FRAME) is None


def test_the_middle_plane_of_a_deep_scene_is_far_from_neither_depth():
    near = TURNED_AND_SMALLER + np.array([[0, 0, 40.0], [0, 0, 0], [0, 0, 0]])
    wall, front = following(TURNED_AND_SMALLER, 60, 1), following(near, 50, 2)
    matches = Matches.joined([wall, front])
    best = place(matches, FRAME)
    assert best is not None
    assert best.homography == pytest.approx(TURNED_AND_SMALLER, abs=0.05)
    plane = middle_plane(matches, best)
    for depth in (wall, front):
        predicted = cv2.perspectiveTransform(depth.generated[:, None], plane)[:, 0]
        assert np.median(np.linalg.norm(predicted - depth.reference, axis=1)) < 36


@pytest.mark.parametrize(("agreeing", "random"), [(6, 0), (8, 20)])
def test_a_few_matches_are_enough_where_chance_is_unlikely(agreeing, random):
    assert place(Matches.joined([following(TURNED_AND_SMALLER, agreeing, 1), by_chance(random, 0)]), FRAME) is not None


def test_several_features_of_one_spot_are_one_match():
    random = np.random.default_rng(0)
    descriptors = np.abs(random.normal(size=(40, 128))).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    spots = np.repeat(30.0 * np.arange(20, dtype=np.float32), 2)
    points = np.column_stack([spots + np.tile([0.0, 0.8], 20), spots]).astype(np.float32)
    features = Features(points, np.full(40, 5, np.float32), np.zeros(40, np.float32), descriptors)
    matches = match_features(features, features)
    assert len(matches) == 20
    assert np.array_equal(matches.generated, matches.reference)


@pytest.mark.parametrize(("chance", "bent"), [(-1.0, False), (-12.0, True)])
def test_learned_matches_bend_a_plane_only_where_they_are_sure(chance: float, bent: bool) -> None:
    placements = place_all(following(TURNED_AND_SMALLER, 40, 0), FRAME, 1)
    learned = following(TURNED_AND_SMALLER, 12, 1)
    unknown = np.full(12, np.nan, np.float32)
    # Far off the plane, as on a round object.
    moved = replace(learned, size_ratios=unknown, turns=unknown, reference=learned.reference + np.float32(20))
    (told,) = with_learned(placements, moved, chance)
    assert told.is_bent == bent
    assert told.log_false_alarms == pytest.approx(placements[0].log_false_alarms + chance)
    if not bent:
        assert np.array_equal(told.homography, placements[0].homography)
