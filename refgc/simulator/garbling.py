"""Detail inconsistency: lettering and fine pattern are replaced by similar but illegible pattern."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bools, Bytes, size_of, smoothstep
from refgc.imaging.exact import (
    Doubles,
    equivalent_side,
    gaussian_by_boxes,
    pixel_coordinates,
    sample_at,
    smooth_noise,
    to_levels,
)

# The constants of this file were chosen by hand, not fitted.
# Width of a stroke of lettering as a fraction of the object's side; all other lengths are in strokes.
STROKE = 0.01
# Radius of the top-hat filter: detail is thinner than twice this.
TOP_HAT_RADIUS = 1.6
# Range of top-hat contrast in grey levels between texture and lettering.
CONTRAST = (5.0, 14.0)
# Window of the structure tensor, and range of its coherence between a line (1 is a single direction) and lettering.
TENSOR_SIGMA = 3.5
COHERENCE = (0.92, 0.72)
# Random warp of the glyphs: correlation length and standard deviation of the displacement.
WARP_CORRELATION_LENGTH = 2.6
WARP_DEVIATION = 1.3
# Patches copied from elsewhere in the pattern: radii, largest distance, places tried for each, and the area they cover
# at strength 1 as a multiple of the pattern's area.
PATCH_RADII = (2.0, 3.2, 4.6)
PATCH_DISTANCE = 16.0
PLACES_TRIED = 10
PATCH_COVER = 2.0
# Mirrorings of a patch (down, across), and the points at which its background is compared to that of the place it is
# copied to: the sum over the channels of the differences in levels may be at most this at each of them.
MIRRORINGS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
COMPARED_POINTS = ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0))
MAXIMUM_DIFFERENCE = 110
# Half the length of the line integral convolution, and weight of the unsharp mask that follows it.
SMEAR = 1.4
SHARPENING = 0.8


def garble(pixels: Bytes, mask: Bools, random: np.random.Generator, strength: float, least_stroke: float) -> Bytes:
    """Warp glyphs, exchange patches of them and smear strokes; large shapes, lines and flat surfaces stay.

    Args:
        pixels: uint8 RGB (height, width, 3) of the object alone, as `exact.extend_outwards` gives it.
        mask: (height, width), true on the object.
        random: from the same state, a larger strength gives more of the same changes.
        strength: in [0, 1].
        least_stroke: width in pixels of the thinnest strokes that are visible in the LRGI.
    """
    stroke = max(STROKE * equivalent_side(mask), least_stroke)
    pattern = _pattern(pixels, mask, stroke)
    x, y = pixel_coordinates(size_of(pixels))
    warp = strength * WARP_DEVIATION * stroke * smooth_noise(size_of(pixels), WARP_CORRELATION_LENGTH * stroke, random)
    warped = sample_at(pixels, x + pattern * warp[..., 0], y + pattern * warp[..., 1])
    smeared = _smear(_exchange_patches(warped, pattern, stroke, random, strength), strength * SMEAR * stroke, stroke)
    blurred = cv2.GaussianBlur(smeared, (0, 0), stroke)
    sharpened = smeared + strength * SHARPENING * (smeared.astype(np.float64) - blurred)
    return to_levels(pixels + pattern[..., None] * (np.clip(sharpened, 0, 255) - pixels))


def _pattern(pixels: Bytes, mask: Bools, stroke: float) -> Doubles:
    """How far a pixel belongs to lettering or pattern, (height, width) in [0, 1].

    Lettering has contrast, is thin and has many directions. Texture has too little contrast, an edge between two
    surfaces is not thin, and lines and frames, which generators get right, have a single direction.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (0, 0), max(0.1, 0.25 * stroke))
    window = np.ones((2 * max(1, round(TOP_HAT_RADIUS * stroke)) + 1,) * 2, np.uint8)
    # The object's outline is not pattern.
    within = cv2.erode(mask.astype(np.uint8), window)
    top_hat = np.maximum(
        cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, window), cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, window)
    ).astype(np.float64)
    contrast = np.sqrt(np.maximum(gaussian_by_boxes(within * top_hat**2, 1.5 * stroke), 0.0))
    xx, yy, xy = _structure(grey, TENSOR_SIGMA * stroke)
    coherence = np.sqrt((xx - yy) ** 2 + 4.0 * xy * xy) / (xx + yy + 1.0)
    amount = within * smoothstep(contrast, *CONTRAST) * smoothstep(coherence, *COHERENCE)
    return gaussian_by_boxes(amount, 0.7 * stroke)


def _exchange_patches(
    pixels: Bytes, pattern: Doubles, stroke: float, random: np.random.Generator, strength: float
) -> Bytes:
    """Patches of pattern replaced by others, mirrored, that have about the same background colours."""
    shape = np.array(pattern.shape)
    places = np.flatnonzero(pattern > 0.5)
    out = pixels.astype(np.float64)
    background = cv2.blur(pixels, (2 * round(1.5 * stroke) + 1,) * 2).astype(np.int64)
    for length in PATCH_RADII:
        radius = max(2, round(length * stroke))
        if len(places) == 0 or 2 * radius + 1 >= shape.min():
            continue
        count = round(PATCH_COVER / len(PATCH_RADII) * len(places) / (2 * radius + 1) ** 2)
        middles = np.stack(divmod(places[random.integers(0, len(places), count)], shape[1]), axis=1)
        reach = round(PATCH_DISTANCE * stroke)
        offsets = random.integers(-reach, reach + 1, (count, PLACES_TRIED, 2))
        mirrorings = random.integers(0, len(MIRRORINGS), count)
        window = _window(radius)
        for index in range(round(count * strength)):
            here = np.clip(middles[index], radius, shape - 1 - radius)
            there = np.clip(here + offsets[index], radius, shape - 1 - radius)
            down, across = MIRRORINGS[int(mirrorings[index])]
            best = _most_similar(background, pattern, here, there, (down * radius, across * radius), radius)
            if best is not None:
                place = _square(here, radius)
                out[place] += (pixels[_square(there[best], radius)][::down, ::across] - out[place]) * window
    return to_levels(out)


def _most_similar(
    background: NDArray[np.int64],
    pattern: Doubles,
    here: NDArray[np.int64],
    there: NDArray[np.int64],
    mirrored: tuple[int, int],
    radius: int,
) -> int | None:
    """Index of the place `there` (n, 2) with the background most similar to `here`; None where all differ too much."""
    difference = np.where(pattern[there[:, 0], there[:, 1]] < 0.5, MAXIMUM_DIFFERENCE + 1, 0)
    for down, across in COMPARED_POINTS:
        theirs = background[there[:, 0] + down * mirrored[0], there[:, 1] + across * mirrored[1]]
        ours = background[here[0] + down * radius, here[1] + across * radius]
        difference = np.maximum(difference, np.abs(theirs - ours).sum(axis=1))
    best = int(difference.argmin())
    return best if difference[best] <= MAXIMUM_DIFFERENCE else None


def _smear(pixels: Bytes, length: float, stroke: float) -> Bytes:
    """Strokes smeared along their own direction by line integral convolution (Cabral and Leedom, 1993)."""
    xx, yy, xy = _structure(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 0.6 * stroke)
    # The direction of least change: the eigenvector of the smaller eigenvalue, without trigonometry.
    along_x, along_y = -2.0 * xy, xx - yy + np.sqrt((xx - yy) ** 2 + 4.0 * xy * xy)
    norm = np.sqrt(along_x**2 + along_y**2)
    clear = norm > 1e-6
    along_x, along_y = (np.where(clear, along, 0.0) / np.where(clear, norm, 1.0) for along in (along_x, along_y))
    x, y = pixel_coordinates(size_of(pixels))
    total = pixels.astype(np.float64)
    steps = (-1.0, -0.5, 0.5, 1.0)
    for step in steps:
        total += sample_at(pixels, x + step * length * along_x, y + step * length * along_y)
    return to_levels(total / (1 + len(steps)))


def _structure(grey: Bytes, sigma: float) -> tuple[Doubles, Doubles, Doubles]:
    """The components xx, yy and xy of the structure tensor (Bigun and Granlund, 1987), (height, width) each."""
    across, down = cv2.Sobel(grey, cv2.CV_64F, 1, 0), cv2.Sobel(grey, cv2.CV_64F, 0, 1)
    xx, yy, xy = (gaussian_by_boxes(product, sigma) for product in (across * across, down * down, across * down))
    return xx, yy, xy


def _window(radius: int) -> Doubles:
    """A disc-shaped window (2 * radius + 1, 2 * radius + 1, 1): 1 in the middle, 0 at the rim."""
    steps = np.arange(-radius, radius + 1, dtype=np.float64) / (radius + 1.0)
    to_rim = 1.0 - np.sqrt(steps[:, None, None] ** 2 + steps[None, :, None] ** 2)
    return smoothstep(to_rim, 0.0, 0.5)


def _square(middle: NDArray[np.int64], radius: int) -> tuple[slice, slice]:
    row, column = (int(place) for place in middle)
    return slice(row - radius, row + radius + 1), slice(column - radius, column + radius + 1)
