"""The pair of pictures as the stages see it: equally exposed, and grey where one of them has no colour."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, luma
from refgc.imaging.image import Image
from refgc.imaging.matting import estimate_foreground

# The constants of this file were chosen by hand, not fitted.
# A picture whose bright parts are darker than this level is brightened, by at most the factor, so that thresholds in
# grey levels mean the same in it.
BRIGHT_PERCENTILE = 98.0
BRIGHT_LEVEL = 200.0
LARGEST_FACTOR = 20.0
# A picture is grey if in all but this share of it the channels differ by at most so many levels: codecs add some.
COLOURED_SHARE = 0.005
GREY_RANGE = 6


@dataclass(frozen=True, slots=True, eq=False)
class ExposedPair:
    """Both pictures of a request, prepared.

    Attributes:
        reference: uint8 RGB; at soft edges of its transparency the object's own colours.
        generated: uint8 RGB of the generated picture, brightened where it is dark.
        exposure: the factor by which `generated` was brightened, 1 or more.
        luminance_only: whether both are grey, because one of the two given pictures has no colour.
    """

    reference: Bytes
    generated: Bytes
    exposure: float
    luminance_only: bool


def expose(reference: Image, generated: Image) -> ExposedPair:
    """Prepares the two pictures of a request."""
    sharp = reference.pixels
    if reference.alpha is not None:
        # Cut-outs keep the colour of their old background in soft edges.
        sharp = np.asarray(np.rint(estimate_foreground(sharp, reference.alpha.values)), np.uint8)
    factor = exposure_factor(generated.pixels)
    seen = brightened(generated.pixels, factor)
    luminance_only = is_grey(sharp) or is_grey(generated.pixels)
    if luminance_only:
        sharp, seen = grey(sharp), grey(seen)
    return ExposedPair(sharp, seen, factor, luminance_only)


def exposure_factor(pixels: Bytes) -> float:
    """The factor, from 1 to `LARGEST_FACTOR`, that gives a dark picture (height, width, 3) bright parts."""
    bright = float(np.percentile(luma(pixels), BRIGHT_PERCENTILE))
    return float(np.clip(BRIGHT_LEVEL / max(bright, 1.0), 1.0, LARGEST_FACTOR))


def brightened(pixels: Bytes, factor: float) -> Bytes:
    """A picture times a factor, clipped; itself where the factor is 1."""
    if factor == 1.0:
        return pixels
    return np.asarray(np.clip(pixels.astype(np.float32) * factor + 0.5, 0, 255), np.uint8)


def is_grey(pixels: Bytes) -> bool:
    """Whether a picture (height, width, 3) has no colour."""
    red, green, blue = cv2.split(pixels)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    return float((spread > GREY_RANGE).mean()) <= COLOURED_SHARE


def grey(pixels: Bytes) -> Bytes:
    """The luma in all three channels."""
    return np.repeat(luma(pixels)[..., None], 3, axis=2)


def with_chroma_of(base: Floats, placed: Floats) -> Floats:
    """The luma of `placed`, which is grey, with the colour differences of `base`; both (height, width, 3)."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(np.clip(base + (placed - (base @ weights)[..., None]), 0.0, 255.0), np.float32)
