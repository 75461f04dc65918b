"""A parametric surface fitted to flow: the homography of a plane, with a quadratic correction for curved objects."""

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Floats, Size, size_of
from refgc.imaging.warp import homography_map, pixel_grid

# The constants of this file were chosen by hand, not fitted.
# Largest residual of an inlier, in pixels of the map's frame.
TOLERANCE = 1.5
# With a smaller fraction of inliers, or fewer samples, there is no plane.
PLANE_INLIERS = 0.4
MINIMUM_SAMPLES = 100
# The quadratic is used only if it raises the fraction of inliers by at least this.
QUADRATIC_GAIN = 0.05
# Ridge on the terms of second degree, for where there are no samples.
RIDGE = 1e-5
# Scales in pixels of the robust weights, from coarse to fine.
SCALES = (8.0, 4.0, 2.0, TOLERANCE, TOLERANCE)


def fit_surface(flow: Floats, reliable: Floats, scale: float) -> Floats | None:
    """The smooth surface that most of the reliable flow agrees with, or None where there is none.

    A homography is estimated by MAGSAC++ (Barath et al., 2020). A quadratic is added to it where that has clearly more
    inliers, as on a cylinder seen from another side.

    Args:
        flow: (height, width, 2), map into the reference in pixels.
        reliable: (height, width), above 0.5 where `flow` is reliable.
        scale: reference pixels per pixel of the map's frame.

    Returns:
        A map of the same shape.
    """
    keep = reliable[::2, ::2] > 0.5
    size = size_of(flow)
    here, there = pixel_grid(size)[::2, ::2][keep], flow[::2, ::2][keep]
    if len(here) < MINIMUM_SAMPLES:
        return None
    cv2.setRNGSeed(0)
    homography, inliers = cv2.findHomography(here, there, cv2.USAC_MAGSAC, TOLERANCE * scale)
    if homography is None or float(np.mean(inliers)) < PLANE_INLIERS:
        return None
    plane = homography_map(homography, size)
    return plane + _quadratic_correction(flow - plane, keep, scale)


def _quadratic_correction(residual: Floats, keep: NDArray[np.bool_], scale: float) -> Floats:
    """The quadratic (height, width, 2) through a plane's residual, or 0 where it gains few inliers.

    Iteratively reweighted least squares (Geman and McClure, 1987) from coarse to fine. `keep` has every second pixel of
    every second row, true where the flow is reliable.
    """
    terms = _monomials(size_of(residual))
    design = terms[::2, ::2][keep].astype(np.float64)
    target = residual[::2, ::2][keep].astype(np.float64) / scale
    ridge = len(design) * np.diag([1e-9, 1e-9, 1e-9, RIDGE, RIDGE, RIDGE])
    coefficients = np.zeros((6, 2))
    for spread in SCALES:
        weight = (1.0 / (1.0 + ((target - design @ coefficients) ** 2).sum(axis=1) / spread**2)) ** 2
        weighted = (design * weight[:, None]).T
        coefficients = np.linalg.solve(weighted @ design + ridge, weighted @ target)
    inliers = float((np.linalg.norm(target - design @ coefficients, axis=1) < TOLERANCE).mean())
    inliers_of_plane = float((np.linalg.norm(target, axis=1) < TOLERANCE).mean())
    if inliers < inliers_of_plane + QUADRATIC_GAIN:
        return np.zeros_like(residual)
    return np.asarray((terms @ coefficients) * scale, np.float32)


def _monomials(size: Size) -> Floats:
    """The monomials up to the second degree (height, width, 6) of coordinates scaled to [-1, 1]."""
    grid = pixel_grid(size)
    x, y = 2 * grid[..., 0] / size[0] - 1, 2 * grid[..., 1] / size[1] - 1
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
