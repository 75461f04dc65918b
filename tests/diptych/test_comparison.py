"""PSNR and SSIM against scikit-image's, and against pictures whose distance is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refgc.diptych.comparison import MAXIMUM_PSNR, compare, fidelity, ssim_map
from refgc.imaging.image import Image, Mask
from tests.support.pictures import noise, refusal


def mask_of(box: tuple[int, int, int, int], size: tuple[int, int]) -> Mask:
    values = np.zeros((size[1], size[0]), np.float32)
    left, top, right, bottom = box
    values[top:bottom, left:right] = 1
    return Mask(values)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(8, 60), st.integers(8, 60), st.floats(0, 40))
def test_as_scikit_image_has_it(seed, width, height, amount):
    random = np.random.default_rng(seed)
    one = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 1.0)
    other = np.clip(one + amount * random.standard_normal(one.shape), 0, 255).astype(np.uint8)
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (one, other)]
    expected, full = structural_similarity(*greys, full=True)
    measured = fidelity(Image(one), Image(other), mask_of((2, 2, 7, 6), (width, height)))
    assert measured.ssim == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(ssim_map(one, other), full, atol=1e-9)
    assert measured.ssim_inside == pytest.approx(full[2:6, 2:7].mean(), abs=1e-9)
    if (one != other).any():
        assert measured.psnr == pytest.approx(peak_signal_noise_ratio(one, other), abs=1e-9)


def test_inside_counts_the_object_alone():
    truth = noise(40, 50)
    picture = truth.astype(int)
    picture[10:30, 20:40] += np.where(picture[10:30, 20:40] > 127, -10, 10)
    changed = Image(picture.astype(np.uint8))
    on_it = fidelity(Image(truth.copy()), changed, mask_of((20, 10, 40, 30), (50, 40)))
    beside_it = fidelity(Image(truth.copy()), changed, mask_of((0, 0, 15, 40), (50, 40)))
    assert on_it.psnr_inside == pytest.approx(10 * np.log10(255**2 / 10**2))
    assert on_it.psnr == pytest.approx(on_it.psnr_inside + 10 * np.log10(50 * 40 / (20 * 20)))
    assert on_it.ssim_inside < on_it.ssim < 1
    assert beside_it.psnr_inside == MAXIMUM_PSNR
    assert beside_it.ssim_inside == pytest.approx(1)


def test_less_than_half_of_a_pixel_is_not_the_object():
    truth, picture = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 100, np.uint8)
    picture[:, 10:] = 150
    values = np.full((20, 20), 0.49, np.float32)
    values[:, :10] = 0.5
    assert fidelity(Image(truth), Image(picture), Mask(values)).psnr_inside == MAXIMUM_PSNR


def test_gains_tell_which_picture_is_closer():
    truth = np.full((32, 32, 3), 100, np.uint8)
    mask = mask_of((8, 8, 24, 24), (32, 32))
    far, near = truth + np.uint8(20), truth + np.uint8(10)
    comparison = compare(Image(truth), Image(far), Image(near), mask)
    assert comparison.psnr_gain == pytest.approx(20 * np.log10(2))
    assert comparison.psnr_gain_inside == pytest.approx(20 * np.log10(2))
    assert comparison.ssim_gain > 0
    assert comparison.ssim_gain_inside > 0
    assert compare(Image(truth), Image(near), Image(far), mask).psnr_gain == pytest.approx(-comparison.psnr_gain)


def test_sizes_must_agree():
    truth, smaller = Image(noise(32, 32)), Image(noise(32, 31))
    mask = mask_of((8, 8, 24, 24), (32, 32))
    assert "31x32" in refusal(lambda: fidelity(truth, smaller, mask))
    assert "mask is 31x32" in refusal(lambda: fidelity(truth, truth, mask_of((8, 8, 24, 24), (31, 32))))
