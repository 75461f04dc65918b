"""Coarse maps: a plane stays one, a bend is followed, and an outlier bends nothing."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.correspondence.coarse_map import CoarseMap, fit_coarse_map
from refgc.correspondence.match import Matches
from refgc.imaging.region import Region
from refgc.imaging.warp import pixel_grid, rescale_points

SIZE = (200, 160)
PLANE = np.array([[3.0, 0.1, 20.0], [-0.2, 3.2, 10.0], [0, 0, 1]])


def matches(bend: float, seed: int = 0, count: int = 300) -> Matches:
    """Matches that lie off the plane by a bend of so many reference pixels."""
    points = np.random.default_rng(seed).uniform((20, 20), (180, 140), (count, 2)).astype(np.float32)
    unknown = np.full(count, np.nan, np.float32)
    return Matches(points, at(points, bend), unknown, unknown, 0 * unknown)


def at(points: np.ndarray, bend: float) -> np.ndarray:
    there = points @ PLANE[:2, :2].T + PLANE[:2, 2]
    there[..., 0] += bend * np.sin(points[..., 0] / 30)
    return np.asarray(there, np.float32)


def grid(region: Region, size: tuple[int, int]) -> np.ndarray:
    """The points of the picture that a grid over a region stands for."""
    return rescale_points(pixel_grid(size), size, region.size) + np.array([region.left, region.top], np.float32)


@pytest.mark.parametrize("bend", [0.0, 15.0])
def test_a_bend_is_followed_over_any_region(bend):
    coarse = fit_coarse_map(PLANE, matches(bend), SIZE, 3.0)
    region = Region(40, 30, 160, 130)
    mapping = coarse.over(region, (240, 200))
    assert mapping.shape == (200, 240, 2)
    off = np.linalg.norm(mapping - at(grid(region, (240, 200)), bend), axis=2)
    assert off.max() < 0.2 * bend + 0.1
    assert off.mean() < 0.1 * bend + 0.05


def test_outliers_bend_nothing():
    good = matches(15.0)
    reference = good.reference.copy()
    reference[::10] += np.random.default_rng(1).uniform(60, 120, (30, 2)).astype(np.float32)
    region = Region(40, 30, 160, 130)
    mapping = fit_coarse_map(PLANE, good.at(good.generated, reference), SIZE, 3.0).over(region, (120, 100))
    assert np.linalg.norm(mapping - at(grid(region, (120, 100)), 15.0), axis=2).mean() < 2.0


def test_far_from_all_matches_the_map_stays_near_the_plane():
    few = matches(0.0, count=20)
    near = few.generated[:, 0] < 80
    shifted = few.at(few.generated, few.reference + np.float32(6)).subset(near)
    mapping = fit_coarse_map(PLANE, shifted, SIZE, 3.0).over(Region(0, 0, *SIZE), SIZE)
    off = np.linalg.norm(mapping - at(pixel_grid(SIZE), 0.0), axis=2)
    assert off[:, 190:].max() < 40


def test_without_a_deviation_it_is_the_homography():
    mapping = CoarseMap(PLANE, None, SIZE).over(Region(10, 20, 60, 70), (50, 50))
    assert mapping == pytest.approx(at(pixel_grid((50, 50)) + np.array([10, 20], np.float32), 0.0), abs=1e-3)
