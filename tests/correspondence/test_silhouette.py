"""Placement by the outline: what is placed, what is not, and how the result looks."""

from __future__ import annotations

import functools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from refgc.correspondence.exposure import expose
from refgc.correspondence.find import search
from refgc.correspondence.silhouette import Likeness, SilhouettePlacement, place_by_silhouette, probability_of
from refgc.engine import RefineResult
from refgc.masks.plain_background import object_on_plain_background
from refgc.refinement import refine
from refgc.request import make_request
from tests.support.correspondence_pairs import PAIR, PRODUCT_PHOTO, psnr
from tests.support.figurines import DUCK, ORANGE, Drawing, draw_figurine, generated_from

REFERENCE = draw_figurine()
SCENE = draw_figurine(turn=5.0, scale=0.85, shift=(0.05, -0.03), light=(-0.1, -0.7, 0.7), ground=1)
# The same with less relief, as a generator loses it; then matches do not find it.
SMOOTH = draw_figurine(turn=5.0, scale=0.85, shift=(0.05, -0.03), light=(-0.1, -0.7, 0.7), ground=1, relief=0.4)
FRONT = (0.0, 0.0, 1.0)


def placed(generated: np.ndarray, reference: np.ndarray = REFERENCE.picture) -> SilhouettePlacement | None:
    return place_by_silhouette(generated, reference, None, object_on_plain_background(reference))


def probability(generated: np.ndarray, reference: np.ndarray = REFERENCE.picture) -> float:
    placement = placed(generated, reference)
    return 0.0 if placement is None else placement.probability


@functools.cache
def refined() -> RefineResult:
    return refine(reference=REFERENCE.picture, generated=generated_from(SMOOTH), scale=4, engine="correspondence")


def test_a_figurine_in_another_light_is_placed_where_it_stands():
    placement = placed(generated_from(SCENE))
    assert placement is not None
    assert placement.probability > 0.9
    seen = cv2.resize(SCENE.mask.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA)
    union = np.maximum(placement.outline, seen).sum()
    assert np.minimum(placement.outline, seen).sum() / union > 0.9
    # The map leads from the middle of the scene's figurine to that of the reference's.
    middles = [np.argwhere(drawing.mask).mean(axis=0)[::-1] for drawing in (SCENE, REFERENCE)]
    expected = cv2.perspectiveTransform(middles[0].reshape(1, 1, 2) / 4, placement.map.homography).ravel()
    assert np.linalg.norm(expected - middles[1]) < 8


def test_the_pairs_of_points_lie_on_both_outlines():
    placement = placed(generated_from(SCENE))
    assert placement is not None
    here, there = placement.points
    for points, mask, factor, limit in ((here, SCENE.mask, 4, 8), (there, REFERENCE.mask, 1, 12)):
        edge = cv2.Canny(mask.astype(np.uint8) * 255, 50, 100) == 0
        distance = cv2.distanceTransform(edge.astype(np.uint8), cv2.DIST_L2, 5)
        x, y = (points * factor).round().astype(int).clip(0, 511).T
        assert np.median(distance[y, x]) < limit


@pytest.mark.parametrize("turn", [90.0, 180.0])
def test_a_figurine_that_lies_is_placed_too(turn):
    lying = generated_from(draw_figurine(turn=turn, light=FRONT, ground=2))
    assert probability(lying, draw_figurine(light=FRONT).picture) > 0.9


@pytest.mark.parametrize(
    ("what", "drawing"),
    [
        ("another outline", draw_figurine(DUCK, scale=0.9, ground=1)),
        ("another colour", draw_figurine(colour=ORANGE, scale=0.85, ground=1)),
        ("no relief alike", draw_figurine(scale=0.85, light=(0.9, 0.6, 0.2), ground=1)),
    ],
)
def test_what_differs_is_not_placed(what: str, drawing: Drawing):
    assert probability(generated_from(drawing)) < 0.1, what


def test_a_mirrored_figurine_is_not_placed():
    assert probability(generated_from(SCENE), np.ascontiguousarray(REFERENCE.picture[:, ::-1])) < 0.1


def test_a_round_outline_says_nothing():
    egg = (((0.5, 0.5), (0.28, 0.2), 20.0),)
    # Tilted, and lit from the left in both, so that the mirrored one differs and all but the outline would agree.
    reference, scene = (
        draw_figurine(egg, scale=scale, light=(-0.9, -0.2, 0.4), relief=0.3, ground=ground)
        for scale, ground in ((1.0, None), (0.8, 1))
    )
    assert probability(generated_from(scene), reference.picture) < 0.1


@pytest.mark.parametrize(
    "worse",
    [
        {"fine": 0.3, "coarse": 0.4},
        {"distance": 0.8},
        {"colour": 14.0},
        {"variety": 11.0},
        {"anisotropy": 1.3},
    ],
)
def test_each_kind_of_evidence_has_to_agree(worse):
    alike = Likeness(
        overlap=0.9, distance=0.3, fine=0.7, coarse=0.8, colour=4.0, variety=3.0, anisotropy=1.05, turn=5.0
    )
    mirrored = replace(alike, fine=0.0, coarse=0.0)
    assert probability_of(alike, mirrored) > 0.9
    assert probability_of(replace(alike, **worse), mirrored) < 0.1
    assert probability_of(alike, alike) < 0.1


def test_what_looks_the_same_mirrored_is_not_placed():
    vase = (((0.5, 0.6), (0.15, 0.2), 0.0), ((0.5, 0.35), (0.06, 0.2), 0.0), ((0.5, 0.2), (0.12, 0.04), 0.0))
    reference = draw_figurine(vase, light=FRONT, relief=0.0).picture
    scene = draw_figurine(vase, light=FRONT, relief=0.0, scale=0.8, ground=1)
    assert probability(generated_from(scene), reference) < 0.1


def test_an_object_of_many_colours_is_left_to_matches():
    checked = np.kron(np.indices((16, 16)).sum(axis=0) % 2, np.ones((32, 32)))[..., None] > 0
    reference, scene = (
        np.where(checked & drawing.mask[..., None], drawing.picture[..., ::-1], drawing.picture)
        for drawing in (REFERENCE, draw_figurine(ground=1))
    )
    assert probability(generated_from(Drawing(scene, REFERENCE.mask)), reference) < 0.1


def test_a_picture_without_an_object_gives_nothing():
    flat = np.full((64, 64, 3), 120, np.uint8)
    assert place_by_silhouette(flat, REFERENCE.picture, None, None) is None
    assert place_by_silhouette(generated_from(SCENE), flat, None, None) is None
    assert place_by_silhouette(flat[:3, :5], flat[:2, :2], None, None) is None


def test_marks_too_thin_for_an_outline_give_nothing():
    wire = np.zeros((128, 128), np.float32)
    wire[10:118, 60] = 1.0
    empty = np.zeros_like(wire)
    for mark in (wire, empty):
        assert place_by_silhouette(generated_from(SCENE), REFERENCE.picture, mark, None) is None


def test_a_marked_object_is_placed_by_its_mark():
    marked = cv2.resize(SCENE.mask.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA)
    scene = generated_from(SCENE)
    placement = place_by_silhouette(scene, REFERENCE.picture, marked, REFERENCE.mask.astype(np.float32))
    assert placement is not None
    assert placement.probability > 0.9
    assert placement.outline is marked
    elsewhere = np.zeros_like(marked)
    elsewhere[5:40, 90:120] = 1.0
    assert place_by_silhouette(scene, REFERENCE.picture, elsewhere, None) is None


def test_the_probability_hardly_changes_with_what_nobody_sees():
    scene = generated_from(SCENE)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], 1)
    wider = cv2.copyMakeBorder(scene, 0, 0, 8, 0, cv2.BORDER_REFLECT)
    smaller = cv2.resize(REFERENCE.picture, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    for generated, reference in (
        (jpeg, REFERENCE.picture),
        (wider, REFERENCE.picture),
        ((scene * 0.85).astype(np.uint8), REFERENCE.picture),
        (scene, REFERENCE.picture[4:-4, 4:-4]),
        (scene, smaller),
    ):
        assert probability(generated, np.ascontiguousarray(reference)) > 0.9


def test_the_engine_says_how_the_object_was_found_and_takes_its_relief():
    result = refined()
    assert result.report.placed
    assert "by its outline" in result.report.message
    assert result.report.matches == 0
    assert 0.3 < result.report.confidence < 0.7
    inside = cv2.erode(SCENE.mask.astype(np.uint8), np.ones((21, 21), np.uint8)).astype(np.float64)
    plain = result.stages["upscaled"].pixels
    assert psnr(result.image.pixels, SCENE.picture, inside) > psnr(plain, SCENE.picture, inside) + 0.3


def test_nothing_beside_the_object_changes():
    result = refined()
    outside = cv2.dilate(SCENE.mask.astype(np.uint8), np.ones((13, 13), np.uint8)) == 0
    assert (result.image.pixels == result.stages["upscaled"].pixels)[outside].all()


def test_the_outline_is_looked_at_only_where_matches_place_nothing():
    request = make_request(PRODUCT_PHOTO, PAIR.generated)
    found = search(request, expose(request.reference, request.generated))
    assert found.findings[0].silhouette is None
    request = make_request(REFERENCE.picture, generated_from(SMOOTH))
    found = search(request, expose(request.reference, request.generated))
    assert len(found.findings) == 1
    assert found.findings[0].silhouette is not None
