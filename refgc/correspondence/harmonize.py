"""Light: make the reference's colours those it would have in the generated picture's light."""

import numpy as np

from refgc.correspondence.arrays import Floats, blur

# A generated picture may lie under a faint veil; more than this (grey levels) is wrong colour, not veil.
VEIL_LIMIT = 12.0
GAIN_LIMITS = (0.4, 2.5)
# Grey levels at which a disagreement stops counting as light.
COLOUR_TOLERANCE = 24.0


def light(placed: Floats, generated: Floats, weight: Floats, sigma: float) -> tuple[Floats, Floats]:
    """The light under which the placed reference looks like the generated picture: `gain * placed + veil`.

    Light multiplies and varies slowly. Each channel's gain is a local regression through the origin, in which bright
    surfaces speak and dark ones hardly do, so that faded print (red turned pink) stays an error of the generated
    picture and does not bleach the reference.

    Args:
        placed: (height, width, 3) in [0, 255], the reference in the generated picture's frame.
        generated: (height, width, 3) in [0, 255], equally sharp.
        weight: (height, width), how far each pixel shows the same surface in both.
        sigma: reach of the regression in pixels.

    Returns:
        The gain (height, width, 3) and the veil (3,) in grey levels.
    """
    trusted = weight[..., None]
    gain, veil = np.ones(3, np.float32), np.zeros(3, np.float32)
    robust = trusted
    for _ in range(5):
        total = robust.sum(axis=(0, 1)) + 1e-6
        mean_placed, mean_generated = (robust * placed).sum(axis=(0, 1)) / total, (robust * generated).sum(axis=(0, 1)) / total
        spread = (robust * (placed - mean_placed) ** 2).sum(axis=(0, 1)) + 1e-6
        slope = (robust * (placed - mean_placed) * (generated - mean_generated)).sum(axis=(0, 1)) / spread
        veil = np.clip(mean_generated - slope * mean_placed, -VEIL_LIMIT, VEIL_LIMIT)
        energy = (robust * placed**2).sum(axis=(0, 1)) + 1e-6
        gain = np.clip((robust * placed * (generated - veil)).sum(axis=(0, 1)) / energy, *GAIN_LIMITS)
        off = gain * placed + veil - generated
        robust = trusted / (1.0 + (off / COLOUR_TOLERANCE) ** 2)
    # The whole object's gain stands in where nothing near speaks.
    prior = 1e-2 * float(np.mean(placed**2)) + 1.0
    above = blur(robust * placed * (generated - veil), sigma) + prior * gain
    below = blur(robust * placed**2, sigma) + prior
    return np.asarray(np.clip(above / below, *GAIN_LIMITS), np.float32), veil.astype(np.float32)
