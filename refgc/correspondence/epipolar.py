"""The epipolar constraint: corresponding points of a rigid scene lie on epipolar lines."""

import cv2
import numpy as np
import scipy  # imports a part of it at its first use: the start of the page need not wait for that
from numpy.typing import NDArray

from refgc.imaging.arrays import Bools, Floats, size_of
from refgc.imaging.warp import pixel_grid

# The constants of this file were chosen by hand, not fitted.
# Spacing in pixels of the flow frame of the samples that the fundamental matrix is estimated from.
SPACING = 4
# Largest distance of an inlier to its epipolar line, in reference pixels.
TOLERANCE = 1.0
# With a smaller fraction of inliers, or fewer samples, no rigid scene is assumed.
INLIER_FRACTION = 0.6
MINIMUM_SAMPLES = 200
# Samples for the final least squares; more would add nothing, since the errors of neighbours are correlated.
REFINEMENT_SAMPLES = 2000


def fundamental_matrix(
    here: Floats, there: Floats, tolerance: float, iterations: int
) -> tuple[NDArray[np.float64] | None, Bools]:
    """The fundamental matrix that most matches agree with (MAGSAC++, Barath et al., 2020).

    Args:
        here: (n, 2), (x, y) in pixels of one picture.
        there: (n, 2), the same places in the other.
        tolerance: largest distance of an inlier to its epipolar line in pixels.
        iterations: most samples that are drawn.

    Returns:
        The matrix (3, 3), and which matches agree (n,); None and nowhere true where none was found.
    """
    nowhere = np.zeros(len(here), np.bool_)
    cv2.setRNGSeed(0)
    try:
        matrix, inliers = cv2.findFundamentalMat(here, there, cv2.USAC_MAGSAC, tolerance, 0.9999, iterations)
    except cv2.error:
        # OpenCV 5.0 raises where its last refinement leaves no matrix, which happens with points of one plane.
        return None, nowhere
    # OpenCV stacks the matrices where several fit equally well.
    if matrix is None or matrix.shape != (3, 3):
        return None, nowhere
    return np.asarray(matrix), np.asarray(inliers.ravel() > 0, np.bool_)


def enforce_epipolar_geometry(mapping: Floats, reliable: Floats, scale: float) -> Floats:
    """Project a map onto the epipolar lines of the rigid scene that most of it shows.

    Views of a rigid scene differ only along epipolar lines (Hartley and Zisserman, 2004, chapter 9). A generative model
    displaces parts by about a pixel in any direction. The component across the lines is such an error and is removed.

    Args:
        mapping: (height, width, 2), map into the reference in pixels.
        reliable: (height, width), above 0.5 where the map may be used for the estimate.
        scale: reference pixels per pixel of the map's frame.

    Returns:
        The corrected map, or `mapping` itself where no rigid scene explains it.
    """
    half = SPACING // 2
    grid = pixel_grid(size_of(mapping))
    keep = reliable[half::SPACING, half::SPACING] > 0.5
    here = grid[half::SPACING, half::SPACING][keep]
    there = mapping[half::SPACING, half::SPACING][keep]
    if len(here) < MINIMUM_SAMPLES:
        return mapping
    tolerance = TOLERANCE * max(1.0, scale)
    matrix, inliers = fundamental_matrix(here, there, tolerance, 5000)
    if matrix is None or float(inliers.mean()) < INLIER_FRACTION:
        return mapping
    few = slice(None, None, -(-len(here) // REFINEMENT_SAMPLES))
    matrix = _refined_fundamental_matrix(matrix, here[few].astype(np.float64), there[few].astype(np.float64), tolerance)
    lines = np.dstack([grid, np.ones(grid.shape[:2], np.float32)]).astype(np.float64) @ matrix.T
    # At the epipole the line has no direction, and the distance must stay finite.
    length = np.maximum(np.linalg.norm(lines[..., :2], axis=2), 1e-12)
    normal = lines[..., :2] / length[..., None]
    offset = (lines[..., :2] * mapping).sum(axis=2) + lines[..., 2]
    distance = offset / length
    # What lies many tolerances off its line moves independently of the rigid scene and is left where the flow found it.
    distance *= np.exp(-0.5 * (distance / (4.0 * tolerance)) ** 2)
    return np.asarray(mapping - normal * distance[..., None], np.float32)


def _refined_fundamental_matrix(
    matrix: NDArray[np.float64], here: NDArray[np.float64], there: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """Minimise the robust (Cauchy) Sampson distance over fundamental matrices.

    Seven parameters over the singular value decomposition keep the matrix at rank two (Bartoli and Sturm, 2004).
    """
    from_here, from_there = _normalisation(here), _normalisation(there)
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

    solution = scipy.optimize.least_squares(sampson, np.zeros(7), loss="cauchy", f_scale=tolerance, max_nfev=40)
    return np.asarray(from_there.T @ build(solution.x) @ from_here)


def _normalisation(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 3x3 map that centres points and scales them to unit spread (Hartley, 1997)."""
    centre, spread = points.mean(axis=0), max(1e-6, float(points.std()))
    return np.array([[1 / spread, 0, -centre[0] / spread], [0, 1 / spread, -centre[1] / spread], [0, 0, 1.0]])


def _homogeneous(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([points, np.ones(len(points))])
