"""Photometric harmonisation: the gain that gives the reference the light of the generated picture."""

import cv2
import numpy as np

from refgc.imaging.arrays import Floats, blur, shrink, size_of
from refgc.imaging.warp import fitted

# The constants of this file were chosen by hand, not fitted.
GAIN_LIMITS = (0.4, 2.5)
# Residual in grey levels at which a pixel's weight in the global gain has fallen to a half.
RESIDUAL_SCALE = 24.0
ROUNDS = 5
# Light varies slowly, so the local gain is estimated on a grid of this many cells along the longer side.
GRID_SIDE = 128


def estimate_gain(placed: Floats, generated: Floats, weight: Floats, sigma: float) -> Floats:
    """The multiplicative change of light from the placed reference to the generated picture.

    First one global gain per channel is found by iteratively reweighted least squares. Its weights (Cauchy) take out
    pixels that show something else. Then each channel's gain is a local regression through the origin under those
    weights, with the global gain as its prior. In such a regression bright surfaces count for more than dark ones.
    Faded print (red turned pink, black turned grey) is therefore left as an error of the generated picture and does
    not bleach the reference.

    Args:
        placed: (height, width, 3) in [0, 255], the reference warped into the generated picture's frame.
        generated: (height, width, 3) in [0, 255], equally sharp.
        weight: (height, width), 0 or more: how far each pixel shows the same surface in both.
        sigma: standard deviation in pixels of the local regression's window.

    Returns:
        The gain, (height, width, 3), within `GAIN_LIMITS`.
    """
    full = size_of(placed)
    grid = fitted(full, GRID_SIDE)
    sigma *= grid[0] / full[0]
    placed, generated, given = shrink(placed, grid), shrink(generated, grid), shrink(weight, grid)[..., None]
    robust, gain = given, np.ones(3, np.float32)
    for _ in range(ROUNDS):
        energy = (robust * placed**2).sum(axis=(0, 1)) + 1e-6
        gain = np.clip((robust * placed * generated).sum(axis=(0, 1)) / energy, *GAIN_LIMITS)
        robust = given / (1.0 + ((gain * placed - generated) / RESIDUAL_SCALE) ** 2)
    # The global gain decides where no pixel nearby has weight.
    prior = 1e-2 * float(np.mean(placed**2)) + 1.0
    numerator = blur(np.asarray(robust * placed * generated, np.float32), sigma) + prior * gain
    denominator = blur(np.asarray(robust * placed**2, np.float32), sigma) + prior
    gain = np.clip(numerator / denominator, *GAIN_LIMITS)
    return np.asarray(cv2.resize(gain, full, interpolation=cv2.INTER_LINEAR), np.float32)
