"""Appearance models: Gaussian mixtures over colour and position, for the object and for its background."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats

# The constants of this file were chosen by hand, not fitted.
# Weight of CIE lightness against a* and b*: shadows change lightness more than colour.
LIGHTNESS_WEIGHT = 0.8
# Colour difference that a distance of the picture's longer side is worth, so that a red cloth at the bottom does not
# explain a red cap at the top.
POSITION_SCALE = 60.0
# Components of a mixture, the largest number of pixels they are learned from, and rounds of k-means.
COMPONENTS = 8
SAMPLES = 3000
KMEANS_ROUNDS = 10
# Variance of noise that is added to each covariance; a component of a single colour would have none.
NOISE_VARIANCE = 0.5
# Components of fewer pixels are dropped, since their covariance is not determined.
MINIMUM_SAMPLES = 12


class Mixture(NamedTuple):
    """A mixture of k Gaussians over colour and position.

    Attributes:
        means: (k, 5).
        whitenings: (k, 5, 5), each the Cholesky factor of an inverse covariance.
        offsets: (k,), logarithms of weight and normalisation.
    """

    means: Floats
    whitenings: Floats
    offsets: Floats


def lab(picture: Bytes) -> Floats:
    """CIE L*a*b* (height, width, 3) of an 8-bit RGB picture, with L* times `LIGHTNESS_WEIGHT`."""
    colours = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    return np.asarray(colours * np.array([LIGHTNESS_WEIGHT, 1, 1], np.float32), np.float32)


def features(colours: Floats) -> Floats:
    """Colour and scaled position (height * width, 5) of each pixel of `lab` colours (height, width, 3), row by row."""
    height, width = colours.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32) * np.float32(POSITION_SCALE / max(height, width))
    return np.dstack([colours, columns, rows]).reshape(-1, 5)


def fit_mixture(samples: Floats, components: int = COMPONENTS) -> Mixture:
    """The mixture of samples (n, 5), by hard assignment to k-means clusters as in GrabCut (Rother et al., 2004).

    Args:
        samples: `features`, n at least 1; of many only a part is used.
        components: largest number of Gaussians.
    """
    samples = np.ascontiguousarray(samples[:: -(-len(samples) // SAMPLES)])
    components = max(1, min(components, len(samples) // MINIMUM_SAMPLES))
    # OpenCV draws the first centres at random; the same picture must give the same mask.
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, KMEANS_ROUNDS, 0.0)
    labels = cv2.kmeans(samples, components, None, criteria, 1, cv2.KMEANS_PP_CENTERS)[1].ravel()
    means, whitenings, offsets = [], [], []
    for label in range(components):
        members = samples[labels == label]
        if len(members) < MINIMUM_SAMPLES and components > 1:
            continue
        covariance = np.cov(members.T, bias=True) + NOISE_VARIANCE * np.eye(5)
        means.append(members.mean(axis=0))
        whitenings.append(np.linalg.cholesky(np.linalg.inv(covariance)))
        offsets.append(np.log(len(members) / len(samples)) - 0.5 * np.linalg.slogdet(covariance)[1])
    if not means:
        return fit_mixture(samples, 1)
    return Mixture(*(np.array(each, np.float32) for each in (means, whitenings, offsets)))


def log_likelihood(points: Floats, mixture: Mixture) -> Floats:
    """Log-likelihood (n,) of points (n, 5) under their likeliest component, up to a constant."""
    best = np.full(len(points), -np.inf, np.float32)
    for mean, whitening, offset in zip(*mixture, strict=True):
        distance = (points - mean) @ whitening
        np.maximum(best, offset - 0.5 * np.einsum("ij,ij->i", distance, distance), out=best)
    return best
