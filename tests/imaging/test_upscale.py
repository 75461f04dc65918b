"""The plain enlargement."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.imaging.upscale import clean_upscale
from tests.support.correspondence_pairs import PAIR, psnr

SIZE = (80, 80)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_upscale_shrinks_back_to_the_picture(scale):
    large = clean_upscale(PAIR.generated, (80 * scale, 80 * scale))
    assert large.shape == (80 * scale, 80 * scale, 3)
    back = cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA).astype(int)
    difference = np.abs(back - PAIR.generated)
    assert np.median(difference) == 0
    assert difference.mean() < 0.9


def test_the_same_size_is_the_picture_itself():
    assert np.array_equal(clean_upscale(PAIR.generated, SIZE), PAIR.generated)


def test_the_upscale_comes_as_near_to_the_truth_as_lanczos():
    lanczos = cv2.resize(PAIR.generated, (320, 320), interpolation=cv2.INTER_LANCZOS4)
    assert psnr(clean_upscale(PAIR.generated, (320, 320)), PAIR.truth) > psnr(lanczos, PAIR.truth) - 0.1


def test_noise_of_a_few_levels_is_smoothed_and_edges_are_not():
    noisy = np.full((60, 60, 3), 60, np.int16)
    noisy[:, 30:] = 190
    noisy += np.random.default_rng(0).integers(-5, 6, noisy.shape, dtype=np.int16)
    large = clean_upscale(noisy.astype(np.uint8), (240, 240)).astype(float)
    assert large[:, 20:80].std() < 0.7 * noisy[:, 5:20].std()
    assert large[:, 112].mean() < 80
    assert large[:, 127].mean() > 170


@pytest.mark.parametrize("level", [0, 255])
def test_one_colour_stays_the_same(level):
    assert (clean_upscale(np.full((20, 30, 3), level, np.uint8), (120, 80)) == level).all()
