"""Light: make the reference's colours those it would have in the generated picture's light."""

import cv2
import numpy as np

from refgc.imaging.arrays import Floats, blur, shrink, size_of
from refgc.imaging.warp import fitted

GAIN_LIMITS = (0.4, 2.5)
# Grey levels at which a disagreement stops counting as light.
COLOUR_TOLERANCE = 24.0
# Light varies slowly: it is estimated on a grid of this many cells along the longer side.
LIGHT_SIDE = 128


def light(placed: Floats, generated: Floats, weight: Floats, sigma: float) -> Floats:
    """The light under which the placed reference looks like the generated picture, as a gain on its colours.

    Light multiplies and varies slowly. Each channel's gain is a local regression through the origin, in which bright
    surfaces speak and dark ones hardly do, so that faded print (red turned pink, black turned grey) stays an error of
    the generated picture and does not bleach the reference.

    Args:
        placed: (height, width, 3) in [0, 255], the reference in the generated picture's frame.
        generated: (height, width, 3) in [0, 255], equally sharp.
        weight: (height, width), how far each pixel shows the same surface in both.
        sigma: reach of the regression in pixels.

    Returns:
        The gain, (height, width, 3).
    """
    full = size_of(placed)
    grid = fitted(full, LIGHT_SIDE)
    sigma *= grid[0] / full[0]
    placed, generated, trusted = shrink(placed, grid), shrink(generated, grid), shrink(weight, grid)[..., None]
    robust, gain = trusted, np.ones(3, np.float32)
    for _ in range(5):
        energy = (robust * placed**2).sum(axis=(0, 1)) + 1e-6
        gain = np.clip((robust * placed * generated).sum(axis=(0, 1)) / energy, *GAIN_LIMITS)
        robust = trusted / (1.0 + ((gain * placed - generated) / COLOUR_TOLERANCE) ** 2)
    # The whole object's gain stands in where nothing near speaks.
    prior = 1e-2 * float(np.mean(placed**2)) + 1.0
    above = blur(np.asarray(robust * placed * generated, np.float32), sigma) + prior * gain
    below = blur(np.asarray(robust * placed**2, np.float32), sigma) + prior
    gain = np.clip(above / below, *GAIN_LIMITS)
    return np.asarray(cv2.resize(gain, full, interpolation=cv2.INTER_LINEAR), np.float32)
