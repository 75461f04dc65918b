"""The rigid-scene constraint: where two views of one rigid scene may correspond at all."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from refgc.imaging.arrays import Floats, size_of
from refgc.imaging.warp import pixel_grid

# Spacing of the flow samples a fundamental matrix is fitted to, in pixels of the flow frame.
SPACING = 4
# A sample farther than this from its epipolar line, in reference pixels, does not belong to the rigid scene.
TOLERANCE = 1.0
# Below this share of agreeing samples the scene is not rigid, or the flow is not of it.
AGREEMENT = 0.6
MINIMUM_SAMPLES = 200
# The final fit gains nothing from more samples than this: neighbours wobble together.
POLISHING_SAMPLES = 2000


def straighten(mapping: Floats, believed: Floats, scale: float) -> Floats:
    """Move a map onto the epipolar lines of the one rigid scene that most of it shows.

    A generative model wobbles the object by a pixel or so in any direction, views of a rigid scene differ only along
    the epipolar lines (Hartley and Zisserman, 2004, chapter 9): the part across the lines is wobble, and goes.

    Args:
        mapping: (height, width, 2) map into the reference.
        believed: (height, width), 1 where the map is to be trusted in the fit, else 0.
        scale: reference pixels per pixel of the map's frame.

    Returns:
        The straightened map, or `mapping` itself where no rigid scene explains it.
    """
    half = SPACING // 2
    grid = pixel_grid(size_of(mapping))
    keep = believed[half::SPACING, half::SPACING] > 0.5
    here = grid[half::SPACING, half::SPACING][keep]
    there = mapping[half::SPACING, half::SPACING][keep]
    if len(here) < MINIMUM_SAMPLES:
        return mapping
    cv2.setRNGSeed(0)
    tolerance = TOLERANCE * max(1.0, scale)
    matrix, agreeing = cv2.findFundamentalMat(here, there, cv2.USAC_MAGSAC, tolerance, 0.9999, 5000)
    if matrix is None or matrix.shape != (3, 3) or float(np.mean(agreeing)) < AGREEMENT:
        return mapping
    few = slice(None, None, -(-len(here) // POLISHING_SAMPLES))
    matrix = _polish(matrix, here[few].astype(np.float64), there[few].astype(np.float64), tolerance)
    lines = np.dstack([grid, np.ones(grid.shape[:2], np.float32)]).astype(np.float64) @ matrix.T
    # At the epipole itself every direction is along the line.
    length = np.maximum(np.linalg.norm(lines[..., :2], axis=2), 1e-12)
    normal = lines[..., :2] / length[..., None]
    offset = (lines[..., :2] * mapping).sum(axis=2) + lines[..., 2]
    distance = offset / length
    # What lies many tolerances off its line moves on its own; it stays where the flow found it.
    distance *= np.exp(-0.5 * (distance / (4.0 * tolerance)) ** 2)
    return np.asarray(mapping - normal * distance[..., None], np.float32)


def _polish(
    matrix: NDArray[np.float64], here: NDArray[np.float64], there: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """Robust least squares of the Sampson distance, the matrix kept at rank two by its singular value decomposition."""
    from_here, from_there = _normaliser(here), _normaliser(there)
    p, q = _homogeneous(here) @ from_here.T, _homogeneous(there) @ from_there.T
    left, values, right = np.linalg.svd(np.linalg.inv(from_there).T @ matrix @ np.linalg.inv(from_here))

    def build(x: NDArray[np.float64]) -> NDArray[np.float64]:
        middle = np.diag([1.0, values[1] / values[0] + x[6], 0.0])
        return np.asarray(left @ cv2.Rodrigues(x[:3])[0] @ middle @ cv2.Rodrigues(x[3:6])[0].T @ right)

    def sampson(x: NDArray[np.float64]) -> NDArray[np.float64]:
        candidate = build(x)
        lines, back = p @ candidate.T, q @ candidate
        gradient = (lines[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1)
        return np.asarray((q * lines).sum(axis=1) / np.sqrt(gradient + 1e-12) / from_there[0, 0])

    solution = least_squares(sampson, np.zeros(7), loss="cauchy", f_scale=tolerance, max_nfev=40)
    return np.asarray(from_there.T @ build(solution.x) @ from_here)


def _normaliser(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centre, spread = points.mean(axis=0), max(1e-6, float(points.std()))
    return np.array([[1 / spread, 0, -centre[0] / spread], [0, 1 / spread, -centre[1] / spread], [0, 0, 1.0]])


def _homogeneous(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([points, np.ones(len(points))])
