"""Trust: the estimated probability that the placed reference is nearer to the truth than the generated picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Floats, blur, local_variance

# Standard deviations, in cells of the trust grid, of the windows over which evidence is averaged. The artifacts of a
# generated picture are local, and the geometry that their surroundings confirm outweighs them. Chosen by hand, not
# fitted.
NEAR = 2.0
AROUND = 4.0
# Coefficients of a logistic regression of whether the placed reference is nearer to the truth than the upscaled
# picture. Fitted to six photo pairs with known truth and simulated artifacts, with leave-one-out cross-validation over
# the pairs.
INTERCEPT = 3.44
PER_LOG_DISAGREEMENT = -1.96
PER_RELIABILITY = 1.33
PER_LOG_DEVIATION = -1.2
PER_LOG_BENDING = -0.5
# The same for an object: means and standard deviations of the features, and a logistic regression on them. Printed by
# benchmarks/fit_trust.py, which fitted them on the part "fit" of benchmarks/trust_set.py: 112,000 cells of 76 placed
# pairs of seven rendered products and five photographed objects.
OBJECT_INTERCEPT = -0.205
OBJECT_MEANS = (3.025, 0.370, 0.317, 0.385, -3.464, -2.566, 0.622, 0.604, 0.823, 0.928, 0.390, 0.861, 0.920, 0.828)
OBJECT_DEVIATIONS = (0.526, 0.396, 0.276, 0.961, 0.794, 0.978, 0.340, 0.318, 0.358, 0.225, 0.255, 0.145, 0.070, 0.171)
OBJECT_COEFFICIENTS = (
    *(-0.322, 0.210, 0.116, -0.227, -0.125, -0.016, 0.091),
    *(0.121, 0.198, 0.093, 0.240, 0.050, -0.067, -0.036),
)
# A map that bends less than this (second derivative per cell) has no depth edge behind which something could be hidden,
# where at least this fraction of the flow is reliable. Chosen by hand, not fitted.
STRAIGHT = 0.12
MOSTLY_RELIABLE = 0.6
# Variance in grey levels squared below which a surface counts as flat: nothing on it can be misplaced. Chosen by hand,
# not fitted.
FLAT_VARIANCE = 36.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the trust is estimated from; each field is (height, width) on the trust grid.

    Attributes:
        disagreement: mean absolute colour difference of the harmonised reference to the generated picture, in grey
            levels.
        reliable: fraction of the cell with reliable flow, in [0, 1].
        deviation: distance of the flow from the regularised map, in cells.
        bending: norm of the map's second derivative, per cell.
    """

    disagreement: Floats
    reliable: Floats
    deviation: Floats
    bending: Floats


def local_correlation(placed: Floats, generated: Floats, sigma: float = AROUND) -> Floats:
    """Normalised cross-correlation in a Gaussian window; 1 where both pictures are flat.

    Args:
        placed: grey levels (height, width).
        generated: grey levels of the same shape.
        sigma: standard deviation of the window in pixels.

    Returns:
        (height, width) in [-1, 1].
    """
    covariance = blur(placed * generated, sigma) - blur(placed, sigma) * blur(generated, sigma)
    deviations = np.sqrt(local_variance(placed, sigma) * local_variance(generated, sigma))
    return np.asarray((covariance + FLAT_VARIANCE) / (deviations + FLAT_VARIANCE), np.float32)


def bending(mapping: Floats) -> Floats:
    """Norm of a map's second derivative, the square root of a thin plate's bending energy density (Bookstein, 1989).

    Args:
        mapping: (height, width, 2) in cells.

    Returns:
        (height, width) per cell; 0 for any affine map.
    """
    smooth = blur(mapping, 1.0)
    second = [
        weight * cv2.Sobel(smooth[..., axis], cv2.CV_32F, dx, dy, ksize=3, scale=0.25) ** 2
        for axis in range(2)
        for dx, dy, weight in ((2, 0, 1.0), (0, 2, 1.0), (1, 1, 2.0))
    ]
    return np.asarray(np.sqrt(np.sum(second, axis=0)), np.float32)


def estimate_trust(evidence: Evidence) -> Floats:
    """Trust (height, width) in [0, 1]: the larger of what agreement and what smooth geometry allow."""
    return np.maximum(agreement_trust(evidence), _smooth_geometry_trust(evidence))


def agreement_trust(evidence: Evidence) -> Floats:
    """Trust (height, width) in [0, 1] by the logistic regression on the evidence alone."""
    return _logistic(
        INTERCEPT
        + PER_LOG_DISAGREEMENT * np.log(blur(evidence.disagreement, AROUND) + 2.0)
        + PER_RELIABILITY * blur(evidence.reliable, NEAR)
        + PER_LOG_DEVIATION * np.log(blur(evidence.deviation, 1.0) + 0.5)
        + PER_LOG_BENDING * np.log(blur(evidence.bending, 3.0) + 0.003)
    )


@dataclass(frozen=True, slots=True)
class ObjectFit:
    """How well an object as a whole fits the one in the generated picture; each is a fraction in [0, 1].

    Attributes:
        reliable: of the placed object that has reliable flow.
        alike: of the placed object that looks alike.
        covered: of the outline in the picture that the placed object covers.
        inside: of the placed object that lies inside that outline.
    """

    reliable: float
    alike: float
    covered: float
    inside: float


# The names of the features of an object's trust, in the order of `object_features`.
FEATURE_NAMES = (
    "disagreement",
    "reliable near",
    "reliable around",
    "deviation",
    "bending",
    "largest bending",
    "correlation",
    "correlation around",
    "outline",
    "uncovered",
    "fit reliable",
    "fit alike",
    "fit covered",
    "fit inside",
)


def object_features(
    evidence: Evidence, correlation: Floats, around: Floats, outline: Floats, uncovered: Floats, fit: ObjectFit
) -> Floats:
    """What the trust in an object is estimated from: (rows, columns, features).

    Args:
        evidence: on the trust grid.
        correlation: local correlation of the same shape, in [-1, 1].
        around: the same in a wider window.
        outline: (rows, columns) in [0, 1], the object in the generated picture.
        uncovered: (rows, columns), 1 well away from parts of that object which the placed one leaves uncovered.
        fit: of the object as a whole.
    """
    largest = np.asarray(cv2.dilate(evidence.bending, np.ones((13, 13), np.uint8)), np.float32)
    local = [
        np.log(blur(evidence.disagreement, AROUND) + 2.0),
        blur(evidence.reliable, NEAR),
        blur(evidence.reliable, 2 * AROUND),
        np.log(blur(evidence.deviation, 1.0) + 0.5),
        np.log(blur(evidence.bending, 3.0) + 0.003),
        np.log(blur(largest, NEAR) + 0.003),
        correlation,
        around,
        blur(outline, 1.0),
        uncovered,
    ]
    whole = [np.full_like(correlation, value) for value in (fit.reliable, fit.alike, fit.covered, fit.inside)]
    return np.stack([*local, *whole], axis=2).astype(np.float32)


def object_trust(features: Floats) -> Floats:
    """Trust (rows, columns) in [0, 1] of `object_features`, by a logistic regression."""
    standard = (features - np.array(OBJECT_MEANS, np.float32)) / np.array(OBJECT_DEVIATIONS, np.float32)
    score = standard @ np.array(OBJECT_COEFFICIENTS, np.float32) + np.float32(OBJECT_INTERCEPT)
    return _logistic(np.asarray(score, np.float32))


def _smooth_geometry_trust(evidence: Evidence) -> Floats:
    """Trust where the map is smooth and the flow reliable all around: disagreement there is the artifact itself."""
    largest = blur(np.asarray(cv2.dilate(evidence.bending, np.ones((13, 13), np.uint8)), np.float32), NEAR)
    straight = _logistic((np.log(STRAIGHT) - np.log(largest + 1e-3)) / 0.3)
    return straight * _logistic((blur(evidence.reliable, 2 * AROUND) - MOSTLY_RELIABLE) / 0.08)


def _logistic(score: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-score)), np.float32)
