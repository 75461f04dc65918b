"""Own colours are told from the white behind them; enlarged transparency has no ringing."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.imaging.transparency import changed_over_white, without_white
from refgc.imaging.upscale import upscale_alpha
from tests.support.pictures import noise


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_own_colours_are_found_again(dtype):
    top = np.iinfo(dtype).max
    colours = noise(600, 40, dtype=dtype)
    alpha = np.random.default_rng(1).uniform(0.2, 1, (600, 40)).astype(np.float32)
    alpha[:300] = 1
    flat = np.rint(alpha[..., None] * colours.astype(float) + (1 - alpha[..., None]) * top).astype(dtype)
    own = without_white(flat, alpha)
    assert own.dtype == dtype
    np.testing.assert_array_equal(own[:300], colours[:300])
    assert np.abs(own.astype(int) - colours).max() <= 4


def test_what_is_hidden_is_white_or_the_colour_nearby():
    flat = np.full((600, 40, 3), 255, np.uint8)
    alpha = np.zeros((600, 40), np.float32)
    flat[280:300, 10:30], alpha[280:300, 10:30] = (90, 20, 140), 1
    own = without_white(flat, alpha)
    assert (own[:200] == 255).all()
    assert np.abs(own[278:302, 8:32].astype(int) - (90, 20, 140)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_change_counts_where_the_picture_is_opaque(dtype):
    before, after = noise(600, 40, dtype=dtype), noise(600, 40, dtype=dtype)[::-1]
    alpha = np.full((600, 40), 0.5, np.float32)
    alpha[:100], alpha[100:200] = 0, 1
    changed = changed_over_white(before, after, alpha)
    assert changed.dtype == dtype
    np.testing.assert_array_equal(changed[:100], before[:100])
    np.testing.assert_array_equal(changed[100:200], after[100:200])
    np.testing.assert_array_equal(changed_over_white(before, before, alpha), before)
    quarter = before[200:] + 0.25 * (after[200:].astype(float) - before[200:])
    assert np.abs(changed[200:] - quarter).max() <= 0.51


@pytest.mark.parametrize("scale", [2, 4])
def test_enlarged_transparency_has_no_ringing(scale):
    alpha = np.zeros((30, 40), np.float32)
    alpha[8:22, 8:30] = 1
    large = upscale_alpha(alpha, (40 * scale, 30 * scale))
    assert large.shape == (30 * scale, 40 * scale)
    assert (large[: 7 * scale] == 0).all()
    assert (large[9 * scale : 21 * scale, 9 * scale : 29 * scale] == 1).all()
    assert large.min() == 0
    assert large.max() == 1
    # The edge is soft, lies where it was, and covers the same area.
    assert 0.3 < large[8 * scale, 15 * scale] < 0.9
    assert large.mean() == pytest.approx(alpha.mean(), rel=0.01)


def test_transparency_of_the_same_size_is_the_same():
    alpha = np.random.default_rng(2).uniform(0, 1, (30, 40)).astype(np.float32)
    np.testing.assert_array_equal(upscale_alpha(alpha, (40, 30)), alpha)


def test_an_even_transparency_stays_even():
    half = np.full((20, 30), 0.5, np.float32)
    np.testing.assert_allclose(upscale_alpha(half, (120, 80)), 0.5, atol=1e-6)
