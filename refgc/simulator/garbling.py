"""Detail inconsistency: lettering and fine pattern become a pattern of the same kind that says something else."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes, size_of
from refgc.imaging.exact import (
    Doubles,
    Inside,
    levels,
    positions,
    sampled,
    side_of,
    smooth_noise,
    smoothed,
    smoothstep,
)

# The width of a stroke of lettering, as a share of the object's side; other lengths are counted in strokes.
STROKE = 0.01
# What stands out of its ground is detail when it is thinner than twice this.
THIN = 1.6
# Grey levels by which texture and by which lettering stands out.
CONTRAST = (5.0, 14.0)
# How far all edges within so many strokes run in one direction, for lettering and for a line (0 not, 1 entirely).
NEIGHBOURHOOD = 3.5
ONE_DIRECTION = (0.92, 0.72)
# Glyphs melt: how far apart places move independently, and how far they move (standard deviation).
MELT_DISTANCE = 2.6
MELT = 1.3
# Pieces are drawn from elsewhere in the pattern: their radii, how far from, how many places are tried, and the share of
# the pattern that they cover at full strength, counting overlaps.
PIECE_RADII = (2.0, 3.2, 4.6)
PIECE_REACH = 16.0
PLACES_TRIED = 10
PIECE_COVER = 2.0
# They are mirrored down or across, and their ground may differ by so many levels, summed over the channels, at no
# corner from that of the place they come to.
MIRRORINGS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0))
MOST_STRANGE = 110
# Strokes run on along themselves so far to both sides, and are drawn so much crisper than that leaves them.
SMEAR = 1.4
CRISPNESS = 0.8


def garble(pixels: Bytes, inside: Inside, random: np.random.Generator, strength: float, least_stroke: float) -> Bytes:
    """Glyphs melt, pieces of them come from elsewhere, strokes run on; large shapes, lines and flat surfaces stay.

    Args:
        pixels: uint8 RGB (height, width, 3), of the object alone, as `exact.spread` gives it.
        inside: where the object is.
        random: from the same state a larger strength does more of the same.
        strength: in [0, 1].
        least_stroke: width in pixels of strokes that can still be seen.
    """
    stroke = max(STROKE * side_of(inside), least_stroke)
    pattern = _pattern(pixels, inside, stroke)
    x, y = positions(size_of(pixels))
    melt = strength * MELT * stroke * smooth_noise(size_of(pixels), MELT_DISTANCE * stroke, random)
    melted = sampled(pixels, x + pattern * melt[..., 0], y + pattern * melt[..., 1])
    smeared = _smeared(_pieced(melted, pattern, stroke, random, strength), strength * SMEAR * stroke, stroke)
    blurred = cv2.GaussianBlur(smeared, (0, 0), stroke)
    crisp = smeared + strength * CRISPNESS * (smeared.astype(np.float64) - blurred)
    return levels(pixels + pattern[..., None] * (np.clip(crisp, 0, 255) - pixels))


def _pattern(pixels: Bytes, inside: Inside, stroke: float) -> Doubles:
    """(height, width) in [0, 1], how far a pixel belongs to lettering or pattern.

    These stand out, are thin and run in many directions. Texture stands out too little, an edge between two surfaces is
    not thin, and lines and frames, which generators get right, run in one direction.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (0, 0), max(0.1, 0.25 * stroke))
    window = np.ones((2 * max(1, round(THIN * stroke)) + 1,) * 2, np.uint8)
    # Where the object ends it is no pattern that stands out.
    within = cv2.erode(inside.astype(np.uint8), window)
    outstanding = np.maximum(
        cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, window), cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, window)
    ).astype(np.float64)
    contrast = np.sqrt(np.maximum(smoothed(within * outstanding**2, 1.5 * stroke), 0.0))
    xx, yy, xy = _structure(grey, NEIGHBOURHOOD * stroke)
    one_direction = np.sqrt((xx - yy) ** 2 + 4.0 * xy * xy) / (xx + yy + 1.0)
    amount = within * smoothstep(contrast, *CONTRAST) * smoothstep(one_direction, *ONE_DIRECTION)
    return smoothed(amount, 0.7 * stroke)


def _pieced(pixels: Bytes, pattern: Doubles, stroke: float, random: np.random.Generator, strength: float) -> Bytes:
    """Pieces of pattern are replaced by others, mirrored, on a ground of about the same colours."""
    shape = np.array(pattern.shape)
    places = np.flatnonzero(pattern > 0.5)
    out = pixels.astype(np.float64)
    ground = cv2.blur(pixels, (2 * round(1.5 * stroke) + 1,) * 2).astype(np.int64)
    for length in PIECE_RADII:
        radius = max(2, round(length * stroke))
        if len(places) == 0 or 2 * radius + 1 >= shape.min():
            continue
        count = round(PIECE_COVER / len(PIECE_RADII) * len(places) / (2 * radius + 1) ** 2)
        middles = np.stack(divmod(places[random.integers(0, len(places), count)], shape[1]), axis=1)
        reach = round(PIECE_REACH * stroke)
        offsets = random.integers(-reach, reach + 1, (count, PLACES_TRIED, 2))
        mirrorings = random.integers(0, len(MIRRORINGS), count)
        window = _window(radius)
        for index in range(round(count * strength)):
            here = np.clip(middles[index], radius, shape - 1 - radius)
            there = np.clip(here + offsets[index], radius, shape - 1 - radius)
            down, across = MIRRORINGS[int(mirrorings[index])]
            best = _most_alike(ground, pattern, here, there, (down * radius, across * radius), radius)
            if best is not None:
                place = _square(here, radius)
                out[place] += (pixels[_square(there[best], radius)][::down, ::across] - out[place]) * window
    return levels(out)


def _most_alike(
    ground: NDArray[np.int64],
    pattern: Doubles,
    here: NDArray[np.int64],
    there: NDArray[np.int64],
    mirrored: tuple[int, int],
    radius: int,
) -> int | None:
    """Which of the places `there` (n, 2) has the ground most like the one `here`, or None where none is like it."""
    strangeness = np.where(pattern[there[:, 0], there[:, 1]] < 0.5, MOST_STRANGE + 1, 0)
    for down, across in CORNERS:
        theirs = ground[there[:, 0] + down * mirrored[0], there[:, 1] + across * mirrored[1]]
        ours = ground[here[0] + down * radius, here[1] + across * radius]
        strangeness = np.maximum(strangeness, np.abs(theirs - ours).sum(axis=1))
    best = int(strangeness.argmin())
    return best if strangeness[best] <= MOST_STRANGE else None


def _smeared(pixels: Bytes, length: float, stroke: float) -> Bytes:
    """Every stroke runs on along itself, by line integral convolution (Cabral and Leedom, 1993)."""
    xx, yy, xy = _structure(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 0.6 * stroke)
    # The direction in which least changes: the eigenvector of the smaller eigenvalue, without angles.
    along_x, along_y = -2.0 * xy, xx - yy + np.sqrt((xx - yy) ** 2 + 4.0 * xy * xy)
    norm = np.sqrt(along_x**2 + along_y**2)
    clear = norm > 1e-6
    along_x, along_y = (np.where(clear, along, 0.0) / np.where(clear, norm, 1.0) for along in (along_x, along_y))
    x, y = positions(size_of(pixels))
    total = pixels.astype(np.float64)
    steps = (-1.0, -0.5, 0.5, 1.0)
    for step in steps:
        total += sampled(pixels, x + step * length * along_x, y + step * length * along_y)
    return levels(total / (1 + len(steps)))


def _structure(grey: Bytes, sigma: float) -> tuple[Doubles, Doubles, Doubles]:
    """The structure tensor (Bigun and Granlund, 1987): xx, yy and xy."""
    across, down = cv2.Sobel(grey, cv2.CV_64F, 1, 0), cv2.Sobel(grey, cv2.CV_64F, 0, 1)
    xx, yy, xy = (smoothed(product, sigma) for product in (across * across, down * down, across * down))
    return xx, yy, xy


def _window(radius: int) -> Doubles:
    """(2 * radius + 1, 2 * radius + 1, 1): 1 in the middle, 0 at the rim of a disc."""
    steps = np.arange(-radius, radius + 1, dtype=np.float64) / (radius + 1.0)
    to_rim = 1.0 - np.sqrt(steps[:, None, None] ** 2 + steps[None, :, None] ** 2)
    return smoothstep(to_rim, 0.0, 0.5)


def _square(middle: NDArray[np.int64], radius: int) -> tuple[slice, slice]:
    row, column = (int(place) for place in middle)
    return slice(row - radius, row + radius + 1), slice(column - radius, column + radius + 1)
