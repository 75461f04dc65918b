"""Blend weights: an object seen from the same side is used whole, others only where they agree."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence.align import Alignment
from refgc.correspondence.blend_weights import BlendWeights, object_weights, scene_weights
from refgc.imaging.warp import pixel_grid, rescale_points
from tests.support.synthetic import draw_card

SIDE = 160
# A log10 of false alarms that nobody doubts.
SURE = -40.0
REFERENCE = draw_card(2 * SIDE, 0)
OBJECT = np.zeros((2 * SIDE, 2 * SIDE), np.float32)
OBJECT[60:260, 60:260] = 1
# In the flow frame.
BODY = np.s_[34:126, 34:126]
GROUND = np.full((SIDE, SIDE, 3), (90, 120, 100), np.uint8)


def alignment(reliable: np.ndarray | None = None) -> Alignment:
    """The true map, at half of the reference's size, with all or some of its flow reliable."""
    mapping = rescale_points(pixel_grid((SIDE, SIDE)), (SIDE, SIDE), (2 * SIDE, 2 * SIDE))
    every = cv2.resize(OBJECT, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return Alignment(mapping, mapping.copy(), every if reliable is None else reliable, 2.0)


def seen() -> np.ndarray:
    """The reference's object in front of a plain ground, in the flow frame."""
    alpha = cv2.resize(OBJECT, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., None]
    soft = cv2.GaussianBlur(cv2.resize(REFERENCE, (SIDE, SIDE), interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    return np.asarray(np.rint(soft * alpha + GROUND * (1 - alpha)), np.uint8)


def weights(generated: np.ndarray, aligned: Alignment) -> BlendWeights:
    return object_weights(generated, REFERENCE, aligned, OBJECT, None, SURE)


def test_an_object_seen_from_the_same_side_is_used_whole():
    result = weights(seen(), alignment())
    assert result.is_whole
    assert result.trust[BODY].min() > 0.9
    assert result.trust[:26].max() == 0


def test_print_that_is_wrong_here_and_there_is_replaced():
    generated = seen()
    generated[70:90, 70:90] = draw_card(40, 5)[10:30, 10:30]
    reliable = alignment().reliable.copy()
    reliable[66:94, 66:94] = 0
    result = weights(generated, alignment(reliable))
    assert result.is_whole
    assert result.trust[70:90, 70:90].min() > 0.9


@pytest.mark.parametrize("colour", [(250, 238, 20), (250, 20, 230)])
def test_a_thing_in_front_of_the_object_stays(colour):
    generated = seen()
    generated[68:92, 68:92] = colour
    generated = cv2.GaussianBlur(generated, (0, 0), 1.0)
    reliable = alignment().reliable.copy()
    reliable[62:98, 62:98] = 0
    trust = weights(generated, alignment(reliable)).trust
    assert trust[72:88, 72:88].mean() < 0.1
    assert trust[100:126, 34:126].mean() > 0.7


def turned() -> np.ndarray:
    """The left half of the object as it is; the right half shows another print."""
    generated = seen()
    other = cv2.resize(draw_card(2 * SIDE, 7), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    generated[30:130, 80:130] = cv2.GaussianBlur(other, (0, 0), 1.0)[30:130, 80:130]
    return generated


def half_reliable() -> np.ndarray:
    reliable = alignment().reliable.copy()
    reliable[:, 78:] = 0
    return reliable


def test_of_a_turned_object_only_what_agrees_is_used():
    result = weights(turned(), alignment(half_reliable()))
    assert not result.is_whole
    agreeing, other = result.trust[40:120, 36:64].mean(), result.trust[40:120, 96:124].mean()
    assert agreeing > 0.4
    assert other < 0.25 * agreeing


def test_the_use_of_a_spot_rises_steadily_with_what_speaks_for_it():
    reliable = half_reliable()
    used = [
        weights(turned(), alignment(reliable * np.float32(part))).trust[40:120, 36:64].mean() for part in (0, 0.5, 1)
    ]
    assert used[0] < used[1] < used[2]
    assert used[2] > 1.5 * used[0]


def test_what_sticks_out_of_the_generated_object_is_not_used():
    generated = seen()
    generated[:, 90:] = GROUND[:, 90:]
    reliable = alignment().reliable.copy()
    reliable[:, 88:] = 0
    result = weights(generated, alignment(reliable))
    assert not result.is_whole
    assert result.trust[:, 100:].max() < 0.1


@pytest.mark.parametrize("smaller", [0.9, 0.8])
def test_an_object_that_leaves_the_old_one_uncovered_is_not_used_beside_the_rest(smaller):
    generated = seen()
    generated[30:130, 130:146] = generated[30:130, 114:130]
    result = weights(generated, alignment(half_reliable()))
    assert not result.is_whole or result.trust[60:100, 124:130].max() < smaller


def test_displaced_print_is_not_used_though_its_colours_agree():
    """Print beside itself would be read double."""
    grey = np.repeat(cv2.cvtColor(REFERENCE, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    reference = np.asarray(120 + (grey.astype(np.int16) - 120) // 2, np.uint8)
    moved = np.roll(cv2.resize(reference, (SIDE, SIDE), interpolation=cv2.INTER_AREA), 9, axis=1)
    generated = GROUND.copy()
    generated[30:130, 30:130] = moved[30:130, 30:130]
    trust = object_weights(generated, reference, alignment(), OBJECT, None, SURE).trust
    assert trust[BODY].mean() < 0.45


def hue_turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    """The object of `seen` with other hues."""
    hls = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2HLS)
    hls[..., 0] = (hls[..., 0] + degrees) % 360
    result = np.rint(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB) * 255).astype(np.uint8)
    return np.where(cv2.resize(OBJECT, (SIDE, SIDE))[..., None] > 0.5, result, picture)


@pytest.mark.parametrize("degrees", [70, 120, 180, -90])
def test_an_object_of_other_hues_is_left_as_it_is(degrees):
    result = weights(hue_turned(seen(), degrees), alignment())
    assert result.recoloured > 0.95
    assert result.trust.max() < 0.05


@pytest.mark.parametrize(
    "changed",
    [
        lambda seen: hue_turned(seen, 15),
        lambda seen: seen * np.array([1.0, 0.8, 0.55]),
        lambda seen: seen * 0.15,
        lambda seen: 128 + 0.4 * (seen - 128.0),
    ],
    ids=["slightly turned", "candlelight", "night", "faded"],
)
def test_another_light_is_no_other_colour(changed):
    assert weights(np.clip(np.rint(changed(seen())), 0, 255).astype(np.uint8), alignment()).recoloured < 0.05


def test_light_is_followed_into_folds_that_are_smaller_than_the_object():
    light = (1 - 0.3 * np.sin(np.arange(SIDE) / 7) ** 2)[None, :, None]
    gain = weights(np.rint(seen() * light).astype(np.uint8), alignment()).light.gain
    assert np.abs(cv2.resize(gain, (SIDE, SIDE)) - light)[BODY].mean() < 0.085


def test_a_generated_mask_is_the_outline():
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[:, :90] = 1
    result = object_weights(seen(), REFERENCE, alignment(), OBJECT, mask, SURE)
    assert np.array_equal(result.outline > 0.5, mask > 0.5)
    assert result.trust[:, 90:].max() == 0


def test_a_scenes_light_and_trust():
    soft = cv2.GaussianBlur(cv2.resize(REFERENCE, (SIDE, SIDE), interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    whole = alignment(np.ones((SIDE, SIDE), np.float32))
    result = scene_weights(np.asarray(np.rint(soft * 0.8), np.uint8), REFERENCE, whole)
    assert result.is_whole
    assert result.light.gain.mean(axis=(0, 1)) == pytest.approx([0.8] * 3, rel=0.03)
    assert result.trust.mean() > 0.9
