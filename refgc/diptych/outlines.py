"""Putting the outline of one mask onto that of another, without changing its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size
from refgc.imaging.exact import Doubles, positions, sampled
from refgc.imaging.image import MARKED
from refgc.imaging.matting import bounds, share_bytes

# Outlines are compared on grids in which each has about the area of a square of this many cells a side, and no side
# longer than that; around the one that is fitted to there is room for what lies beside it.
OBJECT_CELLS = 48.0
LONGEST_SIDE = 160.0
ROOM = 24
# What lies beside the marked outline weighs so many times as much as what is left uncovered of it: a generator draws
# into the marked place only.
BESIDE_WEIGHT = 2.0
# What a fit loses by the square of its distance from middle on middle, in objects: where it may slide it stays there.
OFF_MIDDLE = 0.1
# Things stand upright unless turning them, by at most so many degrees, covers so much more.
MOST_TURN = 60.0
TURN_GAIN = 0.06
# Places are searched on a square of so many cells, for these scales; then all is improved by ever smaller steps: the
# natural log of the scale, cells to the right and down, degrees.
SEARCH_SIDE = 256
SCALES = tuple(2.0 ** (step / 8) for step in range(-8, 4))
FIRST_STEPS = (0.045, 0.5, 0.5, 5.0)
HALVINGS = 6
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Fit:
    """A similarity from one picture to another.

    Attributes:
        scale: pixels there per pixel here.
        turn: in degrees, clockwise as seen, since y points down.
        shift: (x, y) that is added after scaling and turning about the origin, the centre of the first pixel.
        overlap: the area that both outlines share over the area of either, in [0, 1].
    """

    scale: float
    turn: float
    shift: tuple[float, float]
    overlap: float

    def placed(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Where pixels go; numbers or arrays."""
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        return self.scale * (cos * x - sin * y) + self.shift[0], self.scale * (sin * x + cos * y) + self.shift[1]

    def source_of(self, x: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        """Where pixels come from."""
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        right, down = (x - self.shift[0]) / self.scale, (y - self.shift[1]) / self.scale
        return cos * right + sin * down, cos * down - sin * right


@dataclass(frozen=True, slots=True)
class _Outline:
    """A mask on its grid.

    Attributes:
        cells: in 255ths.
        per_pixel: cells per pixel of the mask.
        origin: the pixel (x, y) at the centre of the first cell.
        middle: (x, y) of its centroid in cells.
        area: in 255ths of cells.
    """

    cells: Bytes
    per_pixel: float
    origin: tuple[float, float]
    middle: tuple[float, float]
    area: int


def fit_outlines(reference: Floats, scene: Floats) -> Fit:
    """The similarity that makes one outline cover another as well as it can, upright unless it is clearly turned.

    Args:
        reference: (height, width) in [0, 1].
        scene: (height, width) in [0, 1], of another size.

    Returns:
        From the reference's pixels to the scene's.
    """
    one, other = _outline(reference), _outline(scene)
    fit, upright_quality = _best(one, other, 0.0, may_turn=False)
    turn = _turn(one, other)
    if abs(turn) <= MOST_TURN:
        turned, quality = _best(one, other, turn, may_turn=True)
        fit = turned if quality > upright_quality + TURN_GAIN else fit
    # The reference's first pixel in its cells, then in the scene's cells, then in the scene's pixels.
    x, y = fit.placed(-one.origin[0] * one.per_pixel, -one.origin[1] * one.per_pixel)
    shift = (x / other.per_pixel + other.origin[0], y / other.per_pixel + other.origin[1])
    return Fit(fit.scale * one.per_pixel / other.per_pixel, fit.turn, shift, fit.overlap)


def standing(fit: Fit, reference: Floats, scene: Floats) -> Fit:
    """The same fit, moved up or down so that the object's lowest point is that of the marked outline."""
    rows, columns = np.nonzero(reference >= MARKED)
    lowest = float(fit.placed(columns.astype(np.float64), rows.astype(np.float64))[1].max())
    ground = float(np.flatnonzero((scene >= MARKED).any(axis=1))[-1])
    return Fit(fit.scale, fit.turn, (fit.shift[0], fit.shift[1] + ground - lowest), fit.overlap)


def _outline(mask: Floats) -> _Outline:
    box = bounds(mask)
    share = share_bytes(np.asarray(box.of(mask), np.float32))
    per_pixel = min(OBJECT_CELLS / math.sqrt(int(share.sum(dtype=np.int64)) / 255.0), LONGEST_SIDE / max(box.size))
    # Averaged by whole pixels first, so that sampling does not skip any.
    whole = max(1, int(1.0 / per_pixel))
    right, down = (-side % whole for side in box.size)
    framed = np.pad(share, ((0, down), (0, right)))
    averaged = cv2.resize(framed, None, fx=1 / whole, fy=1 / whole, interpolation=cv2.INTER_AREA)
    size = (math.ceil(box.size[0] * per_pixel) + 2 * ROOM, math.ceil(box.size[1] * per_pixel) + 2 * ROOM)
    x, y = positions(size)
    first = 0.5 / per_pixel - 0.5 - ROOM / per_pixel
    source = ((first + place / per_pixel + 0.5) / whole - 0.5 for place in (x, y))
    cells = _seen(np.asarray(averaged, np.uint8), *source)
    moments = cv2.moments(cells)
    middle = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    return _Outline(cells, per_pixel, (box.left + first, box.top + first), middle, int(cells.sum(dtype=np.int64)))


def _seen(mask: Bytes, x: Doubles, y: Doubles) -> Bytes:
    """A mask at the positions, with nothing beyond its border."""
    return sampled(np.pad(mask, 1), x + 1.0, y + 1.0)


def _turn(one: _Outline, other: _Outline) -> float:
    """Degrees by which the long axes differ, from -90 to 90."""
    moments = (cv2.moments(one.cells), cv2.moments(other.cells))
    angles = [math.degrees(0.5 * math.atan2(2.0 * m["mu11"], m["mu20"] - m["mu02"])) for m in moments]
    return (angles[1] - angles[0] + 90.0) % 180.0 - 90.0


def _best(one: _Outline, other: _Outline, turn: float, *, may_turn: bool) -> tuple[Fit, float]:
    """The best fit, in cells, of any scale and place and near a turn; and its quality."""
    _, scale, x, y = max(_best_place(one, other, scale, turn) for scale in SCALES)
    state = np.array([math.log(scale), x, y, turn])
    quality, fit = _judged(one, other, state)
    directions = np.vstack([np.diag(FIRST_STEPS), -np.diag(FIRST_STEPS)])
    directions = directions if may_turn else directions[directions[:, 3] == 0]
    # A compass search: quality is counted in whole 255ths, on whose small stairs a search along slopes gets lost.
    for halving in range(HALVINGS):
        for _ in range(ROUNDS):
            tried = [state + step * 0.5**halving for step in directions]
            judged = [_judged(one, other, near) for near in tried]
            index = int(np.argmax([value for value, _ in judged]))
            if judged[index][0] <= quality:
                break
            state, (quality, fit) = tried[index], judged[index]
    return fit, quality


def _best_place(one: _Outline, other: _Outline, scale: float, turn: float) -> tuple[float, float, float, float]:
    """The quality of the best place, to a cell, by correlation: quality, scale, and the middle's x and y."""
    half, canvas = SEARCH_SIDE // 2, (SEARCH_SIDE, SEARCH_SIDE)
    fit = _fit(one, scale, turn, (half, half))
    placed = _seen(one.cells, *fit.source_of(*positions(canvas))).astype(np.float64)
    spectrum = np.fft.rfft2(other.cells.astype(np.float64), canvas) * np.conj(np.fft.rfft2(placed / 255.0))
    shared = np.rint(np.fft.irfft2(spectrum, canvas))
    away = (np.arange(SEARCH_SIDE) + half) % SEARCH_SIDE
    quality = _quality(other, shared, placed.sum(), away[None, :], away[:, None])
    row, column = divmod(int(quality.argmax()), SEARCH_SIDE)
    return float(quality[row, column]), scale, float(away[column]), float(away[row])


def _judged(one: _Outline, other: _Outline, state: Doubles) -> tuple[float, Fit]:
    """The quality and the fit of a state: natural log of the scale, the middle's x and y, degrees."""
    log_scale, x, y, turn = (float(value) for value in state)
    fit = _fit(one, math.exp(log_scale), turn, (x, y))
    size: Size = (other.cells.shape[1], other.cells.shape[0])
    placed = _seen(one.cells, *fit.source_of(*positions(size)))
    shared, whole = int(np.minimum(placed, other.cells).sum(dtype=np.int64)), int(placed.sum(dtype=np.int64))
    overlap = shared / (whole + other.area - shared)
    return float(_quality(other, shared, whole, x, y)), Fit(fit.scale, fit.turn, fit.shift, overlap)


def _fit(one: _Outline, scale: float, turn: float, middle: tuple[float, float]) -> Fit:
    """The fit that puts the outline's middle there."""
    x, y = Fit(scale, turn, (0.0, 0.0), 0.0).placed(*one.middle)
    return Fit(scale, turn, (middle[0] - x, middle[1] - y), 0.0)


def _quality(other: _Outline, shared: Any, placed: Any, x: Any, y: Any) -> Any:
    """How much is covered as it should be, less what the middles' distance costs; numbers or arrays."""
    uncovered, beside = other.area - shared, placed - shared
    away = ((x - other.middle[0]) ** 2 + (y - other.middle[1]) ** 2) / OBJECT_CELLS**2
    return shared / (shared + 0.5 * BESIDE_WEIGHT * beside + 0.5 * uncovered) - OFF_MIDDLE * away
