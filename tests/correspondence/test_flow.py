"""Optical flow: known displacements are found, and what only one picture shows is inconsistent."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence.flow import register
from refgc.imaging.warp import pixel_grid
from tests.support.synthetic import draw_card

CARD = draw_card(160, 0)
GRID = pixel_grid((160, 160))
INNER = np.s_[12:-12, 12:-12]


def shifted(x: float, y: float) -> np.ndarray:
    """The card moved by so many pixels."""
    moving = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return np.asarray(cv2.warpAffine(CARD, moving, (160, 160), borderMode=cv2.BORDER_REFLECT), np.uint8)


def warped(displacement: np.ndarray) -> np.ndarray:
    """The card sampled at each pixel's position plus a displacement."""
    positions = (GRID + displacement).astype(np.float32)
    return np.asarray(cv2.remap(CARD, positions, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.uint8)


@pytest.mark.parametrize("shift", [(2.0, -1.5), (-4.0, 3.0)])
def test_a_known_shift_is_found_and_added_to_the_map(shift):
    registration = register(CARD, shifted(*shift), 3 * GRID + 7, 1.0)
    assert np.percentile(np.linalg.norm(registration.flow - np.array(shift), axis=2)[INNER], 90) < 0.15
    assert np.median(registration.inconsistency[INNER]) < 0.1
    expected = 3 * (GRID + np.array(shift)) + 7
    assert np.percentile(np.abs(registration.mapping - expected)[INNER], 90) < 0.5


def test_what_only_one_picture_shows_is_inconsistent():
    other = CARD.copy()
    other[60:110, 60:110] = draw_card(50, 9)
    consistent = register(CARD, other, GRID, 1.0).inconsistency < 0.5
    assert consistent[65:105, 65:105].mean() < 0.3
    assert consistent[12:50, 12:-12].mean() > 0.95


def test_random_errors_of_detail_bend_the_flow_less_than_they_are():
    random = np.random.default_rng(0)
    errors = np.dstack([cv2.GaussianBlur(random.normal(size=(160, 160)), (0, 0), 2.5) for _ in range(2)])
    errors /= errors.std()
    assert register(warped(errors), CARD, GRID, 1.0).flow[INNER].std() < 0.57


def test_the_placed_reference_is_compared_as_soft_as_the_generated_picture():
    small = cv2.resize(CARD, (40, 40), interpolation=cv2.INTER_AREA)
    soft = np.asarray(cv2.resize(small, (160, 160), interpolation=cv2.INTER_CUBIC), np.uint8)
    known, unknown = (register(soft, shifted(1.3, -0.7), GRID, sharpness) for sharpness in (0.25, 1.0))
    assert known.inconsistency.mean() < 0.7 * unknown.inconsistency.mean()


def test_a_coarser_search_follows_less_detail():
    wave = np.dstack([1.2 * np.sin(GRID[..., 0] / 6), 0 * GRID[..., 0]])
    fine, coarse = (register(warped(wave), CARD, GRID, 1.0, finest).flow - wave for finest in (0, 2))
    assert np.abs(fine[INNER]).mean() < 0.3
    assert np.abs(coarse[INNER]).mean() > 1.5 * np.abs(fine[INNER]).mean()
