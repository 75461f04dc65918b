"""Trust: the estimated probability that the placed reference is nearer to the truth than the generated picture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Floats, blur, local_variance, size_of
from refgc.imaging.warp import pixel_grid

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
# The same for an object: a logistic regression on standardised features. Printed by benchmarks/fit_trust.py, which
# fitted it on 165 placed of 585 pairs of seven rendered products and five photographed objects. Each cell counts by
# what a wrong decision costs there. Cross-validated over products and objects, its expected calibration error is 0.09.
OBJECT_INTERCEPT = -1.767
OBJECT_MEANS = (
    *(3.102, 0.440, 0.372, 0.156, -2.696, -1.633, 0.604, 0.586, 3.680),
    *(3.400, 2.067, 0.818, 0.926, 0.882, 0.472, 0.863, 0.903, 0.839),
)
OBJECT_DEVIATIONS = (
    *(0.576, 0.387, 0.255, 0.835, 0.798, 0.866, 0.335, 0.309, 0.472),
    *(0.554, 0.816, 0.357, 0.228, 0.168, 0.211, 0.122, 0.085, 0.139),
)
OBJECT_COEFFICIENTS = (
    *(0.000, 0.200, 0.200, 0.000, 0.000, -0.200, 0.300, 0.300, 0.761),
    *(-0.054, -0.400, 0.158, 0.000, 0.497, 0.300, 0.200, 0.000, 0.000),
)
# The confidence of an object as a whole, fitted on the same pairs, with the trust cross-validated.
CONFIDENCE_INTERCEPT = 1.477
CONFIDENCE_MEANS = (0.442, -1.599, 0.528, -2.820, -19.204, 0.846)
CONFIDENCE_DEVIATIONS = (0.163, 0.925, 0.159, 0.549, 13.200, 0.132)
CONFIDENCE_COEFFICIENTS = (0.000, -0.644, 0.064, -0.545, 0.000, 0.325)
# Standardised features are limited to this, so that what was never seen in fitting does not count for more.
STANDARD_LIMIT = 3.0
# At a depth edge one view hides a band of the other, as wide as the displacement changes there. A map that bends less
# than `STRAIGHT` (second derivative per cell), or whose parallax is below `PARALLAX` (cells), hides nothing that could
# be seen, where this fraction of the flow is reliable. `STEEPNESS` is the width of each transition: in logarithms, and
# in the fraction. Chosen by hand. Where patches of a picture are displaced the parallax gains 1.1 dB on one photo pair;
# with other artifacts it changes nothing, and neither does another value of each constant (benchmarks/scenes.json).
STRAIGHT = 0.12
PARALLAX = 0.5
MOSTLY_RELIABLE = 0.5
STRAIGHT_STEEPNESS, PARALLAX_STEEPNESS, RELIABLE_STEEPNESS = 0.3, 0.2, 0.05
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
        parallax: how far the map is from the affine map that fits it best around, in cells; None for an object, whose
            trust goes without it.
    """

    disagreement: Floats
    reliable: Floats
    deviation: Floats
    bending: Floats
    parallax: Floats | None


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


def parallax(mapping: Floats) -> Floats:
    """Distance of a map from its local affine fit, by least squares in a Gaussian window.

    Args:
        mapping: (height, width, 2) in cells.

    Returns:
        (height, width) in cells; 0 for any affine map.
    """
    grid = pixel_grid(size_of(mapping))
    here, there = (np.moveaxis(field - field.mean(axis=(0, 1)), 2, 0) for field in (grid, mapping))

    def mean(field: Floats) -> Floats:
        return blur(np.ascontiguousarray(field), 2 * AROUND)

    mean_x, mean_y = (mean(field) for field in here)
    xx = mean(here[0] * here[0]) - mean_x * mean_x
    yy = mean(here[1] * here[1]) - mean_y * mean_y
    xy = mean(here[0] * here[1]) - mean_x * mean_y
    determinant = np.maximum(xx * yy - xy * xy, 1e-3)
    squared = np.zeros_like(mean_x)
    for value in there:
        mean_value = mean(value)
        with_x = mean(here[0] * value) - mean_x * mean_value
        with_y = mean(here[1] * value) - mean_y * mean_value
        slope_x, slope_y = with_x * yy - with_y * xy, with_y * xx - with_x * xy
        fitted = (slope_x * (here[0] - mean_x) + slope_y * (here[1] - mean_y)) / determinant
        squared += (value - mean_value - fitted) ** 2
    return np.sqrt(squared)


def estimate_trust(evidence: Evidence) -> Floats:
    """Trust (height, width) in [0, 1]: the larger of what agreement and what smooth geometry allow."""
    return np.maximum(agreement_trust(evidence), _smooth_geometry_trust(evidence))


def agreement_trust(evidence: Evidence) -> Floats:
    """Trust (height, width) in [0, 1] by the logistic regression on the evidence alone."""
    disagreement, reliable, deviation, bent = _smoothed(evidence)
    return _logistic(
        INTERCEPT
        + PER_LOG_DISAGREEMENT * disagreement
        + PER_RELIABILITY * reliable
        + PER_LOG_DEVIATION * deviation
        + PER_LOG_BENDING * bent
    )


def _smoothed(evidence: Evidence) -> tuple[Floats, Floats, Floats, Floats]:
    """The evidence averaged over its windows, as regressions take it: all but the reliability in logarithms."""
    return (
        np.log(blur(evidence.disagreement, AROUND) + 2.0),
        blur(evidence.reliable, NEAR),
        np.log(blur(evidence.deviation, 1.0) + 0.5),
        np.log(blur(evidence.bending, 3.0) + 0.003),
    )


def _largest_nearby(field: Floats) -> Floats:
    return blur(np.asarray(cv2.dilate(field, np.ones((13, 13), np.uint8)), np.float32), NEAR)


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
    "contrast placed",
    "contrast seen",
    "colour difference",
    "outline",
    "uncovered",
    "interior",
    "fit reliable",
    "fit alike",
    "fit covered",
    "fit inside",
)


@dataclass(frozen=True, slots=True)
class LocalFit:
    """How well an object fits around each cell; each field is (rows, columns) on the trust grid.

    Attributes:
        correlation: local correlation in [-1, 1].
        around: the same in a wider window.
        contrast_placed: local standard deviation of the placed reference, in grey levels.
        contrast_seen: the same of the generated picture.
        colour: local difference of the colours, in grey levels.
        outline: the object in the generated picture, in [0, 1].
        uncovered: 1 well away from parts of that object which the placed one leaves uncovered.
        placed: the placed object, in [0, 1].
    """

    correlation: Floats
    around: Floats
    contrast_placed: Floats
    contrast_seen: Floats
    colour: Floats
    outline: Floats
    uncovered: Floats
    placed: Floats


def object_features(evidence: Evidence, local: LocalFit, fit: ObjectFit) -> Floats:
    """What the trust in an object is estimated from: (rows, columns, features)."""
    disagreement, reliable, deviation, bent = _smoothed(evidence)
    by_cell = [
        disagreement,
        reliable,
        blur(evidence.reliable, 2 * AROUND),
        deviation,
        bent,
        np.log(_largest_nearby(evidence.bending) + 0.003),
        local.correlation,
        local.around,
        np.log(local.contrast_placed + 2.0),
        np.log(local.contrast_seen + 2.0),
        np.log(local.colour + 2.0),
        blur(local.outline, 1.0),
        local.uncovered,
        blur(local.placed, AROUND),
    ]
    whole = [np.full_like(local.placed, value) for value in (fit.reliable, fit.alike, fit.covered, fit.inside)]
    return np.stack([*by_cell, *whole], axis=2).astype(np.float32)


def object_trust(features: Floats) -> Floats:
    """Trust (...) in [0, 1] of `object_features` (..., features), by a logistic regression."""
    standard = (features - np.array(OBJECT_MEANS, np.float32)) / np.array(OBJECT_DEVIATIONS, np.float32)
    standard = np.clip(standard, -STANDARD_LIMIT, STANDARD_LIMIT)
    score = standard @ np.array(OBJECT_COEFFICIENTS, np.float32) + np.float32(OBJECT_INTERCEPT)
    return _logistic(np.asarray(score, np.float32))


@dataclass(frozen=True, slots=True)
class Usage:
    """How an object was used.

    Attributes:
        trust: mean trust over what was used, in [0, 1].
        share: of the placed object that was used, in [0, 1].
        reliable: mean reliability of the flow around what was used, in [0, 1].
        bending: mean logarithm of the map's bending there.
        log_false_alarms: of the placement, log10.
    """

    trust: float
    share: float
    reliable: float
    bending: float
    log_false_alarms: float


def usage_of(features: Floats, trust: Floats, used: Floats, placed: Floats, log_false_alarms: float) -> Usage:
    """How an object was used, from `object_features` (..., features) and fields of the same grid."""
    weight = used / (float(used.sum()) + 1e-6)
    return Usage(
        trust=float((trust * weight).sum()),
        share=float(used.sum() / (placed.sum() + 1e-6)),
        reliable=float((features[..., FEATURE_NAMES.index("reliable around")] * weight).sum()),
        bending=float((features[..., FEATURE_NAMES.index("bending")] * weight).sum()),
        log_false_alarms=log_false_alarms,
    )


CONFIDENCE_NAMES = ("trust", "share", "reliable", "bending", "false alarms", "inside")


def confidence_features(usage: Usage, fit: ObjectFit) -> NDArray[np.float64]:
    """What the confidence is estimated from, in the order of `CONFIDENCE_NAMES`."""
    return np.array(
        [
            usage.trust,
            np.log(usage.share + 0.01),
            usage.reliable,
            usage.bending,
            max(-40.0, usage.log_false_alarms),
            fit.inside,
        ]
    )


def object_confidence(usage: Usage, fit: ObjectFit) -> float:
    """The probability that the refined object is nearer to the truth than its enlargement, by a logistic regression."""
    standard = (confidence_features(usage, fit) - np.array(CONFIDENCE_MEANS)) / np.array(CONFIDENCE_DEVIATIONS)
    standard = np.clip(standard, -STANDARD_LIMIT, STANDARD_LIMIT)
    score = float(standard @ np.array(CONFIDENCE_COEFFICIENTS)) + CONFIDENCE_INTERCEPT
    return float(1.0 / (1.0 + np.exp(-score)))


def _smooth_geometry_trust(evidence: Evidence) -> Floats:
    """Trust where nothing can be hidden and flow is reliable all around: what disagrees there is an artifact."""
    smooth = _below(evidence.bending, STRAIGHT, STRAIGHT_STEEPNESS)
    if evidence.parallax is not None:
        smooth = np.maximum(smooth, _below(evidence.parallax, PARALLAX, PARALLAX_STEEPNESS))
    reliable = _logistic((blur(evidence.reliable, 2 * AROUND) - MOSTLY_RELIABLE) / RELIABLE_STEEPNESS)
    return np.asarray(smooth * reliable, np.float32)


def _below(field: Floats, limit: float, steepness: float) -> Floats:
    """Towards 1 where a field is below a limit all around."""
    return _logistic((np.log(limit) - np.log(_largest_nearby(field) + 1e-3)) / steepness)


def _logistic(score: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-score)), np.float32)
