"""The reference's object in its place in the scene, on pictures whose answer is known; and when it is there already."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refgc.diptych.composition import compose, ideal_picture, shows_object
from refgc.diptych.outlines import SimilarityTransform, fit_outlines, on_same_ground
from refgc.imaging.image import Image, Mask, open_image, open_mask
from tests.conftest import REPOSITORY
from tests.support.correspondence_pairs import psnr
from tests.support.pictures import noise
from tests.support.synthetic import draw_card

GREY = 170


def card_on_grey(side: int = 300, margin: int = 50, seed: int = 1) -> tuple[Image, Mask]:
    """A printed card as a product photo shows it."""
    picture, mask = np.full((side, side, 3), GREY, np.uint8), np.zeros((side, side), np.float32)
    inner = slice(margin, side - margin)
    picture[inner, inner], mask[inner, inner] = draw_card(side - 2 * margin, seed), 1
    return Image(picture), Mask(mask)


def marked_grey(width: int, height: int, box: tuple[int, int, int, int], level: int = GREY) -> tuple[Image, Mask]:
    """A flat scene in which (left, top, right, bottom) is marked and something dark stands."""
    picture, mask = np.full((height, width, 3), level, np.uint8), np.zeros((height, width), np.float32)
    picture[box[1] : box[3], box[0] : box[2]] = 20
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return Image(picture), Mask(mask)


def blob(size: tuple[int, int], scale: float, degrees: float, middle: tuple[float, float]) -> np.ndarray:
    """An outline without symmetry, of known size, turn and place, with soft edges."""
    corners = np.array([[-60, -90], [40, -90], [60, -20], [30, 90], [-50, 80], [-30, 10]], np.float64)
    angle = math.radians(degrees)
    turned = corners @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    mask = np.zeros((size[1], size[0]), np.uint8)
    points = np.rint((turned * scale + middle) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


@settings(max_examples=6, deadline=None)
@given(st.floats(0.5, 1.6), st.sampled_from([-45.0, -30.0, 0.0, 25.0, 50.0]), st.integers(-40, 40))
def test_outlines_that_are_alike_are_put_upon_each_other(scale, degrees, right):
    reference = blob((260, 300), 1.0, 0.0, (130, 150))
    middle = (260 + right, 240)
    fit = fit_outlines(reference, blob((520, 500), scale, degrees, middle))
    assert fit.overlap > 0.92
    assert fit.scale == pytest.approx(scale, rel=0.03)
    assert fit.rotation == pytest.approx(degrees, abs=3)
    np.testing.assert_allclose(fit.apply(130.0, 150.0), middle, atol=5)


def test_a_fit_leads_there_and_back():
    fit = SimilarityTransform(0.7, 33.0, (12.5, -4.0), 1.0)
    there = fit.apply(np.array([[10.0, 200.0]]), np.array([[30.0, -7.0]]))
    np.testing.assert_allclose(fit.inverse(*there), ([[10.0, 200.0]], [[30.0, -7.0]]))


def test_things_stay_upright_where_turning_covers_hardly_more():
    tall, round_place = np.zeros((200, 200), np.float32), np.zeros((200, 200), np.float32)
    cv2.ellipse(tall, (100, 100), (40, 60), 0, 0, 360, 1.0, -1)
    cv2.ellipse(round_place, (100, 100), (60, 52), 0, 0, 360, 1.0, -1)
    assert fit_outlines(tall, round_place).rotation == 0


def test_the_object_stands_where_the_marked_outline_stands():
    tall = np.zeros((200, 200), np.float32)
    tall[20:180, 80:120] = 1
    wide = np.zeros((200, 200), np.float32)
    wide[80:150, 30:170] = 1
    fit = on_same_ground(fit_outlines(tall, wide), tall, wide)
    assert fit.apply(100.0, 179.0)[1] == pytest.approx(149, abs=0.01)


def test_the_card_comes_into_its_place_as_it_is():
    reference, mask = card_on_grey()
    scene, place = marked_grey(400, 320, (120, 90, 270, 240))
    drawn = compose(reference, mask, scene, place)
    assert drawn.origin == "composed"
    assert drawn.picture.size == drawn.mask.size == scene.size
    assert np.abs(drawn.mask.values - place.values).mean() < 0.006
    card = cv2.resize(reference.pixels[50:250, 50:250], (150, 150), interpolation=cv2.INTER_AREA)
    composed = drawn.picture.pixels[90:240, 120:270]
    assert psnr(composed[8:-8, 8:-8], card[8:-8, 8:-8]) > 20
    assert drawn.picture.pixels[:80].min() == GREY


def test_the_aspect_ratio_is_kept_in_a_place_of_another():
    reference, mask = card_on_grey()
    drawn = compose(reference, mask, *marked_grey(400, 320, (100, 120, 320, 220)))
    rows, columns = (np.flatnonzero((drawn.mask.values > 0.5).any(axis=axis)) for axis in (1, 0))
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2
    assert rows[-1] == pytest.approx(219, abs=1)
    assert columns.mean() == pytest.approx(209.5, abs=8)


def test_what_is_not_covered_is_filled_from_around():
    """Nothing is left of the dark thing that stood there, and no shadow of it at its outline."""
    reference, mask = card_on_grey()
    drawn = compose(reference, mask, *marked_grey(400, 320, (100, 120, 320, 220)))
    beside = cv2.dilate((drawn.mask.values > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    assert np.abs(drawn.picture.pixels[beside].astype(int) - GREY).max() <= 8


def test_the_scene_beside_the_place_stays_bit_for_bit():
    reference, mask = card_on_grey()
    scene = Image(noise(320, 400))
    place = marked_grey(400, 320, (120, 90, 270, 240))[1]
    drawn = compose(reference, mask, scene, place)
    touched = cv2.dilate(np.maximum(place.values, drawn.mask.values), np.ones((9, 9), np.uint8)) > 0
    np.testing.assert_array_equal(drawn.picture.pixels[~touched], scene.pixels[~touched])
    assert (drawn.picture.pixels[touched] != scene.pixels[touched]).any()


def test_the_object_takes_on_a_part_of_the_light():
    reference, mask = card_on_grey()
    place = (120, 90, 270, 240)
    same, dark = (compose(reference, mask, *marked_grey(400, 320, place, level)) for level in (GREY, 60))
    inner = np.s_[100:230, 130:260]
    ratio = dark.picture.pixels[inner].mean() / same.picture.pixels[inner].mean()
    assert 60 / GREY < ratio < 0.85
    scene, marks = marked_grey(400, 320, place)
    warm = Image(np.clip(scene.pixels * np.array([1.2, 1.0, 0.6]), 0, 255).astype(np.uint8))
    means = compose(reference, mask, warm, marks).picture.pixels[inner].mean(axis=(0, 1))
    before = same.picture.pixels[inner].mean(axis=(0, 1))
    assert means[0] / before[0] > 1.02
    assert means[2] / before[2] < 0.9


def test_the_studio_behind_a_cut_out_is_not_taken_for_light():
    reference, mask = card_on_grey()
    white = Image(np.where(mask.values[..., None] > 0, reference.pixels, 255).astype(np.uint8), alpha=mask)
    drawn = compose(white, mask, *marked_grey(400, 320, (120, 90, 270, 240), level=190))
    card = reference.pixels[60:240, 60:240].mean()
    assert drawn.picture.pixels[100:230, 130:260].mean() == pytest.approx(card, rel=0.04)


def test_a_soft_edge_brings_nothing_of_its_old_background():
    """A red disc from blue onto green: no blue comes with it."""
    y, x = np.indices((240, 240), dtype=np.float32)
    share = np.clip((70 - np.hypot(x - 120, y - 120)) / 10 + 0.5, 0, 1).astype(np.float32)[..., None]
    red, blue, green = np.array((220, 30, 30)), np.array((30, 30, 220)), np.array((30, 160, 30))
    reference = Image(np.rint(share * red + (1 - share) * blue).astype(np.uint8))
    scene = Image(np.full((240, 240, 3), green, np.uint8))
    drawn = compose(reference, Mask(share[..., 0]), scene, Mask(share[..., 0])).picture.pixels
    assert drawn[..., 2].max() < 50
    assert (drawn[120, 120] > (100, 0, 0)).all()


def test_an_object_at_the_border_of_its_picture_is_not_smeared_on():
    picture, mask = np.full((200, 200, 3), GREY, np.uint8), np.zeros((200, 200), np.float32)
    picture[:100, :80], mask[:100, :80] = draw_card(100, 2)[:, :80], 1
    scene, place = marked_grey(300, 300, (100, 100, 200, 225))
    drawn = compose(Image(picture), Mask(mask), scene, place)
    assert drawn.mask.values.sum() == pytest.approx(place.values.sum(), rel=0.06)


@settings(max_examples=12, deadline=None)
@given(st.integers(16, 60), st.integers(16, 60), st.integers(0, 2**32), st.floats(0.02, 0.9))
def test_any_masks_can_be_composed(width, height, seed, share):
    random = np.random.default_rng(seed)
    masks = [(random.random((height, width)) < share).astype(np.float32), np.zeros((width, height), np.float32)]
    masks[0][height // 2, width // 2] = 1
    masks[1][random.integers(0, width) :, : 1 + random.integers(0, height)] = 1
    drawn = compose(Image(noise(height, width)), Mask(masks[0]), Image(noise(width, height)), Mask(masks[1]))
    assert drawn.picture.pixels.shape == (width, height, 3)
    assert drawn.mask.values.min() >= 0
    assert drawn.mask.values.max() <= 1


def test_the_same_pictures_give_the_same_bytes():
    given = (*card_on_grey(), *marked_grey(400, 320, (100, 120, 320, 220)))
    np.testing.assert_array_equal(compose(*given).picture.pixels, compose(*given).picture.pixels)


def card_in_a_scene(seed: int) -> tuple[Image, Mask]:
    scene = cv2.resize(noise(8, 10), (400, 320), interpolation=cv2.INTER_CUBIC)
    corners = np.array([[0, 0], [200, 0], [200, 200], [0, 200]], np.float32)
    placed = np.array([[120, 80], [265, 92], [258, 240], [112, 232]], np.float32)
    warp = cv2.getPerspectiveTransform(corners, placed)
    card = cv2.warpPerspective(draw_card(200, seed), warp, (400, 320), flags=cv2.INTER_LINEAR)
    mask = cv2.warpPerspective(np.ones((200, 200), np.float32), warp, (400, 320))
    return Image(np.rint(card * mask[..., None] + scene * (1 - mask[..., None])).astype(np.uint8)), Mask(mask)


def test_a_scene_that_shows_the_object_is_the_truth_itself():
    reference, mask = card_on_grey(seed=1)
    scene, place = card_in_a_scene(seed=1)
    drawn = ideal_picture(reference, mask, scene, place)
    assert drawn.origin == "scene"
    assert drawn.picture is scene
    assert drawn.mask is place


def test_a_scene_that_shows_another_object_gets_the_reference_s():
    reference, mask = card_on_grey(seed=1)
    scene, place = card_in_a_scene(seed=2)
    drawn = ideal_picture(reference, mask, scene, place)
    assert drawn.origin == "composed"
    np.testing.assert_array_equal(drawn.picture.pixels, compose(reference, mask, scene, place).picture.pixels)


def plain(colour: tuple[int, int, int], degrees: float = 0.0) -> tuple[Image, Mask]:
    mask = blob((300, 300), 1.0, degrees, (150, 150))
    ground = np.full((300, 300, 3), 200, np.uint8)
    return Image(np.rint(mask[..., None] * colour + (1 - mask[..., None]) * ground).astype(np.uint8)), Mask(mask)


def test_plain_objects_are_told_apart_by_outline_and_colour():
    teal = plain((60, 130, 120))
    darker = plain((40, 90, 80))
    assert shows_object(*teal, *darker)
    assert not shows_object(*teal, *plain((180, 60, 50)))
    assert not shows_object(*teal, *plain((10, 20, 20)))
    square = np.zeros((300, 300), np.float32)
    square[80:220, 80:220] = 1
    picture = np.rint(square[..., None] * (60, 130, 120) + (1 - square[..., None]) * 200).astype(np.uint8)
    assert not shows_object(*teal, Image(picture), Mask(square))


def example(name: str, kind: str) -> tuple[Image, Mask]:
    folder = REPOSITORY / "examples" / name
    picture = open_image(folder / f"{kind}.jpg", name=kind)
    return picture, open_mask(folder / f"{kind}_mask.png", size=picture.size, name="mask")


@pytest.mark.parametrize(
    ("reference", "scene", "same"),
    [("tea_tin", "tea_tin", True), ("vase", "vase", True), ("paperback", "paperback", True), ("mug", "vase", False)],
)
def test_the_examples_are_recognised(reference, scene, same):
    assert shows_object(*example(reference, "hrri"), *example(scene, "hrgt")) is same
