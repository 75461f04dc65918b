"""Alignment of two silhouettes: an affine map of their shapes, and a smooth bend that makes their outlines meet.

Shapes are compared in a canonical frame: a small square in which each silhouette has its centroid in the middle and the
same area. Place and size in the picture are thereby known, and rotation, aspect, shear and bend are left to be found.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bools, Floats, blur
from refgc.imaging.warp import pixel_grid
from refgc.masks import morphology

# The constants of this file were chosen by hand, not fitted.
# Side of the canonical frame in pixels, and the square root of a silhouette's area in it.
SIDE = 128
EXTENT = 52.0
# Rotations that are tried are so many degrees apart. The best few of them are refined, if their overlap is at most so
# much below the best one's.
ROTATION_STEP = 10
ROTATIONS, ROTATION_MARGIN = 4, 0.12
# Signed distances to an outline are limited to so many pixels, so that only outlines near each other attract.
DISTANCE_LIMIT = 12.0
# Iterations of the affine alignment, for a rough comparison and for the final one.
ROUGH_ITERATIONS, ITERATIONS = 15, 60
# The bend: rounds, share of the remaining distance that each of them closes, standard deviation of its smoothing, width
# of the band around both outlines that counts, and the weight of no bend.
BEND_ROUNDS, BEND_STEP = 8, 0.7
BEND_SMOOTHING = 6.0
BAND = 1.5
NO_BEND = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A silhouette in the canonical frame.

    Attributes:
        coverage: (SIDE, SIDE) in [0, 1].
        frame: 3x3, from the canonical frame to the pixels of the picture in which the silhouette was found.
    """

    coverage: Floats
    frame: NDArray[np.float64]

    @property
    def solid(self) -> Bools:
        """(SIDE, SIDE), the coverage as a mask."""
        return np.asarray(self.coverage > 0.5)

    def mirrored(self) -> "Shape":
        """The silhouette in the mirrored picture, with a frame that still leads to the picture itself."""
        flip = np.array([[-1.0, 0.0, SIDE - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return Shape(np.ascontiguousarray(self.coverage[:, ::-1]), self.frame @ flip)


@dataclass(frozen=True, slots=True, eq=False)
class ShapeAlignment:
    """How one shape lies on another.

    Attributes:
        affine: 3x3, between the canonical frames, from the first shape's to the second's.
        overlap: intersection over union of the first shape and the second one under that map, in [0, 1].
    """

    affine: NDArray[np.float64]
    overlap: float

    @property
    def turn(self) -> float:
        """The rotation in degrees, from -180 to 180."""
        (a, b), (c, d) = self.affine[:2, :2]
        return float(np.degrees(np.arctan2(c - b, a + d)))

    @property
    def anisotropy(self) -> float:
        """Ratio of the larger to the smaller stretch, 1 for a similarity."""
        stretches = np.linalg.svd(self.affine[:2, :2], compute_uv=False)
        return float(stretches[0] / max(float(stretches[1]), 1e-6))

    @property
    def mapping(self) -> Floats:
        """The map as (SIDE, SIDE, 2) in pixels of the second canonical frame."""
        grid = pixel_grid((SIDE, SIDE))
        return np.asarray(grid @ self.affine[:2, :2].T + self.affine[:2, 2], np.float32)


def shape_of(mask: Bools) -> Shape:
    """A silhouette in its canonical frame; `mask` (height, width) must not be empty."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    centre = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    scale = np.sqrt(moments["m00"]) / EXTENT
    middle = (SIDE - 1) / 2
    frame = np.array(
        [[scale, 0.0, centre[0] - scale * middle], [0.0, scale, centre[1] - scale * middle], [0.0, 0.0, 1.0]]
    )
    return Shape(in_frame(mask.astype(np.float32), frame), frame)


def in_frame(picture: Floats, frame: NDArray[np.float64]) -> Floats:
    """A picture seen through a 3x3 map from the canonical frame to its pixels; 0 outside of it."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, frame[:2], (SIDE, SIDE), flags=flags), np.float32)


def align_shapes(one: Shape, other: Shape, iterations: int = ITERATIONS) -> ShapeAlignment:
    """The affine map under which two shapes overlap most.

    A shape's moments leave its rotation open where it is nearly round, so rotations are tried all around. The best are
    refined by ECC (Evangelidis and Psarakis, 2008) on the signed distances to the outlines. No map mirrors.

    Args:
        one: of the generated picture.
        other: of the reference.
        iterations: of the refinement.
    """
    turns = np.radians(np.arange(0, 360, ROTATION_STEP))
    overlaps = [_overlap(one.coverage, in_frame(other.coverage, _rotation(turn))) for turn in turns]
    peaks = [
        index
        for index, overlap in enumerate(overlaps)
        if overlap >= overlaps[index - 1] and overlap >= overlaps[(index + 1) % len(turns)]
    ]
    peaks = sorted(peaks, key=lambda index: -overlaps[index])[:ROTATIONS]
    distances = _limited_distance(one.solid), _limited_distance(other.solid)
    refined = [
        _refined(one, other, distances, turns[index], iterations)
        for index in peaks
        if overlaps[index] >= overlaps[peaks[0]] - ROTATION_MARGIN
    ]
    return max(refined, key=lambda alignment: alignment.overlap)


def bend(one: Shape, other: Shape, aligned: ShapeAlignment) -> Floats:
    """The affine map with a smooth deviation, so that the outlines meet: (SIDE, SIDE, 2).

    In each round the outlines are drawn towards each other along the gradient of their signed distances, as in the
    demons algorithm (Thirion, 1998), and the displacement is smoothed.

    Args:
        one: of the generated picture.
        other: of the reference.
        aligned: the affine map between them.
    """
    distance = morphology.signed_distance(one.solid).astype(np.float32)
    target = morphology.signed_distance(other.solid).astype(np.float32)
    slopes = np.dstack([cv2.Sobel(blur(target, 1.0), cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))])
    field = np.dstack([target, slopes])
    mapping = aligned.mapping
    for _ in range(BEND_ROUNDS):
        seen = cv2.remap(field, mapping, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        there, slope = seen[..., 0], seen[..., 1:]
        rest = distance - there
        weight = (np.abs(distance) < BAND) + np.float32(0.5) * (np.abs(there) < BAND)
        weight = np.asarray(weight * (np.abs(rest) < DISTANCE_LIMIT), np.float32)
        towards = (rest / ((slope**2).sum(axis=2) + np.float32(0.1)))[..., None] * slope
        smooth = blur(np.asarray(towards * weight[..., None], np.float32), BEND_SMOOTHING)
        mapping = mapping + BEND_STEP * smooth / (blur(weight, BEND_SMOOTHING)[..., None] + NO_BEND)
    return np.asarray(mapping, np.float32)


def outline_distance(one: Bools, other: Bools) -> float:
    """Mean distance between the outlines of two masks (SIDE, SIDE), in square roots of a silhouette's area."""
    distances = [morphology.signed_distance(mask) for mask in (one, other)]
    edges = [np.abs(distance) <= 1.0 for distance in distances]
    apart = np.concatenate([np.abs(distances[1][edges[0]]), np.abs(distances[0][edges[1]])])
    return float(apart.mean()) / EXTENT if len(apart) else 1.0


def simple_shapes(mask: Bools) -> tuple[Bools, Bools]:
    """The ellipse with the moments of a mask (SIDE, SIDE), which must not be empty, and its smallest rectangle."""
    points = np.argwhere(mask)
    offset = np.argwhere(np.ones_like(mask)) - points.mean(axis=0)
    inverse = np.linalg.inv(np.cov(points.T) + 1e-3 * np.eye(2))
    ellipse = np.einsum("ij,jk,ik->i", offset, inverse, offset).reshape(mask.shape) < 4.0
    corners = cv2.boxPoints(cv2.minAreaRect(np.ascontiguousarray(points[:, ::-1], np.float32)))
    rectangle = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), np.rint(corners).astype(np.int32), 1)
    return np.asarray(ellipse), np.asarray(rectangle > 0)


def _refined(
    one: Shape, other: Shape, distances: tuple[Floats, Floats], turn: float, iterations: int
) -> ShapeAlignment:
    start = _rotation(turn)
    warp = start[:2].astype(np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, iterations, 1e-5)
    try:
        _, warp = cv2.findTransformECC(*distances, warp, cv2.MOTION_AFFINE, criteria, None, 1)
    except cv2.error:
        # It diverges where the shapes have little in common; then the rotation alone is compared.
        warp = start[:2].astype(np.float32)
    affine = np.vstack([warp.astype(np.float64), [0.0, 0.0, 1.0]])
    if np.linalg.det(affine[:2, :2]) <= 0.0:
        affine = start
    return ShapeAlignment(affine, _overlap(one.coverage, in_frame(other.coverage, affine)))


def _rotation(turn: float) -> NDArray[np.float64]:
    """Rotation by an angle in radians around the middle of the canonical frame, 3x3."""
    cosine, sine, middle = np.cos(turn), np.sin(turn), (SIDE - 1) / 2
    across, down = middle - cosine * middle + sine * middle, middle - sine * middle - cosine * middle
    return np.array([[cosine, -sine, across], [sine, cosine, down], [0.0, 0.0, 1.0]])


def _overlap(one: Floats, other: Floats) -> float:
    """Intersection over union of two coverages."""
    return float(np.minimum(one, other).sum() / max(1e-6, float(np.maximum(one, other).sum())))


def _limited_distance(mask: Bools) -> Floats:
    return np.asarray(np.clip(morphology.signed_distance(mask), -DISTANCE_LIMIT, DISTANCE_LIMIT), np.float32)
