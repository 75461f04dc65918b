"""The rigid-scene constraint takes off what no rigid scene can show, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence.epipolar import enforce_epipolar_geometry
from refgc.imaging.warp import pixel_grid

SIZE = (160, 120)
RELIABLE = np.ones((120, 160), np.float32)


def smooth_noise(seed: int, reach: float) -> np.ndarray:
    """(120, 160) of standard deviation 1."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(120, 160)).astype(np.float32), (0, 0), reach)
    return np.asarray((noise - noise.mean()) / noise.std())


def two_views(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The map between two cameras that look at a hilly scene, and the unit normals of its epipolar lines."""
    camera = np.array([[150, 0, 80], [0, 150, 60], [0, 0, 1.0]])
    turn = cv2.Rodrigues(np.array([0.02, -0.05, 0.08]))[0]
    step = np.array([0.5, 0.2, 0.1])
    rays = np.dstack([pixel_grid(SIZE), np.ones((120, 160))]) @ np.linalg.inv(camera).T
    depth = 4.0 + 0.6 * smooth_noise(seed, 12.0)[..., None]
    there = (rays * depth) @ turn.T + step
    mapping = there @ camera.T
    cross = np.array([[0, -step[2], step[1]], [step[2], 0, -step[0]], [-step[1], step[0], 0]])
    lines = rays @ (np.linalg.inv(camera).T @ cross @ turn).T
    normals = lines[..., :2] / np.linalg.norm(lines[..., :2], axis=2, keepdims=True)
    return (mapping[..., :2] / mapping[..., 2:]).astype(np.float32), normals


@pytest.mark.parametrize("seed", range(3))
def test_wobble_across_the_epipolar_lines_goes(seed):
    mapping, normals = two_views(seed)
    wobble = 0.5 * smooth_noise(seed + 100, 2.0)
    corrected = enforce_epipolar_geometry((mapping + normals * wobble[..., None]).astype(np.float32), RELIABLE, 1.0)
    across = ((corrected - mapping) * normals).sum(axis=2)
    assert across.std() < 0.2 * wobble.std()


def test_what_lies_along_the_epipolar_lines_stays():
    mapping, normals = two_views(0)
    along = np.dstack([-normals[..., 1], normals[..., 0]])
    moved = (mapping + along * 2.0 * smooth_noise(5, 6.0)[..., None]).astype(np.float32)
    assert np.abs(enforce_epipolar_geometry(moved, RELIABLE, 1.0) - moved).max() < 0.1


def test_what_moves_on_its_own_stays_where_it_is():
    mapping, normals = two_views(0)
    moved = mapping.copy()
    moved[20:40, 20:50] += (25 * normals[20:40, 20:50]).astype(np.float32)
    corrected = enforce_epipolar_geometry(moved, RELIABLE, 1.0)
    assert np.abs(corrected - moved)[20:40, 20:50].max() < 0.5


def test_a_map_of_no_rigid_scene_is_left_alone():
    waving = pixel_grid(SIZE) + 8 * np.dstack([smooth_noise(1, 5.0), smooth_noise(2, 5.0)])
    assert np.array_equal(
        enforce_epipolar_geometry(waving.astype(np.float32), RELIABLE, 1.0), waving.astype(np.float32)
    )


def test_too_little_belief_leaves_the_map_alone():
    mapping, normals = two_views(0)
    moved = (mapping + normals * 0.5).astype(np.float32)
    reliable = np.zeros_like(RELIABLE)
    reliable[:20, :20] = 1
    assert np.array_equal(enforce_epipolar_geometry(moved, reliable, 1.0), moved)
