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
MASK = np.zeros((100, 100), np.float32)
MASK[20:80, 30:70] = 1


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


def placed_at(x: float, y: float, scale: float = 2.0) -> np.ndarray:
    """Generated to reference, where the reference's corner is seen at (x, y), `scale` times smaller."""
    return np.array([[scale, 0, -scale * x], [0, scale, -scale * y], [0, 0, 1]])


def test_the_region_holds_the_object_and_its_margin():
    region = CoarseMap(placed_at(100, 60), None, (300, 200)).object_region(MASK, 0.15)
    assert region is not None
    # The object is seen from (115, 70) to (134.5, 99.5), and its longer side is 29.5.
    space = 0.15 * 29.5 + 4
    assert (region.left, region.top) == (int(115 - space), int(70 - space))
    assert region.right - 1 == pytest.approx(134.5 + space, abs=1)
    assert region.bottom - 1 == pytest.approx(99.5 + space, abs=1)


@pytest.mark.parametrize(("x", "y"), [(-20, -20), (270, 160), (-20, 160)])
def test_the_region_is_clipped_to_the_picture(x, y):
    region = CoarseMap(placed_at(x, y), None, (300, 200)).object_region(MASK, 0.15)
    assert region is not None
    assert 0 <= region.left < region.right <= 300
    assert 0 <= region.top < region.bottom <= 200


@pytest.mark.parametrize(("x", "y"), [(-200, 0), (400, 0), (0, 500)])
def test_an_object_outside_of_the_picture_has_no_region(x, y):
    assert CoarseMap(placed_at(x, y), None, (300, 200)).object_region(MASK, 0.15) is None


def test_an_object_of_which_next_to_nothing_is_in_the_picture_has_no_region():
    # The object ends at x = -4, its margin at 5.
    assert CoarseMap(placed_at(-38.5, 60), None, (300, 200)).object_region(MASK, 0.15) is None


def test_an_empty_mask_has_no_region():
    assert CoarseMap(placed_at(100, 60), None, (300, 200)).object_region(0 * MASK, 0.15) is None
