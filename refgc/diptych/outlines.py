"""Fitting one outline to another by a similarity transform."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size
from refgc.imaging.exact import Doubles, pixel_coordinates, sample_at
from refgc.imaging.image import MARKED
from refgc.imaging.matting import alpha_bytes, bounding_region

# The constants of this file were chosen by hand, not fitted.
# Each mask is resampled to a grid in which it has about the area of a square of this many cells a side, and no side is
# longer than the limit; the grid has a margin.
OBJECT_CELLS = 48.0
LONGEST_SIDE = 160.0
MARGIN = 24
# Weight of area beside the marked outline relative to uncovered area within: a generator draws within it only.
OUTSIDE_WEIGHT = 2.0
# Penalty on the squared distance of the centroids, in sides of the object, which decides where a fit could slide.
OFF_CENTRE_PENALTY = 0.1
# Objects stay upright unless a rotation of at most so many degrees raises the score by at least this.
MAXIMUM_ROTATION = 60.0
ROTATION_GAIN = 0.06
# Translations are searched on a square of so many cells for each of these scales. A pattern search then improves all
# parameters with steps that are halved: natural log of the scale, cells to the right and down, degrees.
SEARCH_SIDE = 256
SCALES = tuple(2.0 ** (step / 8) for step in range(-8, 4))
FIRST_STEPS = (0.045, 0.5, 0.5, 5.0)
HALVINGS = 6
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class SimilarityTransform:
    """A similarity transform from one picture to another: scale, rotation and translation.

    Attributes:
        scale: target pixels per source pixel.
        rotation: in degrees, clockwise in the picture, since y points down.
        translation: (x, y) in target pixels, added after scaling and rotating about the centre of the first pixel.
        overlap: intersection over union of the two outlines, in [0, 1].
    """

    scale: float
    rotation: float
    translation: tuple[float, float]
    overlap: float

    def apply(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Source to target coordinates; numbers or arrays."""
        cos, sin = math.cos(math.radians(self.rotation)), math.sin(math.radians(self.rotation))
        return self.scale * (cos * x - sin * y) + self.translation[0], self.scale * (
            sin * x + cos * y
        ) + self.translation[1]

    def inverse(self, x: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        """Target to source coordinates."""
        cos, sin = math.cos(math.radians(self.rotation)), math.sin(math.radians(self.rotation))
        right, down = (x - self.translation[0]) / self.scale, (y - self.translation[1]) / self.scale
        return cos * right + sin * down, cos * down - sin * right


@dataclass(frozen=True, slots=True)
class _Grid:
    """A mask resampled to its grid.

    Attributes:
        cells: uint8 (rows, columns), alpha in [0, 255].
        per_pixel: cells per pixel of the mask.
        origin: the pixel (x, y) at the centre of the first cell.
        middle: the centroid (x, y) in cells.
        area: sum of `cells`.
    """

    cells: Bytes
    per_pixel: float
    origin: tuple[float, float]
    middle: tuple[float, float]
    area: int


def fit_outlines(reference: Floats, scene: Floats) -> SimilarityTransform:
    """The similarity transform with which one outline covers another best, upright unless it is clearly rotated.

    Args:
        reference: (height, width) in [0, 1].
        scene: (rows, columns) in [0, 1], of any size.

    Returns:
        The transform from the reference's pixels to the scene's.
    """
    one, other = _grid(reference), _grid(scene)
    fit, upright_score = _best(one, other, 0.0, may_rotate=False)
    rotation = _rotation(one, other)
    if abs(rotation) <= MAXIMUM_ROTATION:
        rotated, score = _best(one, other, rotation, may_rotate=True)
        fit = rotated if score > upright_score + ROTATION_GAIN else fit
    # The reference's first pixel in its cells, then in the scene's cells, then in the scene's pixels.
    x, y = fit.apply(-one.origin[0] * one.per_pixel, -one.origin[1] * one.per_pixel)
    translation = (x / other.per_pixel + other.origin[0], y / other.per_pixel + other.origin[1])
    return SimilarityTransform(fit.scale * one.per_pixel / other.per_pixel, fit.rotation, translation, fit.overlap)


def on_same_ground(fit: SimilarityTransform, reference: Floats, scene: Floats) -> SimilarityTransform:
    """The same transform moved up or down, so that both outlines have the same lowest point."""
    rows, columns = np.nonzero(reference >= MARKED)
    lowest = float(fit.apply(columns.astype(np.float64), rows.astype(np.float64))[1].max())
    ground = float(np.flatnonzero((scene >= MARKED).any(axis=1))[-1])
    return replace(fit, translation=(fit.translation[0], fit.translation[1] + ground - lowest))


def _grid(mask: Floats) -> _Grid:
    box = bounding_region(mask)
    alpha = alpha_bytes(np.asarray(box.of(mask), np.float32))
    per_pixel = min(OBJECT_CELLS / math.sqrt(int(alpha.sum(dtype=np.int64)) / 255.0), LONGEST_SIDE / max(box.size))
    # Averaged over whole pixels first, against aliasing.
    whole = max(1, int(1.0 / per_pixel))
    right, down = (-side % whole for side in box.size)
    framed = np.pad(alpha, ((0, down), (0, right)))
    averaged = cv2.resize(framed, None, fx=1 / whole, fy=1 / whole, interpolation=cv2.INTER_AREA)
    size = (math.ceil(box.size[0] * per_pixel) + 2 * MARGIN, math.ceil(box.size[1] * per_pixel) + 2 * MARGIN)
    x, y = pixel_coordinates(size)
    first = 0.5 / per_pixel - 0.5 - MARGIN / per_pixel
    source = ((first + place / per_pixel + 0.5) / whole - 0.5 for place in (x, y))
    cells = _sample_mask(np.asarray(averaged, np.uint8), *source)
    moments = cv2.moments(cells)
    middle = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    return _Grid(cells, per_pixel, (box.left + first, box.top + first), middle, int(cells.sum(dtype=np.int64)))


def _sample_mask(mask: Bytes, x: Doubles, y: Doubles) -> Bytes:
    """A mask sampled at positions, 0 beyond its border."""
    return sample_at(np.pad(mask, 1), x + 1.0, y + 1.0)


def _rotation(one: _Grid, other: _Grid) -> float:
    """Angle in degrees between the principal axes, from -90 to 90."""
    moments = (cv2.moments(one.cells), cv2.moments(other.cells))
    angles = [math.degrees(0.5 * math.atan2(2.0 * m["mu11"], m["mu20"] - m["mu02"])) for m in moments]
    return (angles[1] - angles[0] + 90.0) % 180.0 - 90.0


def _best(one: _Grid, other: _Grid, rotation: float, *, may_rotate: bool) -> tuple[SimilarityTransform, float]:
    """The transform with the best score between two grids, from a start at a given rotation; and that score."""
    _, scale, x, y = max(_best_place(one, other, scale, rotation) for scale in SCALES)
    state = np.array([math.log(scale), x, y, rotation])
    score, fit = _score_of(one, other, state)
    directions = np.vstack([np.diag(FIRST_STEPS), -np.diag(FIRST_STEPS)])
    directions = directions if may_rotate else directions[directions[:, 3] == 0]
    # A pattern search needs no gradient: the score is piecewise constant, since the cells are integers.
    for halving in range(HALVINGS):
        for _ in range(ROUNDS):
            tried = [state + step * 0.5**halving for step in directions]
            scored = [_score_of(one, other, near) for near in tried]
            index = int(np.argmax([value for value, _ in scored]))
            if scored[index][0] <= score:
                break
            state, (score, fit) = tried[index], scored[index]
    return fit, score


def _best_place(one: _Grid, other: _Grid, scale: float, rotation: float) -> tuple[float, float, float, float]:
    """The best translation to a whole cell, by cross-correlation in the frequency domain.

    Returns the score, the scale, and the x and y of the transformed centroid.
    """
    half, canvas = SEARCH_SIDE // 2, (SEARCH_SIDE, SEARCH_SIDE)
    fit = _fit(one, scale, rotation, (half, half))
    placed = _sample_mask(one.cells, *fit.inverse(*pixel_coordinates(canvas))).astype(np.float64)
    spectrum = np.fft.rfft2(other.cells.astype(np.float64), canvas) * np.conj(np.fft.rfft2(placed / 255.0))
    shared = np.rint(np.fft.irfft2(spectrum, canvas))
    away = (np.arange(SEARCH_SIDE) + half) % SEARCH_SIDE
    score = _score(other, shared, placed.sum(), away[None, :], away[:, None])
    row, column = divmod(int(score.argmax()), SEARCH_SIDE)
    return float(score[row, column]), scale, float(away[column]), float(away[row])


def _score_of(one: _Grid, other: _Grid, state: Doubles) -> tuple[float, SimilarityTransform]:
    """The score and the transform of a state: natural log of the scale, x and y of the centroid, degrees."""
    log_scale, x, y, rotation = (float(value) for value in state)
    fit = _fit(one, math.exp(log_scale), rotation, (x, y))
    size: Size = (other.cells.shape[1], other.cells.shape[0])
    placed = _sample_mask(one.cells, *fit.inverse(*pixel_coordinates(size)))
    shared, whole = int(np.minimum(placed, other.cells).sum(dtype=np.int64)), int(placed.sum(dtype=np.int64))
    overlap = shared / (whole + other.area - shared)
    return float(_score(other, shared, whole, x, y)), replace(fit, overlap=overlap)


def _fit(one: _Grid, scale: float, rotation: float, middle: tuple[float, float]) -> SimilarityTransform:
    """The transform that moves the grid's centroid to `middle`."""
    x, y = SimilarityTransform(scale, rotation, (0.0, 0.0), 0.0).apply(*one.middle)
    return SimilarityTransform(scale, rotation, (middle[0] - x, middle[1] - y), 0.0)


def _score(other: _Grid, shared: Any, placed: Any, x: Any, y: Any) -> Any:
    """A Tversky index of the two outlines minus the penalty on the centroids' distance; numbers or arrays.

    `shared` and `placed` are the sums of the intersection and of the transformed outline, `x` and `y` its centroid.
    """
    uncovered, outside = other.area - shared, placed - shared
    away = ((x - other.middle[0]) ** 2 + (y - other.middle[1]) ** 2) / OBJECT_CELLS**2
    return shared / (shared + 0.5 * OUTSIDE_WEIGHT * outside + 0.5 * uncovered) - OFF_CENTRE_PENALTY * away
