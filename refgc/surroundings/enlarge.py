"""Enlargement of a whole picture with drawn detail, and its mixture with a picture of the object.

A network that enlarges blindly makes wrong print sharp, and draws smooth surfaces where texture is weak. So its result
is used around the object only, keeps the colours of its input, and gives way where its input shows little texture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, blur, enlarge, local_variance, luma, shrink, size_of, smoothstep
from refgc.imaging.levels import Levels
from refgc.request import Surroundings
from refgc.surroundings.gpu import find_compiler
from refgc.surroundings.ncnn import Layer
from refgc.surroundings.network import Advance, compiled_by_opencv, ignore_progress, kept_bytes, run_network
from refgc.surroundings.weights import load_network

# The first three constants were chosen by comparing a few values on the scenes of examples/, as their generated
# pictures and as their truth shrunk, and on ten shrunk photographs.
# Share of the network's picture in the mixture with a Lanczos enlargement. The errors of the two are not the same, so
# their mean is nearer to the truth; more of the network is crisper, and loses several dB on some photographs.
DRAWN_SHARE = 0.5
# Standard deviation of the window in which local contrast is measured, in pixels of the input; and the range of local
# contrast, in grey levels, over which the drawn detail comes in.
CONTRAST_SIGMA = 2.0
CONTRAST_RANGE = (4.0, 20.0)
# Rows of the result that are worked on at a time, and rows of the input beyond them that a Lanczos enlargement needs.
STRIP, MARGIN = 256, 4
# Where all features of a picture would take more memory than this, it is enlarged in bands of rows. Chosen by hand.
BAND_BYTES = 1_000_000_000
# Rows of the input over which a band fades into the next one. What a network draws is nearly the same in both by then.
# Chosen by hand.
FADE = 32


def draw_surroundings(
    pixels: Bytes,
    plain: Levels,
    method: Surroundings,
    folder: Path | None = None,
    advance: Advance = ignore_progress,
) -> Levels:
    """As `enlarge_surroundings`, with the network of a method read from its files; `plain` itself for "plain".

    Args:
        pixels: uint8 RGB of shape (height, width, 3).
        plain: `pixels` enlarged without a network, of 8 or 16 bits.
        method: "plain", "fast" or "best".
        folder: of the weights; None takes that of the settings.
        advance: called with the fraction done.

    Raises:
        EngineError: the weights are not there.
        InputError: the weights cannot be used.
    """
    return plain if method == "plain" else enlarge_surroundings(pixels, plain, load_network(method, folder), advance)


def enlarge_surroundings(
    pixels: Bytes, plain: Levels, layers: tuple[Layer, ...], advance: Advance = ignore_progress
) -> Levels:
    """Enlarges a picture with the detail that a network draws.

    The network always enlarges four times, and area averages make smaller results, so that the results of all scales
    show the same. One step of iterative back-projection (Irani and Peleg, 1991) gives the result the colours of
    `pixels`: it shrinks back to about the same picture.

    Args:
        pixels: uint8 RGB of shape (height, width, 3).
        plain: uint8 or uint16 RGB, `pixels` enlarged without a network, as many times as is wanted: from 1 to 4.
        layers: the network, as `refgc.surroundings.weights.load_network` returns it.
        advance: called with the fraction done.

    Returns:
        RGB of the type and shape of `plain`; `plain` itself where nothing is enlarged.
    """
    size = size_of(plain)
    if size == size_of(pixels):
        return plain
    drawn = np.asarray(cv2.resize(_drawn(pixels, layers, advance), size, interpolation=cv2.INTER_AREA), np.uint8)
    given = pixels.astype(np.float32)
    difference = np.empty_like(given)
    for rows, inside in _strips(size_of(pixels), size):
        mixed = _mixed(drawn[rows], given, inside, size)
        difference[inside] = given[inside] - shrink(mixed, (size_of(pixels)[0], inside.stop - inside.start))
    weight = texture_weight(pixels)
    result = np.empty_like(plain)
    unit = np.float32(np.iinfo(plain.dtype).max / 255)
    for rows, inside in _strips(size_of(pixels), size):
        base = plain[rows].astype(np.float32) / unit
        corrected = _mixed(drawn[rows], given, inside, size) + _enlarged(difference, inside, size, cv2.INTER_CUBIC)
        share_here = _enlarged(weight, inside, size, cv2.INTER_LINEAR)[..., None]
        result[rows] = np.clip(base + share_here * (corrected - base), 0.0, 255.0) * unit + 0.5
    return result


def texture_weight(pixels: Bytes) -> Floats:
    """How much of the drawn detail is used: less where the picture has little local contrast.

    Args:
        pixels: uint8 RGB of shape (height, width, 3).

    Returns:
        (height, width) in [0, 1], smooth.
    """
    contrast = np.sqrt(local_variance(luma(pixels).astype(np.float32), CONTRAST_SIGMA))
    return smoothstep(np.asarray(contrast, np.float32), *CONTRAST_RANGE)


def mix_with_object(surroundings: Levels, refined: Levels, alpha: Floats) -> Levels:
    """The refined object in its surroundings.

    Args:
        surroundings: uint8 or uint16 RGB of shape (height, width, 3).
        refined: RGB of the same type and shape, in which the object is refined.
        alpha: (rows, columns) in [0, 1], on any grid over the picture: 1 where `refined` is wanted.

    Returns:
        RGB of the same type and shape.
    """
    result = np.empty_like(surroundings)
    top_level = np.iinfo(surroundings.dtype).max
    size = size_of(surroundings)
    share = enlarge(alpha, size) if size_of(alpha) != size else alpha
    for top in range(0, size[1], STRIP):
        rows = slice(top, top + STRIP)
        base = surroundings[rows].astype(np.float32)
        result[rows] = np.clip(base + share[rows, :, None] * (refined[rows] - base), 0, top_level) + np.float32(0.5)
    return result


def object_alpha(area: Floats, softness: float) -> Floats:
    """Where the refined object is shown: all over its area, with a soft transition around it.

    Args:
        area: (height, width) in [0, 1], the object.
        softness: width of the transition, outside of the area, in pixels of `area`.
    """
    if softness <= 0.0:
        return area
    # Half as large is enough for a smooth field, and a quarter of the work.
    half = shrink(area, (max(1, area.shape[1] // 2), max(1, area.shape[0] // 2)))
    # Grown by half of the width and blurred, the area is untouched and the transition about as wide as it should be.
    side = 2 * round(softness / 4) + 1
    grown = np.asarray(cv2.dilate(half, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))), np.float32)
    return np.asarray(np.maximum(area, enlarge(blur(grown, softness / 8), size_of(area))), np.float32)


def _drawn(pixels: Bytes, layers: tuple[Layer, ...], advance: Advance) -> Bytes:
    """The network's picture, in bands of rows where the picture is large."""
    height, width = pixels.shape[:2]
    compiler = find_compiler() or compiled_by_opencv
    most = max(4 * FADE, BAND_BYTES // (width * max(kept_bytes(layers), 1)))
    if height <= most:
        return run_network(layers, pixels, advance, compiler=compiler)
    count = -(-(height - FADE) // (most - FADE))
    starts = [round(number * (height - FADE) / count) for number in range(count)]
    factor = layers[-1].scale
    result = np.empty((height * factor, width * factor, 3), np.uint8)
    for number, (start, stop) in enumerate(zip(starts, [*(start + FADE for start in starts[1:]), height], strict=True)):
        band = run_network(layers, pixels[start:stop], _part_of(advance, number, count), compiler=compiler)
        fade = FADE * factor if number else 0
        top = start * factor
        ramp = (np.arange(fade, dtype=np.float32)[:, None, None] + 0.5) / max(fade, 1)
        before = result[top : top + fade].astype(np.float32)
        result[top : top + fade] = before + ramp * (band[:fade] - before) + 0.5
        result[top + fade : stop * factor] = band[fade:]
    return result


def _mixed(drawn: Bytes, given: Floats, rows: slice, size: Size) -> Floats:
    """The network's picture mixed with a Lanczos enlargement, for some rows of the input `given`."""
    return DRAWN_SHARE * drawn + (1.0 - DRAWN_SHARE) * _enlarged(given, rows, size, cv2.INTER_LANCZOS4)


def _part_of(advance: Advance, number: int, count: int) -> Advance:
    """The progress of one band of many."""
    return lambda share: advance((number + share) / count)


def _strips(small: Size, size: Size) -> Iterator[tuple[slice, slice]]:
    """Rows of the result, and the rows of the input that they come from."""
    scale = size[1] // small[1]
    step = max(1, STRIP // scale)
    for top in range(0, small[1], step):
        bottom = min(top + step, small[1])
        yield slice(top * scale, bottom * scale), slice(top, bottom)


def _enlarged(field: Floats, rows: slice, size: Size, interpolation: int) -> Floats:
    """Some rows of a field of the input's size, enlarged as they would be in the whole."""
    scale = size[0] // field.shape[1]
    top, bottom = max(rows.start - MARGIN, 0), min(rows.stop + MARGIN, field.shape[0])
    enlarged = cv2.resize(field[top:bottom], (size[0], (bottom - top) * scale), interpolation=interpolation)
    return np.asarray(enlarged[(rows.start - top) * scale : (rows.stop - top) * scale], np.float32)
