"""Colours together with their places: what the object looks like, and what is behind it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats

# Shadows change brightness more than colour.
BRIGHTNESS = 0.8
# A picture's longer side counts as much as this colour difference, so that a red cloth below explains no red cap above.
SIDE = 60.0
# Groups of colours and places in an object or behind it, and from how many of its pixels they are learned.
GROUPS = 8
SAMPLES = 3000
GROUPING_ROUNDS = 10
# Variance of noise; a group of one colour alone would have none.
NOISE = 0.5
# Fewer pixels have no covariance worth the name.
LEAST_GROUP = 12


class Mixture(NamedTuple):
    """A mixture of k Gaussians over colour and place.

    Attributes:
        means: (k, 5).
        whitenings: (k, 5, 5), each the Cholesky factor of an inverse covariance.
        offsets: (k,), logarithms of share and normalisation.
    """

    means: Floats
    whitenings: Floats
    offsets: Floats


def lab(picture: Bytes) -> Floats:
    """CIE L*a*b* (height, width, 3) of an RGB picture, brightness weighted less."""
    colours = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    return np.asarray(colours * np.array([BRIGHTNESS, 1, 1], np.float32), np.float32)


def features(colours: Floats) -> Floats:
    """Colour and place (height x width, 5) of each pixel of `lab` colours (height, width, 3), row by row."""
    height, width = colours.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32) * np.float32(SIDE / max(height, width))
    return np.dstack([colours, columns, rows]).reshape(-1, 5)


def learn(samples: Floats, groups: int = GROUPS) -> Mixture:
    """The mixture of samples (n, 5), each sample belonging to one group, as in GrabCut (Rother et al., 2004)."""
    samples = np.ascontiguousarray(samples[:: -(-len(samples) // SAMPLES)])
    groups = max(1, min(groups, len(samples) // LEAST_GROUP))
    # Means that depend on the seed alone make masks that do.
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, GROUPING_ROUNDS, 0.0)
    labels = cv2.kmeans(samples, groups, None, criteria, 1, cv2.KMEANS_PP_CENTERS)[1].ravel()
    means, whitenings, offsets = [], [], []
    for group in range(groups):
        members = samples[labels == group]
        if len(members) < LEAST_GROUP and groups > 1:
            continue
        covariance = np.cov(members.T, bias=True) + NOISE * np.eye(5)
        means.append(members.mean(axis=0))
        whitenings.append(np.linalg.cholesky(np.linalg.inv(covariance)))
        offsets.append(np.log(len(members) / len(samples)) - 0.5 * np.linalg.slogdet(covariance)[1])
    if not means:
        return learn(samples, 1)
    return Mixture(*(np.array(each, np.float32) for each in (means, whitenings, offsets)))


def log_likelihood(points: Floats, mixture: Mixture) -> Floats:
    """Of each point (n, 5) under its likeliest group, up to a constant."""
    best = np.full(len(points), -np.inf, np.float32)
    for mean, whitening, offset in zip(*mixture, strict=True):
        distance = (points - mean) @ whitening
        np.maximum(best, offset - 0.5 * np.einsum("ij,ij->i", distance, distance), out=best)
    return best
