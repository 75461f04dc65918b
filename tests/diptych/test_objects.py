"""Masks that nobody gave, found by the real segmenter without weights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from refgc.diptych.objects import find_in_reference, find_in_scene
from refgc.diptych.preview import make_preview_request, preview
from refgc.imaging.image import Image, Mask
from tests.support.pictures import refusal
from tests.support.synthetic import draw_card


@dataclass(frozen=True)
class Views:
    """A printed card in a studio and, smaller and turned, on a table beside a larger and plainer thing."""

    reference: np.ndarray
    reference_mask: np.ndarray
    scene: np.ndarray
    scene_mask: np.ndarray


@pytest.fixture(scope="module")
def views() -> Views:
    card = draw_card(256, 3)
    studio = np.full((384, 384, 3), (214, 216, 220), np.uint8)
    studio[64:320, 64:320] = card
    studio_mask = np.zeros((384, 384), np.uint8)
    studio_mask[64:320, 64:320] = 255
    table = np.full((480, 640, 3), (120, 84, 60), np.uint8)
    cv2.circle(table, (480, 240), 110, (30, 140, 60), -1, cv2.LINE_AA)
    corners = np.array([[0, 0], [256, 0], [256, 256], [0, 256]], np.float32)
    places = np.array([[70, 150], [240, 120], [270, 300], [90, 320]], np.float32)
    placing = cv2.getPerspectiveTransform(corners, places)
    mask = cv2.warpPerspective(np.full((256, 256), 255, np.uint8), placing, (640, 480))
    placed = cv2.warpPerspective(card, placing, (640, 480), flags=cv2.INTER_AREA)
    share = mask[..., None] / 255
    table = np.rint(placed * share + table * (1 - share)).astype(np.uint8)
    return Views(studio, studio_mask, table, mask)


def overlap(mask: Mask, truth: np.ndarray) -> float:
    one, other = mask.values >= 0.5, truth >= 128
    return float((one & other).sum() / (one | other).sum())


def test_the_reference_shows_one_thing(views):
    assert overlap(find_in_reference(Image(views.reference), "object"), views.reference_mask) > 0.95


def test_the_scenes_object_is_the_references_and_not_what_stands_out_more(views):
    found = find_in_scene(
        Image(views.scene), Image(views.reference), Mask(views.reference_mask / np.float32(255)), "object"
    )
    assert overlap(found, views.scene_mask) > 0.9


def test_the_report_says_that_masks_were_found_and_how_sure_it_is(views):
    result = preview(make_preview_request(views.reference, views.scene), generator="simulated")
    for record in (result.report.reference_mask, result.report.scene_mask):
        assert record.source == "found"
        assert record.confidence is not None
        assert record.confidence > 0.8
    assert result.report.truth == "scene"
    assert overlap(result.mask, views.scene_mask) > 0.9
    again = preview(make_preview_request(views.reference, views.scene), generator="simulated")
    np.testing.assert_array_equal(again.generated.pixels, result.generated.pixels)
    np.testing.assert_array_equal(again.reference_mask.values, result.reference_mask.values)


def test_an_unrelated_thing_in_the_scene_is_no_sure_find(views):
    elsewhere = np.full((480, 640, 3), (120, 84, 60), np.uint8)
    cv2.circle(elsewhere, (320, 240), 110, (30, 140, 60), -1, cv2.LINE_AA)
    request = make_preview_request(views.reference, elsewhere, reference_mask=views.reference_mask)
    report = preview(request, generator="simulated").report
    assert report.truth == "composed"
    assert report.reference_mask.confidence is None
    assert report.scene_mask.confidence is not None
    assert report.scene_mask.confidence <= 0.5


@pytest.mark.parametrize("name", ["reference", "scene"])
def test_where_nothing_stands_out_a_mask_is_asked_for(views, name):
    plain = np.full((300, 300, 3), 128, np.uint8)
    pictures = {"reference": views.reference, "scene": views.scene, name: plain}
    given = {} if name == "reference" else {"reference_mask": views.reference_mask}
    request = make_preview_request(**pictures, **given)
    sentence = refusal(lambda: preview(request, generator="simulated"))
    assert f"in the {name};" in sentence
    assert f"mask of the {name}" in sentence
