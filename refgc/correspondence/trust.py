"""Trust: how far each spot of the placed reference may stand for the generated picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.correspondence.arrays import Floats, blur


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against each spot; every field is (height, width) on the trust grid.

    Attributes:
        disagreement: mean absolute colour difference in grey levels after harmonising, nearby.
        disagreement_around: the same over a wider neighbourhood.
        consistency: share of the neighbourhood whose flow agrees forth and back.
        correlation: normalised cross-correlation of luma over a neighbourhood, in [-1, 1].
        detail: standard deviation, in grey levels, of the detail the reference would bring.
        contrast: gradient of the reference at the generated picture's sharpness, grey levels per cell.
        deviation: how far the flow itself lies from the regularised map, in grid cells.
        bending: second derivative of the map nearby, per cell.
        bending_around: the largest in a wider neighbourhood.
        consistency_around: consistency over a wider neighbourhood.
    """

    disagreement: Floats
    disagreement_around: Floats
    consistency: Floats
    correlation: Floats
    detail: Floats
    contrast: Floats
    deviation: Floats
    bending: Floats
    bending_around: Floats
    consistency_around: Floats


def gather(placed: Floats, generated: Floats, detail: Floats, believed: Floats, mapping: Floats, deviation: Floats) -> Evidence:
    """Evidence from pictures on the trust grid.

    Args:
        placed: harmonised reference (height, width, 3) in [0, 255], as sharp as `generated`.
        generated: (height, width, 3) in [0, 255].
        detail: (height, width), see `Evidence`.
        believed: (height, width), 1 where flow forth and back agree.
        mapping: (height, width, 2), the map in grid cells of the reference.
        deviation: (height, width), see `Evidence`.
    """
    difference = np.abs(placed - generated).mean(axis=2)
    grey_placed, grey_generated = placed @ np.float32([0.299, 0.587, 0.114]), generated @ np.float32([0.299, 0.587, 0.114])
    bending = _bending(mapping)
    return Evidence(
        disagreement=blur(difference, 1.0),
        disagreement_around=blur(difference, 4.0),
        consistency=blur(believed, 2.0),
        correlation=_correlation(grey_placed, grey_generated, 3.0),
        detail=detail,
        contrast=blur(np.hypot(_slope(grey_placed, 1, 0), _slope(grey_placed, 0, 1)), 1.0),
        deviation=blur(deviation, 1.0),
        bending=blur(bending, 3.0),
        bending_around=blur(cv2.dilate(bending, np.ones((13, 13), np.uint8)), 2.0),
        consistency_around=blur(believed, 8.0),
    )


def _slope(grey: Floats, dx: int, dy: int) -> Floats:
    return np.asarray(cv2.Sobel(grey, cv2.CV_32F, dx, dy, ksize=3, scale=0.125), np.float32)


def _correlation(a: Floats, b: Floats, sigma: float) -> Floats:
    mean_a, mean_b = blur(a, sigma), blur(b, sigma)
    variance_a, variance_b = blur(a * a, sigma) - mean_a**2, blur(b * b, sigma) - mean_b**2
    # Four grey levels squared of noise: flat against flat proves nothing.
    return np.asarray((blur(a * b, sigma) - mean_a * mean_b) / np.sqrt((variance_a + 4.0).clip(4.0) * (variance_b + 4.0).clip(4.0)), np.float32)


def _bending(mapping: Floats) -> Floats:
    smooth = blur(mapping, 1.0)
    second = [
        weight * cv2.Sobel(smooth[..., axis], cv2.CV_32F, dx, dy, ksize=3, scale=0.25) ** 2
        for axis in range(2)
        for dx, dy, weight in ((2, 0, 1.0), (0, 2, 1.0), (1, 1, 2.0))
    ]
    return np.asarray(np.sqrt(np.sum(second, axis=0)), np.float32)


def judge(evidence: Evidence) -> Floats:
    """Trust (height, width) in [0, 1]: the larger of what agreement and what plain geometry allow."""
    return np.maximum(_agreement(evidence), _plain_geometry(evidence))


def _agreement(evidence: Evidence) -> Floats:
    """Where the two pictures agree: a logistic model fitted to photo pairs with known truth."""
    score = (
        COEFFICIENTS["constant"]
        + COEFFICIENTS["disagreement"] * np.log(evidence.disagreement + 2.0)
        + COEFFICIENTS["disagreement_around"] * np.log(evidence.disagreement_around + 2.0)
        + COEFFICIENTS["consistency"] * evidence.consistency
        + COEFFICIENTS["correlation"] * evidence.correlation
        + COEFFICIENTS["detail"] * np.log(evidence.detail + 2.0)
        + COEFFICIENTS["contrast"] * np.log(evidence.contrast + 2.0)
        + COEFFICIENTS["deviation"] * np.log(evidence.deviation + 0.5)
        + COEFFICIENTS["bending"] * np.log(evidence.bending + 0.003)
    )
    return np.asarray(1.0 / (1.0 + np.exp(-score)), np.float32)


COEFFICIENTS = {
    "constant": 6.0,
    "disagreement": -0.8,
    "disagreement_around": -2.2,
    "consistency": 1.2,
    "correlation": 0.5,
    "detail": -0.5,
    "contrast": 0.8,
    "deviation": -0.9,
    "bending": -0.4,
}


def _plain_geometry(evidence: Evidence) -> Floats:
    """Where the map is so straight all around that nothing can be hidden: what disagrees there is the artifact."""
    straight = 1.0 / (1.0 + np.exp((np.log(evidence.bending_around + 1e-3) - np.log(0.12)) / 0.3))
    seen = 1.0 / (1.0 + np.exp((0.6 - evidence.consistency_around) / 0.08))
    return np.asarray(straight * seen, np.float32)
