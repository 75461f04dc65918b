"""Finding: the object's region, its faces, and one scene seen twice."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence.find import Finding, find
from refgc.request import make_request
from tests.support.correspondence_pairs import PAIR, PRODUCT_PHOTO, on_plain_ground, two_cards
from tests.support.synthetic import draw_card


def found(
    reference: np.ndarray,
    generated: np.ndarray,
    *,
    reference_mask: np.ndarray | None = None,
    generated_mask: np.ndarray | None = None,
) -> Finding:
    request = make_request(reference, generated, reference_mask=reference_mask, generated_mask=generated_mask)
    finding = find(request)
    assert finding is not None
    return finding


def test_the_region_is_the_object_with_a_margin():
    region = found(PRODUCT_PHOTO, PAIR.generated).region
    rows, columns = (np.flatnonzero((PAIR.mask > 127).any(axis=axis)) for axis in (1, 0))
    margins = (columns[0] - region.left, rows[0] - region.top, region.right - columns[-1], region.bottom - rows[-1])
    assert min(margins) >= 8
    assert max(margins) <= 14


def test_matches_lie_on_the_object_in_both_pictures():
    finding = found(PRODUCT_PHOTO, PAIR.generated)
    inside = cv2.dilate(PAIR.mask, np.ones((5, 5), np.uint8))
    x, y = finding.matches.generated.round().astype(int).T
    assert (inside[y, x] > 0).all()
    predicted = cv2.perspectiveTransform(finding.matches.generated[:, None], finding.maps[0].homography)[:, 0]
    assert np.median(np.linalg.norm(predicted - finding.matches.reference, axis=1)) < 4


def test_faces_that_moved_apart_are_found_one_by_one():
    reference, generated, left, _ = two_cards()
    swapped = np.hstack([generated[:, 60:], generated[:, :60]])
    finding = found(reference, swapped)
    assert len(finding.maps) == 2
    spots = [cv2.perspectiveTransform(np.array([[[28.0, 30.0]]]), face.homography)[0, 0] for face in finding.maps]
    assert abs(spots[0][0] - spots[1][0]) > 150
    assert finding.object_mask is not None
    assert finding.object_mask[left].mean() > 0.8
    assert finding.object_mask[:, ::-1][left].mean() > 0.8


def test_a_masked_object_is_no_scene():
    scene = draw_card(256, 4)
    generated = np.asarray(cv2.resize(scene, (64, 64), interpolation=cv2.INTER_AREA), np.uint8)
    assert found(scene, generated).object_mask is None
    assert (found(scene, generated).region.size) == (64, 64)
    mask = np.zeros((256, 256), bool)
    mask[40:200, 40:200] = True
    marked = found(scene, generated, reference_mask=mask)
    assert marked.object_mask is not None
    assert marked.region.size[0] < 64


def test_an_object_that_fills_a_third_of_the_picture_is_no_scene():
    reference = on_plain_ground(draw_card(160, 2), 60)
    reference[..., 0] -= (np.arange(280) // 4)[None].astype(np.uint8)
    ground = np.full((400, 400, 3), (90, 110, 130), np.uint8)
    ground[100:300, 100:300] = draw_card(200, 2)
    generated = cv2.resize(cv2.GaussianBlur(ground, (0, 0), 1.5), (100, 100), interpolation=cv2.INTER_AREA)
    assert found(reference, np.asarray(generated, np.uint8)).object_mask is not None


@pytest.mark.parametrize("side", [40, 56])
def test_a_small_generated_picture_is_enlarged_to_be_matched(side):
    generated = cv2.resize(PAIR.truth, (side, side), interpolation=cv2.INTER_AREA)
    assert found(PRODUCT_PHOTO, np.asarray(generated, np.uint8)).log_false_alarms < -8


@pytest.mark.parametrize("marked", ["reference_mask", "generated_mask"])
def test_only_what_is_marked_is_matched(marked):
    reference, generated, left, left_seen = two_cards()
    finding = found(reference, generated, **{marked: left if marked == "reference_mask" else left_seen})
    points = finding.matches.reference if marked == "reference_mask" else finding.matches.generated
    middle = 230 if marked == "reference_mask" else 57
    assert points[:, 0].max() < middle


def test_an_object_that_is_small_in_the_reference_is_found():
    reference = on_plain_ground(draw_card(80, 3), 280)
    ground = np.full((400, 400, 3), (90, 110, 130), np.uint8)
    ground[80:320, 80:320] = cv2.resize(draw_card(80, 3), (240, 240), interpolation=cv2.INTER_CUBIC)
    generated = cv2.resize(cv2.GaussianBlur(ground, (0, 0), 2), (100, 100), interpolation=cv2.INTER_AREA)
    assert found(reference, np.asarray(generated, np.uint8)).log_false_alarms < -14
