"""Identity distortion: shape and layout of the object are subtly wrong."""

from __future__ import annotations

import numpy as np

from refgc.imaging.arrays import Bytes, size_of
from refgc.imaging.exact import Doubles, Inside, levels, positions, sampled, side_of, smooth_noise

# All at full strength; lengths as shares of the object's side.
# Smooth bends: how far apart places move independently, and how far they move (standard deviation).
BENDS = ((0.5, 0.022), (0.2, 0.007))
# The object is drawn so much wider or narrower, and leans so much.
SQUEEZE = 0.08
LEAN = 0.06
# Parts that are moved and drawn larger or smaller: how many, their radii, how far in radii, how much larger.
PARTS = 4
PART_RADII = (0.09, 0.16)
PART_SHIFT = 0.55
PART_GROWTH = 0.35
# Two parts change places, of this radius; they fade over, fully from this strength on.
SWAP_RADIUS = 0.12
SWAPPED_FROM = 0.67


def distort(pixels: Bytes, inside: Inside, random: np.random.Generator, strength: float) -> Bytes:
    """The object bends and leans, some of its parts are moved and resized, and two change places.

    Args:
        pixels: uint8 RGB (height, width, 3), of the object alone, as `exact.spread` gives it.
        inside: where the object is.
        random: from the same state a larger strength gives the same distortion, only larger.
        strength: in [0, 1].
    """
    side = side_of(inside)
    x, y = positions(size_of(pixels))
    rows, columns = np.nonzero(inside)
    from_middle_x, from_middle_y = x - float(columns.mean()), y - float(rows.mean())
    squeeze, lean = strength * SQUEEZE * _signed(random), strength * LEAN * _signed(random)
    shift_x = squeeze * from_middle_x + lean * from_middle_y
    shift_y = -squeeze * from_middle_y
    for distance, amount in BENDS:
        bend = strength * amount * side * smooth_noise(size_of(pixels), distance * side, random)
        shift_x += bend[..., 0]
        shift_y += bend[..., 1]
    for _ in range(PARTS):
        centre, radius = _place(inside, random), side * random.uniform(*PART_RADII)
        weight = _bump(x, y, centre, radius)
        away = strength * PART_SHIFT * radius * _direction(random)
        growth = strength * PART_GROWTH * _signed(random)
        shift_x += weight * (away[0] + growth * (x - centre[0]))
        shift_y += weight * (away[1] + growth * (y - centre[1]))
    bent = sampled(pixels, x + shift_x, y + shift_y)
    share = min(1.0, strength / SWAPPED_FROM)
    return _exchanged(bent, _place(inside, random), _place(inside, random), SWAP_RADIUS * side, share)


def _exchanged(pixels: Bytes, one: Doubles, other: Doubles, radius: float, share: float) -> Bytes:
    """Each of two round parts fades into the other by `share`."""
    out = pixels.copy()
    x, y = positions(size_of(pixels))
    for here, there in ((one, other), (other, one)):
        (left, top), (right, bottom) = np.maximum(here - radius, 0).astype(int), (here + radius).astype(int) + 1
        part = (slice(top, bottom), slice(left, right))
        weight = share * np.minimum(1.0, 2.0 * _bump(x[part], y[part], here, radius))[..., None]
        moved = sampled(pixels, x[part] + (there[0] - here[0]), y[part] + (there[1] - here[1]))
        out[part] = levels(out[part] + weight * (moved.astype(np.float64) - out[part]))
    return out


def _bump(x: Doubles, y: Doubles, centre: Doubles, radius: float) -> Doubles:
    """1 at a centre, 0 from `radius` on, smooth."""
    left = np.maximum(0.0, 1.0 - ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2)
    return np.asarray(left * left, np.float64)


def _place(inside: Inside, random: np.random.Generator) -> Doubles:
    """(x, y) of any pixel of the object."""
    places = np.flatnonzero(inside)
    row, column = divmod(int(places[random.integers(0, len(places))]), inside.shape[1])
    return np.array([column, row], np.float64)


def _signed(random: np.random.Generator) -> float:
    """From -1 to 1, at least half away from 0."""
    return float(random.choice([-1.0, 1.0]) * random.uniform(0.5, 1.0))


def _direction(random: np.random.Generator) -> Doubles:
    """A unit vector, without the trigonometry whose last digit differs between processors."""
    while True:
        vector = random.uniform(-1.0, 1.0, 2)
        length = float(np.sqrt(vector[0] ** 2 + vector[1] ** 2))
        if 0.1 < length <= 1.0:
            return np.asarray(vector / length, np.float64)
