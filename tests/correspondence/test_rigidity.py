"""Local affine regression: affine maps pass, wobble goes, edges of the map stay."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.correspondence.rigidity import regularise
from refgc.imaging.warp import pixel_grid

GRID = pixel_grid((160, 120))
RELIABLE = np.ones((120, 160), np.float32)
PLAIN = np.full((120, 160, 3), 128, np.uint8)


def affine() -> np.ndarray:
    return (GRID @ np.array([[1.02, 0.01], [-0.015, 0.99]], np.float32) + np.array([3.0, -2.0], np.float32)).astype(
        np.float32
    )


def test_an_affine_map_is_returned():
    off = np.abs(regularise(affine(), GRID, RELIABLE, PLAIN, 1.0) - affine())
    assert off.max() < 0.1
    assert off[4:-4, 4:-4].max() < 0.04


def test_the_base_itself_is_returned_exactly():
    assert regularise(affine(), affine(), RELIABLE, PLAIN, 1.0) == pytest.approx(affine(), abs=1e-4)


def test_small_smooth_wobble_goes():
    x, y = GRID[..., 0], GRID[..., 1]
    wobble = 0.3 * np.dstack([np.sin(x / 5) * np.cos(y / 6), np.cos(x / 6) * np.sin(y / 5)]).astype(np.float32)
    regular = regularise(affine() + wobble, GRID, RELIABLE, PLAIN, 1.0)
    assert (regular - affine()).std() < 0.12 * wobble.std()


def test_an_edge_of_the_map_at_an_edge_of_the_picture_stays():
    mapping, guide = affine(), PLAIN.copy()
    mapping[:, 80:] += np.array([6.0, 0.0], np.float32)
    guide[:, 80:] = (220, 60, 40)
    regular = regularise(mapping, GRID, RELIABLE, guide, 1.0)
    away = np.abs(np.arange(160) - 79.5) > 6
    assert np.abs(regular - mapping)[:, away].max() < 0.25


def test_what_is_not_believed_is_filled_from_around():
    mapping, reliable = affine(), RELIABLE.copy()
    mapping[50:70, 60:90] += np.array([4.0, -3.0], np.float32)
    reliable[50:70, 60:90] = 0
    assert np.abs(regularise(mapping, GRID, reliable, PLAIN, 1.0) - affine()).max() < 0.3


def test_without_belief_a_prior_keeps_the_base():
    regular = regularise(affine() + np.array([9.0, 9.0], np.float32), affine(), 0 * RELIABLE, PLAIN, 1.0, prior=100.0)
    assert np.abs(regular - affine()).max() < 0.5


@pytest.mark.parametrize("size", [(16, 160), (160, 16), (9, 9), (33, 20)])
def test_any_shape_keeps_its_size(size):
    grid = pixel_grid(size)
    shape = (size[1], size[0])
    regular = regularise(grid + np.float32(1), grid, np.ones(shape, np.float32), np.zeros((*shape, 3), np.uint8), 1.0)
    assert regular == pytest.approx(grid + 1, abs=0.01)


def test_a_faint_edge_of_the_picture_keeps_a_small_edge_of_the_map():
    mapping, guide = affine(), PLAIN.copy()
    mapping[:, 80:] += np.array([1.2, 0.0], np.float32)
    guide[:, 80:] = (190, 100, 100)
    away = np.abs(np.arange(160) - 79.5) > 4
    assert np.abs(regularise(mapping, GRID, RELIABLE, guide, 1.0) - mapping)[:, away].max() < 0.27


def test_a_large_edge_of_the_map_stays_without_an_edge_of_the_picture():
    mapping = affine()
    mapping[:, 80:] += np.array([6.0, 0.0], np.float32)
    away = np.abs(np.arange(160) - 79.5) > 10
    assert np.abs(regularise(mapping, GRID, RELIABLE, PLAIN, 1.0) - mapping)[:, away].max() < 0.15
