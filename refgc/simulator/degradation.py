"""Texture loss, by guided filtering, and quality degradation: blur, faded colours, noise and JPEG."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image as PILImage

from refgc.imaging.arrays import Bytes, size_of
from refgc.imaging.exact import Doubles, to_levels

# At strength 1; lengths in pixels of the LRGI, contrasts in grey levels. Chosen by hand, not fitted.
TEXTURE_RADIUS = 2.5
TEXTURE_CONTRAST = 24.0
TEXTURE_PASSES = 3
BLUR = 0.9
FADE = 0.22
DESATURATION = 0.35
TINT = 10.0
NOISE, COLOUR_NOISE = 6.0, 3.0
QUALITY_LOSS = 65


def flatten(pixels: Bytes, strength: float, pixel_size: float) -> Bytes:
    """Texture loss: several passes of a guided filter (He et al., 2013), which flattens texture and keeps edges.

    Args:
        pixels: uint8 RGB (height, width, 3).
        strength: in [0, 1].
        pixel_size: side of a pixel of the LRGI in pixels of this picture.
    """
    radius = max(1, round(TEXTURE_RADIUS * pixel_size))
    tolerance = (strength * TEXTURE_CONTRAST) ** 2
    channels = [channel.astype(np.float64) for channel in cv2.split(pixels)]
    for _ in range(TEXTURE_PASSES):
        channels = [_guided(channel, radius, tolerance) for channel in channels]
    return to_levels(np.dstack(channels))


def degrade(pixels: Bytes, random: np.random.Generator, strength: float, pixel_size: float) -> Bytes:
    """Quality degradation: blur, faded and tinted colours, noise and JPEG.

    Noise and JPEG are computed at the LRGI's size and added to this picture.

    Args:
        pixels: uint8 RGB (height, width, 3).
        random: from the same state, a larger strength gives the same tint and noise, only stronger.
        strength: in [0, 1].
        pixel_size: side of a pixel of the LRGI in pixels of this picture.
    """
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(0.1, BLUR * strength * pixel_size)).astype(np.float64)
    tint = random.uniform(-1.0, 1.0, 3)
    veil = 225.0 + 1.5 * TINT * tint
    # The mean of the channels as a sum in a fixed order, since the order changes the last digit.
    grey = ((blurred[..., 0] + blurred[..., 1] + blurred[..., 2]) / 3.0)[..., None]
    faded = blurred + strength * DESATURATION * (grey - blurred)
    faded += strength * (FADE * (veil - faded) + TINT * tint)
    whole = to_levels(faded)
    width, height = size_of(pixels)
    small_size = (max(1, round(width / pixel_size)), max(1, round(height / pixel_size)))
    small = np.asarray(cv2.resize(whole, small_size, interpolation=cv2.INTER_AREA), np.uint8)
    grain = NOISE * random.standard_normal((small_size[1], small_size[0], 1))
    grain = grain + COLOUR_NOISE * random.standard_normal((small_size[1], small_size[0], 3))
    coded = _through_jpeg(to_levels(small + strength * grain), round(95 - QUALITY_LOSS * strength))
    change = coded.astype(np.int16) - small
    enlarged = cv2.resize(change, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(np.clip(whole + enlarged, 0, 255), np.uint8)


def _guided(channel: Doubles, radius: int, tolerance: float) -> Doubles:
    """The guided filter of a channel (height, width) guided by itself."""
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(values: Doubles) -> Doubles:
        return np.asarray(cv2.blur(values, window, borderType=cv2.BORDER_REFLECT_101), np.float64)

    middle = mean(channel)
    variance = np.maximum(mean(channel * channel) - middle * middle, 0.0)
    # The exponent of 1.5 instead of the filter's own 1 keeps edges over several passes.
    kept = variance * np.sqrt(variance)
    slope = kept / (kept + tolerance * np.sqrt(tolerance))
    return np.asarray(mean(slope) * channel + mean(middle - slope * middle), np.float64)


def _through_jpeg(pixels: Bytes, quality: int) -> Bytes:
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(PILImage.open(file))
