"""Identity distortion: a random warp of the object, with parts moved, resized and exchanged."""

from __future__ import annotations

import numpy as np

from refgc.imaging.arrays import Bools, Bytes, size_of
from refgc.imaging.exact import Doubles, equivalent_side, pixel_coordinates, sample_at, smooth_noise, to_levels

# All at strength 1, with lengths as fractions of the object's side (`exact.equivalent_side`). Chosen by hand, not
# fitted.
# Smooth random warps: correlation length and standard deviation of the displacement.
WARPS = ((0.5, 0.022), (0.2, 0.007))
# Relative change of the aspect ratio, and shear.
SQUEEZE = 0.08
SHEAR = 0.06
# Parts that are moved and resized: their number, their radii, displacement in radii, relative change of size.
PARTS = 4
PART_RADII = (0.09, 0.16)
PART_SHIFT = 0.55
PART_GROWTH = 0.35
# Two parts of this radius are exchanged; they cross-fade, completely from this strength on.
SWAP_RADIUS = 0.12
FULL_SWAP_STRENGTH = 0.67


def distort(pixels: Bytes, mask: Bools, random: np.random.Generator, strength: float) -> Bytes:
    """Bend, squeeze and shear the object, move and resize some of its parts, and exchange two.

    Args:
        pixels: uint8 RGB (height, width, 3) of the object alone, as `exact.extend_outwards` gives it.
        mask: (height, width), true on the object.
        random: from the same state, a larger strength gives the same distortion, only larger.
        strength: in [0, 1].
    """
    side = equivalent_side(mask)
    x, y = pixel_coordinates(size_of(pixels))
    rows, columns = np.nonzero(mask)
    from_middle_x, from_middle_y = x - float(columns.mean()), y - float(rows.mean())
    squeeze, shear = strength * SQUEEZE * _signed(random), strength * SHEAR * _signed(random)
    shift_x = squeeze * from_middle_x + shear * from_middle_y
    shift_y = -squeeze * from_middle_y
    for correlation_length, deviation in WARPS:
        warp = strength * deviation * side * smooth_noise(size_of(pixels), correlation_length * side, random)
        shift_x += warp[..., 0]
        shift_y += warp[..., 1]
    for _ in range(PARTS):
        centre, radius = _place(mask, random), side * random.uniform(*PART_RADII)
        weight = _bump(x, y, centre, radius)
        offset = strength * PART_SHIFT * radius * _direction(random)
        growth = strength * PART_GROWTH * _signed(random)
        shift_x += weight * (offset[0] + growth * (x - centre[0]))
        shift_y += weight * (offset[1] + growth * (y - centre[1]))
    warped = sample_at(pixels, x + shift_x, y + shift_y)
    opacity = min(1.0, strength / FULL_SWAP_STRENGTH)
    return _exchanged(warped, _place(mask, random), _place(mask, random), SWAP_RADIUS * side, opacity)


def _exchanged(pixels: Bytes, one: Doubles, other: Doubles, radius: float, opacity: float) -> Bytes:
    """Two round parts, centred at (x, y) `one` and `other`, each blended into the other's place by `opacity`."""
    out = pixels.copy()
    x, y = pixel_coordinates(size_of(pixels))
    for here, there in ((one, other), (other, one)):
        (left, top), (right, bottom) = np.maximum(here - radius, 0).astype(int), (here + radius).astype(int) + 1
        part = (slice(top, bottom), slice(left, right))
        weight = opacity * np.minimum(1.0, 2.0 * _bump(x[part], y[part], here, radius))[..., None]
        moved = sample_at(pixels, x[part] + (there[0] - here[0]), y[part] + (there[1] - here[1]))
        out[part] = to_levels(out[part] + weight * (moved.astype(np.float64) - out[part]))
    return out


def _bump(x: Doubles, y: Doubles, centre: Doubles, radius: float) -> Doubles:
    """A smooth bump (height, width): 1 at the centre (x, y), 0 from `radius` on."""
    falloff = np.maximum(0.0, 1.0 - ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2)
    return np.asarray(falloff * falloff, np.float64)


def _place(mask: Bools, random: np.random.Generator) -> Doubles:
    """(x, y) of a random pixel of the object."""
    places = np.flatnonzero(mask)
    row, column = divmod(int(places[random.integers(0, len(places))]), mask.shape[1])
    return np.array([column, row], np.float64)


def _signed(random: np.random.Generator) -> float:
    """A random number in [-1, -0.5] or [0.5, 1]."""
    return float(random.choice([-1.0, 1.0]) * random.uniform(0.5, 1.0))


def _direction(random: np.random.Generator) -> Doubles:
    """A random unit vector by rejection, since the last digit of sine and cosine differs between processors."""
    while True:
        vector = random.uniform(-1.0, 1.0, 2)
        length = float(np.sqrt(vector[0] ** 2 + vector[1] ** 2))
        if 0.1 < length <= 1.0:
            return np.asarray(vector / length, np.float64)
