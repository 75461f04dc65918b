"""Photometric harmonisation: the change of light that gives the reference the light of the generated picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Floats, blur, shrink, size_of
from refgc.imaging.warp import fitted

# The constants of this file were chosen by hand, not fitted.
# A night scene of a product photographed in daylight needs a gain of about a twentieth.
GAIN_LIMITS = (0.05, 20.0)
# The local gain may differ from the global one by at most this factor: a stronger change is not light.
LOCAL_FACTOR = 3.0
# Residual at which a pixel's weight in the global gain has fallen to a half, in grey levels of a generated picture as
# bright as the reference. It falls with the gain, but not below what 8 bits can tell.
RESIDUAL_SCALE = 24.0
LEAST_RESIDUAL_SCALE = 3.0
ROUNDS = 5
# Light varies slowly, so the local change is estimated on a grid of this many cells along the longer side.
GRID_SIDE = 128
# Standard deviation in grey levels that print must have in a window before haze can be told from a darker surface.
HAZE_CONTRAST = 12.0
# Windows of the offset, from wide to narrow, in units of the gain's window; its residual scale in units of the gain's;
# and the weight of no offset, in units of a window full of pixels that agree.
OFFSET_WIDTHS = (4.0, 2.0, 1.0)
OFFSET_RESIDUAL = 1.5
OFFSET_PRIOR = 0.1
# ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Light:
    """A change of light: `picture * gain + offset`.

    Attributes:
        gain: (rows, columns, 3), within `GAIN_LIMITS`.
        offset: (rows, columns, 3), in grey levels.
    """

    gain: Floats
    offset: Floats

    def applied(self, placed: Floats) -> Floats:
        """A picture (rows, columns, 3) in [0, 255] under this light, within [0, 255]."""
        return np.asarray(np.clip(placed * self.gain + self.offset, 0.0, 255.0), np.float32)

    def mixed(self, other: "Light", share: float) -> "Light":
        """Between this light and another on the same grid, of which `share` in [0, 1] is taken."""
        gain, offset = self.gain + share * (other.gain - self.gain), self.offset + share * (other.offset - self.offset)
        return Light(np.asarray(gain, np.float32), np.asarray(offset, np.float32))

    def with_colours_of(self, generated: Floats, placed: Floats, weight: Floats, sigma: float) -> "Light":
        """The light under which the placed reference has the generated picture's colours on the average of a window.

        The luma of a generated picture is wrong wherever its print is. Its colours are hardly ever wrong over several
        of its pixels: where they differ there from those of the reference, the object has other colours, or the light
        was estimated wrongly.

        Args:
            generated: (rows, columns, 3) in [0, 255].
            placed: the reference, of the same size as this light.
            weight: (rows, columns), 0 or more: how far each pixel shows the same surface in both.
            sigma: standard deviation of the window in pixels.
        """
        rest = generated - self.applied(placed)
        rest -= (rest @ LUMA)[..., None]
        given = weight[..., None]
        change = blur(given * rest, sigma) / (blur(weight, sigma)[..., None] + np.float32(1e-3))
        return Light(self.gain, np.asarray(self.offset + change, np.float32))

    def darkened(self, factor: float) -> "Light":
        """The light for a picture that is `factor` times darker."""
        return self if factor == 1.0 else Light(self.gain / np.float32(factor), self.offset / np.float32(factor))


def estimate_light(
    placed: Floats, generated: Floats, weight: Floats, sigma: float, widths: tuple[float, ...] = OFFSET_WIDTHS
) -> Light:
    """The change of light from the placed reference to the generated picture.

    First one global gain per channel is found by iteratively reweighted least squares. Its weights (Cauchy) take out
    pixels that show something else. Then each channel's gain is a local regression through the origin under those
    weights, with the global gain as its prior. In such a regression bright surfaces count for more than dark ones.
    Faded print (red turned pink, black turned grey) is therefore left as an error of the generated picture and does
    not bleach the reference.

    Haze in the reference, such as the reflection of a lamp, is a constant that is subtracted: there the regression has
    an intercept, which may only be negative. Last, the local mean of what remains is added, since the low frequencies
    of the generated picture are its light.

    Args:
        placed: (height, width, 3) in [0, 255], the reference warped into the generated picture's frame.
        generated: (height, width, 3) in [0, 255], equally sharp.
        weight: (height, width), 0 or more: how far each pixel shows the same surface in both.
        sigma: standard deviation in pixels of the local regression's window.
        widths: of the offset's windows, in units of `sigma`; the narrower, the more of the print's colour is taken
            for light.
    """
    full = size_of(placed)
    grid = fitted(full, GRID_SIDE)
    sigma *= grid[0] / full[0]
    placed, generated, given = shrink(placed, grid), shrink(generated, grid), shrink(weight, grid)[..., None]
    robust, overall, spread = _global_gain(placed, generated, given)
    # The global gain decides where no pixel nearby has weight.
    prior = 1e-2 * float(np.mean(placed**2)) + 1.0
    count, mean = _local(robust, sigma), _local(robust * placed, sigma)
    square, product = _local(robust * placed**2, sigma), _local(robust * placed * generated, sigma)
    haze = _haze(count, mean, square, product, _local(robust * generated, sigma), overall)
    gain = (product - haze * mean + prior * overall) / (square + prior)
    gain = np.clip(np.clip(gain, overall / LOCAL_FACTOR, overall * LOCAL_FACTOR), *GAIN_LIMITS)
    offset = haze
    for width in widths:
        rest = generated - placed * gain - offset
        # What differs by much is print, which the offset must not take over.
        robust = given / (1.0 + (rest / (OFFSET_RESIDUAL * spread)) ** 2)
        weight = _local(robust, width * sigma) + OFFSET_PRIOR * float(given.mean()) + 1e-6
        offset = offset + _local(robust * rest, width * sigma) / weight
    larger = (cv2.resize(np.asarray(field, np.float32), full) for field in (gain, offset))
    return Light(*(np.asarray(field, np.float32) for field in larger))


def _global_gain(placed: Floats, generated: Floats, given: Floats) -> tuple[Floats, Floats, float]:
    """The pixels' weights (rows, columns, 3), the gain (3,) of each channel, and the scale of the residuals."""
    # The first weights come from the light as a whole: at night all residuals of an unchanged reference are large.
    level = float((given * generated).sum() / ((given * placed).sum() + 1e-6))
    gain = np.full(3, np.clip(level, *GAIN_LIMITS), np.float32)
    robust, spread = given, RESIDUAL_SCALE
    for _ in range(ROUNDS):
        spread = max(LEAST_RESIDUAL_SCALE, RESIDUAL_SCALE * min(1.0, float(gain.mean())))
        robust = given / (1.0 + ((gain * placed - generated) / spread) ** 2)
        energy = (robust * placed**2).sum(axis=(0, 1)) + 1e-6
        gain = np.clip((robust * placed * generated).sum(axis=(0, 1)) / energy, *GAIN_LIMITS)
    return np.asarray(robust, np.float32), np.asarray(gain, np.float32), spread


def _haze(count: Floats, mean: Floats, square: Floats, product: Floats, seen: Floats, overall: Floats) -> Floats:
    """The intercept of each window's regression where it is negative, else 0; from the window's weighted sums."""
    total = count + np.float32(1e-6)
    variance = np.maximum(square / total - (mean / total) ** 2, 0.0)
    covariance = product / total - mean * seen / total**2
    slope = (covariance + HAZE_CONTRAST**2 * overall) / (variance + HAZE_CONTRAST**2)
    slope = np.clip(slope, overall, overall * LOCAL_FACTOR)
    intercept = (seen - slope * mean) / total
    # In windows without weight nothing is known.
    known = count / (count + 0.05 * float(count.max()) + np.float32(1e-6))
    return np.asarray(np.minimum(intercept, 0.0) * known * (slope > overall), np.float32)


def _local(field: Floats, sigma: float) -> Floats:
    return blur(np.asarray(field, np.float32), sigma)
