"""The surface of an object in two views: a plane's homography, bent where the object is."""

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Floats, Size, size_of
from refgc.imaging.warp import homography_map, pixel_grid

# Flow that meets a surface within so many of its pixels is that surface's.
TOLERANCE = 1.5
# Below this share of agreeing samples, or this number of samples, there is no plane.
PLANE_SHARE = 0.4
SAMPLES = 100
# A quadratic must meet so much more of the flow than a plane does to be worth its freedom.
BENT_GAIN = 0.05
# Pulls the quadratic's second degree to nothing where no sample speaks.
STIFFNESS = 1e-5


def fit_surface(flow: Floats, believed: Floats, scale: float) -> Floats | None:
    """The map of the smooth surface that most of the believed flow agrees on, or None where it shows none.

    Args:
        flow: (height, width, 2), map into the reference.
        believed: (height, width), over 0.5 where `flow` is to be believed.
        scale: reference pixels per pixel of the map's frame.

    Returns:
        A map of the same shape: a homography by MAGSAC++ (Barath et al., 2020), bent by a quadratic where that meets
        clearly more of the flow, as on a cylinder seen turned.
    """
    keep = believed[::2, ::2] > 0.5
    size = size_of(flow)
    here, there = pixel_grid(size)[::2, ::2][keep], flow[::2, ::2][keep]
    if len(here) < SAMPLES:
        return None
    cv2.setRNGSeed(0)
    homography, agreeing = cv2.findHomography(here, there, cv2.USAC_MAGSAC, TOLERANCE * scale)
    if homography is None or float(np.mean(agreeing)) < PLANE_SHARE:
        return None
    plane = homography_map(homography, size)
    return plane + _bend(flow - plane, keep, scale)


def _bend(missed: Floats, keep: NDArray[np.bool_], scale: float) -> Floats:
    """The quadratic (height, width, 2) that a plane misses the flow by, or nothing where it misses little.

    `keep` is true at every second pixel of every second row where the flow is believed.

    Robust least squares, iteratively reweighted after Geman and McClure from coarse to fine.
    """
    terms = _quadratic(size_of(missed))
    design = terms[::2, ::2][keep].astype(np.float64)
    target = missed[::2, ::2][keep].astype(np.float64) / scale
    ridge = len(design) * np.diag([1e-9, 1e-9, 1e-9, STIFFNESS, STIFFNESS, STIFFNESS])
    bend = np.zeros((6, 2))
    for spread in (8.0, 4.0, 2.0, TOLERANCE, TOLERANCE):
        weight = (1.0 / (1.0 + ((target - design @ bend) ** 2).sum(axis=1) / spread**2)) ** 2
        weighted = (design * weight[:, None]).T
        bend = np.linalg.solve(weighted @ design + ridge, weighted @ target)
    met = float((np.linalg.norm(target - design @ bend, axis=1) < TOLERANCE).mean())
    met_by_plane = float((np.linalg.norm(target, axis=1) < TOLERANCE).mean())
    if met < met_by_plane + BENT_GAIN:
        return np.zeros_like(missed)
    return np.asarray((terms @ bend) * scale, np.float32)


def _quadratic(size: Size) -> Floats:
    """The monomials up to the second degree (height, width, 6) of coordinates scaled to [-1, 1]."""
    grid = pixel_grid(size)
    x, y = 2 * grid[..., 0] / size[0] - 1, 2 * grid[..., 1] / size[1] - 1
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
