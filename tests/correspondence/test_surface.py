"""The one smooth surface in a flow: planes and bent planes are found, disorder is not."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.correspondence.surface import fit_surface
from refgc.imaging.warp import homography_map, pixel_grid

SIZE = (160, 120)
RELIABLE = np.ones((120, 160), np.float32)
PLANE = homography_map(np.array([[1.1, 0.1, 5.0], [-0.05, 0.95, -3.0], [2e-4, 1e-4, 1]]), SIZE)


def noisy(flow: np.ndarray) -> np.ndarray:
    return (flow + np.random.default_rng(0).normal(0, 0.3, flow.shape)).astype(np.float32)


def test_a_plane_is_found_among_what_moves_otherwise():
    flow = noisy(PLANE)
    flow[:, :50] += np.array([7.0, -5.0], np.float32)
    surface = fit_surface(flow, RELIABLE, 1.0)
    assert surface is not None
    assert np.abs(surface - PLANE)[:, 50:].max() < 1.0


@pytest.mark.parametrize("bend", [6.0, -9.0])
def test_a_bent_surface_is_followed(bend):
    x = 2 * pixel_grid(SIZE)[..., 0] / SIZE[0] - 1
    bent = PLANE.copy()
    bent[..., 0] += np.float32(bend) * x * x
    surface = fit_surface(noisy(bent), RELIABLE, 1.0)
    assert surface is not None
    assert np.abs(surface - bent).max() < 1.0


def test_a_flow_without_any_surface_has_none():
    flow = pixel_grid(SIZE) + np.random.default_rng(1).uniform(-30, 30, (120, 160, 2)).astype(np.float32)
    assert fit_surface(flow, RELIABLE, 1.0) is None


def test_what_is_not_believed_does_not_count():
    flow, reliable = noisy(PLANE), 0 * RELIABLE
    reliable[:, 60:] = 1
    flow[:, :60] = 999
    surface = fit_surface(flow, reliable, 1.0)
    assert surface is not None
    assert np.abs(surface - PLANE)[:, 60:].max() < 1.0
    assert fit_surface(flow, 0 * reliable, 1.0) is None


def test_a_plane_is_found_though_half_of_the_flow_is_disorder():
    random, flow = np.random.default_rng(1), noisy(PLANE)
    wrong = random.random((120, 160)) < 0.5
    flow[wrong] += random.uniform(-40, 40, (int(wrong.sum()), 2)).astype(np.float32)
    surface = fit_surface(flow, RELIABLE, 1.0)
    assert surface is not None
    assert np.abs(surface - PLANE).max() < 0.5


def test_a_bend_within_the_tolerance_is_no_reason_to_leave_the_plane():
    x = 2 * pixel_grid(SIZE)[..., 0] / SIZE[0] - 1
    bent = PLANE.copy()
    bent[..., 0] += x * x
    surface = fit_surface(noisy(bent), RELIABLE, 1.0)
    assert surface is not None
    assert np.abs(surface - bent).max() > 0.2
