"""Fusion: strips give what one piece gives, and trust is the share."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.correspondence.fuse import fuse
from refgc.correspondence.harmonize import Light
from refgc.imaging.warp import homography_map
from tests.support.synthetic import draw_card

UPSCALED = draw_card(120, 0)[:90]
REFERENCE = draw_card(200, 1)
# From a grid of a quarter of the output's size into a reference of 200 x 200.
MAPPING = homography_map(np.array([[5.6, 0.4, 10.0], [-0.3, 5.9, 20.0], [0, 0, 1]]), (30, 23))
GAIN = np.random.default_rng(0).uniform(0.7, 1.3, (12, 15, 3)).astype(np.float32)
LIGHT = Light(GAIN, np.random.default_rng(4).uniform(-20, 20, (12, 15, 3)).astype(np.float32))
TRUST = np.random.default_rng(1).uniform(0, 1, (23, 30)).astype(np.float32)


def of_gain(gain: np.ndarray) -> Light:
    return Light(gain, 0 * gain)


def fused(trust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return fuse(UPSCALED, REFERENCE, (200, 200), MAPPING, LIGHT, trust)


@pytest.mark.parametrize("strip", [1, 7, 64])
def test_strips_give_what_one_piece_gives(strip):
    whole, strips = (fuse(UPSCALED, REFERENCE, (200, 200), MAPPING, LIGHT, TRUST, strip=rows) for rows in (1000, strip))
    for piece, joined in zip(whole, strips, strict=True):
        assert np.array_equal(piece, joined)


def test_levels_are_rounded_and_not_cut_off():
    """At a trust of 0.5 between 100 and 103 the level is 101.5, and the mean of all levels is kept."""
    identity = homography_map(np.eye(3), (64, 64))
    reference = np.random.default_rng(2).integers(40, 200, (64, 64, 3), dtype=np.uint8)
    alpha = np.random.default_rng(3).uniform(0, 1, (64, 64)).astype(np.float32)
    base = np.full((64, 64, 3), 100, np.uint8)
    gain = np.full((4, 4, 3), 0.9, np.float32)
    result, aligned = fuse(base, reference, (64, 64), identity, of_gain(gain), alpha)
    exact = 100 + alpha[..., None] * (0.9 * reference.astype(np.float64) - 100)
    assert (result - exact).mean() == pytest.approx(0, abs=0.02)
    assert (aligned - 0.9 * reference.astype(np.float64)).mean() == pytest.approx(0, abs=0.06)


def test_no_trust_leaves_the_upscale():
    assert np.array_equal(fused(0 * TRUST)[0], UPSCALED)


def test_full_trust_takes_the_reference():
    result, aligned = fused(0 * TRUST + 1)
    assert np.abs(result.astype(int) - aligned).max() <= 1
    assert np.abs(aligned.astype(int) - UPSCALED).mean() > 20


def test_half_trust_is_half_way():
    result, aligned = fused(0 * TRUST + 0.5)
    assert np.abs(result - (aligned.astype(float) + UPSCALED) / 2).max() <= 1.0


def test_the_reference_is_shown_where_the_map_says():
    identity = homography_map(np.eye(3), (200, 200))
    ones = np.ones((200, 200), np.float32)
    black = np.zeros_like(REFERENCE)
    assert np.array_equal(
        fuse(black, REFERENCE, (200, 200), identity, of_gain(np.ones((9, 9, 3), np.float32)), ones)[0], REFERENCE
    )


def test_light_multiplies():
    identity = homography_map(np.eye(3), (200, 200))
    half = np.full((4, 4, 3), 0.5, np.float32)
    aligned = fuse(0 * REFERENCE, REFERENCE, (200, 200), identity, of_gain(half), np.ones((4, 4), np.float32))[1]
    assert np.abs(aligned - REFERENCE / 2).max() <= 0.5


def test_the_offset_is_added_within_the_levels():
    identity = homography_map(np.eye(3), (200, 200))
    light = Light(np.ones((4, 4, 3), np.float32), np.full((4, 4, 3), 30, np.float32))
    aligned = fuse(0 * REFERENCE, REFERENCE, (200, 200), identity, light, np.ones((4, 4), np.float32))[1]
    assert np.array_equal(aligned, np.minimum(REFERENCE.astype(int) + 30, 255))


def test_of_a_grey_reference_only_the_luminance_is_taken():
    identity = homography_map(np.eye(3), (200, 200))
    grey = np.repeat(REFERENCE[..., :1], 3, axis=2)
    base = np.full_like(REFERENCE, (120, 80, 60))
    light, ones = of_gain(np.ones((4, 4, 3), np.float32)), np.ones((4, 4), np.float32)
    result = fuse(base, grey, (200, 200), identity, light, ones, luminance_only=True)[0].astype(int)
    free = (result > 0).all(axis=2) & (result < 255).all(axis=2)
    assert free.mean() > 0.3
    assert np.abs((result[..., 0] - result[..., 1] - 40)[free]).max() <= 1
    assert np.abs((result[..., 1] - result[..., 2] - 20)[free]).max() <= 1
    assert np.ptp(result[..., 0][free]) > 50
