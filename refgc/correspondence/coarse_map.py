"""A coarse map from matches: a homography, the smooth deviation from it, or the map of a turned cylinder."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.cylinder import Cylinder
from refgc.correspondence.match import Matches, folds
from refgc.imaging.arrays import Bools, Floats, Size, size_of
from refgc.imaging.region import Region, region_around
from refgc.imaging.warp import fitted, homography_map, pixel_grid, rescale_points, rescaling, warp_mask

# The constants of this file were chosen by hand, not fitted.
# Nodes along the longer side of the picture.
NODES = 64
# Each node's regression takes so many nearest matches. Its window reaches to this one of them, and at least so far, as
# a share of the longer side.
NEIGHBOURS = 32
WINDOW_NEIGHBOUR = 12
LEAST_REACH = 0.02
# Residual in pixels of the generated picture's matching frame at which a match's weight has fallen to a quarter.
RESIDUAL = 6.0
REWEIGHTINGS = 4
# Weight of no deviation, in units of one match in the middle of the window.
PRIOR = 0.5
# Coverage from which on a grid's point counts as the object.
COVERED = 0.25
# Ridge on the slopes, in units of the squared reach.
SLOPE_RIDGE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class CoarseMap:
    """A map from the generated picture into the reference, both in pixels of the original pictures.

    Attributes:
        homography: 3x3.
        deviation: (rows, columns, 2) over the whole generated picture, in reference pixels; None for a plane.
        size: (width, height) of the generated picture.
        cylinder: takes the place of both where the object is one.
    """

    homography: NDArray[np.float64]
    deviation: Floats | None
    size: Size
    cylinder: Cylinder | None = None

    def object_region(self, mask: Floats, margin: float) -> Region | None:
        """The part of the generated picture in which the reference's object is seen, or None where it lies outside.

        Args:
            mask: (height, width) of the reference, above 0.5 on the object.
            margin: added on each side, as a fraction of the object's longer side.
        """
        outline = self._outline(mask)
        return None if outline is None else region_around(outline, self.size, margin)

    def covered(self, mask: Floats, region: Region, size: Size) -> Bools:
        """Where the object is, on a grid over a region of the generated picture, also where it shows another side.

        Args:
            mask: as for `object_region`.
            region: the part of the generated picture.
            size: (width, height) of the grid.
        """
        covered = self.placed(mask, region, size) > COVERED
        outline = None if self.cylinder is None else self._outline(mask)
        if outline is None:
            return covered
        from_picture = np.linalg.inv(region.to_picture() @ rescaling(size, region.size))
        corners = cv2.perspectiveTransform(cv2.convexHull(outline), from_picture)
        filled = cv2.fillConvexPoly(np.zeros((size[1], size[0]), np.uint8), np.rint(corners).astype(np.int32), 1)
        return np.asarray(covered | (filled > 0))

    def _outline(self, mask: Floats) -> Floats | None:
        """Points (n, 2) of the generated picture around the object; None where the mask is empty."""
        outlines, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if not outlines:
            return None
        outline = np.concatenate(outlines).astype(np.float32).reshape(-1, 2)
        if self.cylinder is not None:
            return self.cylinder.outline(outline)
        there = cv2.perspectiveTransform(cv2.convexHull(outline), np.linalg.inv(self.homography))
        return np.asarray(there.reshape(-1, 2), np.float32)

    def points(self, region: Region, size: Size) -> Floats:
        """The points (height, width, 2) of the generated picture that a grid over a region of it stands for."""
        return homography_map(region.to_picture() @ rescaling(size, region.size), size)

    def placed(self, mask: Floats, region: Region, size: Size) -> Floats:
        """The reference's mask (height, width) as it is placed on a grid over a region of the generated picture."""
        mapping, shown = self.seen(region, size)
        return warp_mask(mask, mapping, shown)

    def seen(self, region: Region, size: Size) -> tuple[Floats, Floats | None]:
        """The map of `over`, and how well that is shown, (height, width) in [0, 1]; None where it shows all."""
        if self.cylinder is None:
            return self.over(region, size), None
        return self.cylinder.mapped(self.points(region, size))

    def over(self, region: Region, size: Size) -> Floats:
        """The map (height, width, 2) on a grid of `size` over a region of the generated picture."""
        if self.cylinder is not None:
            return self.seen(region, size)[0]
        plane = homography_map(self.homography @ region.to_picture() @ rescaling(size, region.size), size)
        if self.deviation is None:
            return plane
        nodes = rescale_points(self.points(region, size), self.size, size_of(self.deviation))
        bent = cv2.remap(self.deviation, nodes, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(plane + bent, np.float32)


def fit_coarse_map(homography: NDArray[np.float64], matches: Matches, size: Size, tolerance: float) -> CoarseMap:
    """The homography with its deviation, a robust local affine regression of the matches' residuals.

    Args:
        homography: 3x3, from generated to reference coordinates of the original pictures.
        matches: that agree with each other, in the same coordinates.
        size: (width, height) of the generated picture.
        tolerance: pixels of the reference that one pixel of the generated picture's matching frame is.
    """
    here = matches.generated.astype(np.float64)
    expected = cv2.perspectiveTransform(here.reshape(-1, 1, 2), homography).reshape(-1, 2)
    residual = matches.reference - expected
    nodes = fitted(size, NODES)
    grid = rescale_points(pixel_grid(nodes).reshape(-1, 2), nodes, size).astype(np.float64)
    deviation = _regressed(grid, here, residual, LEAST_REACH * max(size), RESIDUAL * tolerance)
    return CoarseMap(homography, deviation.reshape(nodes[1], nodes[0], 2).astype(np.float32), size)


def held_out_errors(
    homography: NDArray[np.float64], matches: Matches, size: Size, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By how many pixels of the reference the plane, and its coarse map fitted to other matches, miss each match.

    The plane is that of all matches: its few parameters follow none of them.

    Args:
        homography: 3x3, from generated to reference coordinates of the original pictures.
        matches: that agree with each other, in the same coordinates.
        size: (width, height) of the generated picture.
        tolerance: as for `fit_coarse_map`.
    """
    here = matches.generated.astype(np.float64)
    residual = matches.reference - cv2.perspectiveTransform(here.reshape(-1, 1, 2), homography).reshape(-1, 2)
    rest = np.zeros_like(residual)
    for left in folds(len(here)):
        kept = ~left
        bent = _regressed(here[left], here[kept], residual[kept], LEAST_REACH * max(size), RESIDUAL * tolerance)
        rest[left] = residual[left] - bent
    return np.linalg.norm(residual, axis=1), np.linalg.norm(rest, axis=1)


def _regressed(
    grid: NDArray[np.float64], here: NDArray[np.float64], residual: NDArray[np.float64], reach: float, scale: float
) -> NDArray[np.float64]:
    """The regression's value at each point of a grid (m, 2): (m, 2)."""
    distance = ((here[None] - grid[:, None]) ** 2).sum(axis=2)
    count = min(NEIGHBOURS, len(here))
    nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
    offset, residual = here[nearest] - grid[:, None], residual[nearest]
    squared = (offset**2).sum(axis=2)
    # Where matches are far, the window is wide, and what it holds says less.
    neighbour = min(WINDOW_NEIGHBOUR, count) - 1
    window = np.maximum(np.sqrt(np.partition(squared, neighbour, axis=1)[:, neighbour]), reach)[:, None]
    near = np.exp(-2.0 * squared / window**2)
    design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset / window[..., None]], axis=2)
    ridge = np.diag([PRIOR, SLOPE_RIDGE, SLOPE_RIDGE])
    solution = np.zeros((len(grid), 3, 2))
    weight = near
    for _ in range(REWEIGHTINGS):
        weighted = (design * weight[..., None]).transpose(0, 2, 1)
        solution = np.linalg.solve(weighted @ design + ridge, weighted @ residual)
        error = residual - design @ solution
        weight = near / (1.0 + (error**2).sum(axis=2) / scale**2) ** 2
    return solution[:, 0]
