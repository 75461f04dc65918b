"""Trust: how far each spot of the placed reference may stand for the generated picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Floats, blur, local_variance

# How near, in cells of the trust grid, evidence must lie to count: the artifacts of a generated picture are local and
# must not speak against the geometry that their surroundings confirm.
NEAR = 2.0
AROUND = 4.0
# A logistic model of whether the placed reference is nearer to the truth than the upscale, fitted to six photo pairs
# with known truth and simulated artifacts, each pair's errors judged by a fit to the other five.
CONSTANT = 3.44
PER_LOG_DISAGREEMENT = -1.96
PER_CONSISTENCY = 1.33
PER_LOG_DEVIATION = -1.2
PER_LOG_BENDING = -0.5
# A map this straight all around (second derivative per cell) has no depth edge behind which something could hide,
# where at least this share of the flow is consistent.
STRAIGHT = 0.12
CONSISTENT = 0.6
# Variance, in grey levels squared, below which a surface is flat: nothing on it can be misplaced.
FLAT = 36.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against each spot; every field is (height, width) on the trust grid.

    Attributes:
        disagreement: mean absolute colour difference of the harmonised reference to the generated picture, grey levels.
        believed: 1 where flow forth and back agree, else 0.
        deviation: how far the flow lies from the regularised map, in cells.
        bending: second derivative of the map, per cell.
    """

    disagreement: Floats
    believed: Floats
    deviation: Floats
    bending: Floats


def likeness(placed: Floats, generated: Floats) -> Floats:
    """Local correlation (height, width) in [-1, 1] of two grey pictures; 1 where both are flat."""
    together = blur(placed * generated, AROUND) - blur(placed, AROUND) * blur(generated, AROUND)
    spread = np.sqrt(local_variance(placed, AROUND) * local_variance(generated, AROUND))
    return np.asarray((together + FLAT) / (spread + FLAT), np.float32)


def bending(mapping: Floats) -> Floats:
    """Norm of the second derivative (height, width) of a map (height, width, 2) in cells; 0 for any affinity."""
    smooth = blur(mapping, 1.0)
    second = [
        weight * cv2.Sobel(smooth[..., axis], cv2.CV_32F, dx, dy, ksize=3, scale=0.25) ** 2
        for axis in range(2)
        for dx, dy, weight in ((2, 0, 1.0), (0, 2, 1.0), (1, 1, 2.0))
    ]
    return np.asarray(np.sqrt(np.sum(second, axis=0)), np.float32)


def judge(evidence: Evidence) -> Floats:
    """Trust (height, width) in [0, 1]: the larger of what agreement and what plain geometry allow."""
    return np.maximum(agreement(evidence), _plain_geometry(evidence))


def agreement(evidence: Evidence) -> Floats:
    """Trust (height, width) in [0, 1] from agreement alone: the chance that the reference is nearer to the truth."""
    return _logistic(
        CONSTANT
        + PER_LOG_DISAGREEMENT * np.log(blur(evidence.disagreement, AROUND) + 2.0)
        + PER_CONSISTENCY * blur(evidence.believed, NEAR)
        + PER_LOG_DEVIATION * np.log(blur(evidence.deviation, 1.0) + 0.5)
        + PER_LOG_BENDING * np.log(blur(evidence.bending, 3.0) + 0.003)
    )


def _plain_geometry(evidence: Evidence) -> Floats:
    """Where nothing can be hidden, what disagrees is the artifact."""
    widest = blur(np.asarray(cv2.dilate(evidence.bending, np.ones((13, 13), np.uint8)), np.float32), NEAR)
    straight = _logistic((np.log(STRAIGHT) - np.log(widest + 1e-3)) / 0.3)
    return straight * _logistic((blur(evidence.believed, 2 * AROUND) - CONSISTENT) / 0.08)


def _logistic(score: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-score)), np.float32)
