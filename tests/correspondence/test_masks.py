"""Masks are obeyed: nothing is changed outside of the generated mask, nothing is taken from outside the reference's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.refinement import refine
from tests.support.correspondence_pairs import (
    PAIR,
    PRODUCT_PHOTO,
    beside,
    changed,
    enlarged,
    on_plain_ground,
    refined,
    two_cards,
    upscaled,
)
from tests.support.synthetic import draw_card

LEFT_HALF = (PAIR.mask > 0) & (np.arange(80) < 40)


def test_a_generated_mask_is_obeyed_to_the_pixel():
    result = refine(PRODUCT_PHOTO, PAIR.generated, generated_mask=LEFT_HALF)
    assert result.report.placed
    assert changed(result)[enlarged(LEFT_HALF, 4)].mean() > 0.6
    assert not changed(result)[enlarged(~LEFT_HALF, 4)].any()
    assert changed(refined())[enlarged(beside(LEFT_HALF, 1), 4)].any()


def test_a_generated_mask_confines_the_change_of_a_scene():
    scene = draw_card(256, 4)
    generated = cv2.resize(cv2.GaussianBlur(scene, (0, 0), 1.5), (64, 64), interpolation=cv2.INTER_AREA)
    mask = np.zeros((64, 64), bool)
    mask[:, 20:] = True
    result = refine(scene, np.asarray(generated, np.uint8), generated_mask=mask)
    assert result.report.placed
    assert changed(result)[enlarged(mask, 4)].mean() > 0.6
    assert not changed(result)[enlarged(beside(mask, 2), 4)].any()


def test_a_soft_generated_mask_changes_less_than_a_hard_one():
    soft = (PAIR.mask > 0) * np.float32(0.5)
    hard = PAIR.mask > 0
    by_mask = [refine(PRODUCT_PHOTO, PAIR.generated, generated_mask=mask) for mask in (soft, hard)]
    distances = [np.abs(r.image.pixels.astype(int) - upscaled(r)).mean() for r in by_mask]
    assert 0 < distances[0] < 0.7 * distances[1]


@pytest.mark.parametrize("wanted", ["left", "right"])
def test_what_the_reference_mask_leaves_out_is_not_used(wanted):
    reference, generated, left, left_seen = two_cards()
    mask, seen = (left, left_seen) if wanted == "left" else (left[:, ::-1], left_seen[:, ::-1])
    result = refine(reference, generated, reference_mask=mask)
    assert result.report.placed
    assert changed(result)[enlarged(seen, 4)].mean() > 0.6
    assert not changed(result)[enlarged(beside(seen, 4), 4)].any()


def test_what_the_reference_mask_leaves_out_is_not_found_either():
    reference, generated, left, _ = two_cards()
    right_card = np.ascontiguousarray(generated[:, 60:])
    assert not refine(reference, right_card, reference_mask=left).report.placed
    assert refine(reference, right_card, reference_mask=left[:, ::-1]).report.placed


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_two_of_a_kind_the_generated_mask_chooses(side):
    card = draw_card(180, 1)
    scene = np.full((240, 480, 3), (90, 120, 100), np.uint8)
    scene[30:210, 20:200] = card
    scene[45:195, 310:460] = cv2.resize(card, (150, 150), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(scene, (0, 0), 1.5)
    generated = np.asarray(cv2.resize(soft, (120, 60), interpolation=cv2.INTER_AREA), np.uint8)
    mask = np.zeros((60, 120), bool)
    mask[:, :60] = True
    mask = mask if side == "left" else ~mask
    result = refine(on_plain_ground(card, 30), generated, generated_mask=mask)
    assert result.report.placed
    assert changed(result)[enlarged(mask, 4)].mean() > 0.2


def test_without_a_reference_mask_both_objects_are_used():
    reference, generated, _, left_seen = two_cards()
    result = refine(reference, generated)
    for seen in (left_seen, left_seen[:, ::-1]):
        assert changed(result)[enlarged(seen, 4)].mean() > 0.6


def test_the_transparency_of_a_reference_is_its_mask():
    reference, generated, left, left_seen = two_cards()
    alpha = np.where(left, 255, 60).astype(np.uint8)
    result = refine(np.dstack([reference, alpha]), generated)
    assert result.report.placed
    assert changed(result)[enlarged(left_seen, 4)].mean() > 0.6
    assert not changed(result)[enlarged(beside(left_seen, 4), 4)].any()


def test_a_reference_mask_goes_before_the_transparency():
    reference, generated, left, left_seen = two_cards()
    opaque_right = np.where(left, 254, 255).astype(np.uint8)
    result = refine(np.dstack([reference, opaque_right]), generated, reference_mask=left)
    assert result.report.placed
    assert not changed(result)[enlarged(beside(left_seen, 4), 4)].any()


@pytest.mark.parametrize("side", [1, 3])
def test_a_reference_mask_of_a_few_pixels_places_nothing(side):
    mask = np.zeros((400, 400), bool)
    mask[200 : 200 + side, 200 : 200 + side] = True
    result = refine(PRODUCT_PHOTO, PAIR.generated, reference_mask=mask)
    assert not result.report.placed
    assert not changed(result).any()


def test_a_generated_mask_away_from_the_object_places_nothing():
    mask = np.zeros((80, 80), bool)
    mask[:8, :8] = True
    result = refine(PRODUCT_PHOTO, PAIR.generated, generated_mask=mask)
    assert not result.report.placed
    assert not changed(result).any()


def test_parts_that_moved_towards_each_other_are_both_refined():
    reference, generated, left, _ = two_cards()
    closer = np.delete(generated, np.s_[52:64], axis=1)
    in_generated = left[2::4, 2::4]
    result = refine(reference, closer)
    for seen in (in_generated, in_generated[:, ::-1]):
        assert changed(result)[enlarged(np.delete(seen, np.s_[52:64], axis=1), 4)].mean() > 0.6
