"""GrabCut over colour and position: from a rough region to the object's outline and its openings."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bools, Bytes, Floats
from refgc.masks import appearance, morphology

# The constants of this file were chosen by hand, not fitted.
# Log-likelihood ratios are clipped to this, so that no pixel's colour alone decides against all of its surroundings.
MAXIMUM_LOG_RATIO = 10.0
# Weight of the data term against the edge term, and of the rough region against colour within the data term.
DATA_WEIGHT, REGION_WEIGHT = 3.0, 0.7
# Depth inside of the rough region, in sides of its box, at which the region is certain.
CERTAIN_DEPTH = 0.1
# A hole is kept open from this fraction of the object's area, if its mean log-likelihood ratio for the background is at
# least this.
OPEN_HOLE_AREA, OPEN_HOLE_LOG_RATIO = 0.03, 5.0
# Fewer pixels are neither an object nor a background to learn from.
MINIMUM_PIXELS = 20

# OpenCV's GrabCut takes no data term, but it takes colour models and can be told not to change them. The data term is
# therefore drawn as the first colour channel, with one Gaussian for each side: the log of their ratio is linear in it.
MIDDLE_LEVEL, HALF_DISTANCE = 128.0, 48.0
# The same variance of the other two channels on both sides makes them count in the edge term alone.
UNINFORMATIVE_VARIANCE = 1e5

# For `find_openings`. Weight of position relative to `find_outline`, since an opening lies apart from the rest of the
# background, and the quantile of the background's own likelihood below which a colour is not of it: for plain
# backgrounds, and for others.
BACKGROUNDS = ((0.03, 0.03), (0.1, 0.1))
# Least mean log-likelihood ratio of an opening for the background, and largest difference of its log-likelihood to the
# background's median.
OPENING_LOG_RATIO, TYPICAL_DIFFERENCE = 4.0, 1.0
# Half the width in pixels of the band along an outline in which object and background are mixed.
MIXED_BAND = 1.5
# Range of `appearance.lab` lightness outside of which all surfaces look alike, black or blown out.
INFORMATIVE_LIGHTNESS = (2.0 * appearance.LIGHTNESS_WEIGHT, 98.0 * appearance.LIGHTNESS_WEIGHT)


def find_outline(
    colours: Floats, rough: Bools, inside: Bools, outside: Bools, rounds: int, components: int = appearance.COMPONENTS
) -> Bools:
    """The object in a small picture, by GrabCut (Rother et al., 2004) with position beside colour in the mixtures.

    With position, a background colour on one side of the object does not explain the object on its other side.

    Args:
        colours: `appearance.lab` (height, width, 3).
        rough: (height, width), where the object is expected.
        inside: (height, width), what is certainly object.
        outside: (height, width), what certainly is not.
        rounds: how often the mixtures are learned again from what was found.
        components: of each mixture.

    Returns:
        (height, width), the connected components that touch `inside`, or the largest one where nothing is certain. It
        has holes only where the background is seen through them or something of `outside` lies in them.
    """
    points = appearance.features(colours)
    certain_depth = max(1.0, CERTAIN_DEPTH * morphology.box_side(rough))
    region_term = REGION_WEIGHT * np.clip(morphology.signed_distance(rough) / certain_depth, -1.0, 1.0)
    found, data_term = (rough | inside) & ~outside, region_term
    for _ in range(rounds):
        flat = found.ravel()
        if min(np.count_nonzero(flat), np.count_nonzero(~flat)) < MINIMUM_PIXELS:
            break
        foreground, background = (appearance.fit_mixture(points[which], components) for which in (flat, ~flat))
        log_ratio = appearance.log_likelihood(points, foreground) - appearance.log_likelihood(points, background)
        clipped = np.clip(log_ratio.reshape(rough.shape), -MAXIMUM_LOG_RATIO, MAXIMUM_LOG_RATIO)
        data_term = DATA_WEIGHT * (clipped + region_term)
        better = minimum_cut(colours, data_term, DATA_WEIGHT * (MAXIMUM_LOG_RATIO + 2.0), inside, outside)
        if np.count_nonzero(better) < MINIMUM_PIXELS:
            break
        found = better
    return _as_one_object(found, inside & ~outside, outside, data_term)


def minimum_cut(colours: Floats, data_term: Floats, limit: float, inside: Bools, outside: Bools) -> Bools:
    """Minimum cut (Boykov and Jolly, 2001) through OpenCV's GrabCut with frozen colour models.

    Args:
        colours: (height, width, 3), whose edges are cheap to cut along.
        data_term: (height, width), log-likelihood ratio of object to background.
        limit: the data term is clipped to +-limit.
        inside: (height, width), what is certainly object.
        outside: (height, width), what certainly is not; it wins where both are true.

    Returns:
        (height, width), true on the object.
    """
    level = np.clip(MIDDLE_LEVEL + (MIDDLE_LEVEL - 1) * data_term / limit, 0, 255).astype(np.uint8)
    drawn = np.ascontiguousarray(np.dstack([level, _principal_components(colours)]))
    labels = np.where(data_term > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inside] = cv2.GC_FGD
    labels[outside] = cv2.GC_BGD
    variance = 2.0 * HALF_DISTANCE * (MIDDLE_LEVEL - 1) / limit
    background, foreground = (_gaussian(MIDDLE_LEVEL + sign * HALF_DISTANCE, variance) for sign in (-1, 1))
    cv2.grabCut(drawn, labels, None, background, foreground, 1, cv2.GC_EVAL_FREEZE_MODEL)
    return np.isin(labels, [cv2.GC_FGD, cv2.GC_PR_FGD])


def find_openings(colours: Floats, found: Bools) -> Bools:
    """Openings of an object, such as a handle's, through which its background is seen.

    They have the background's colours, which no other part of the object has.

    Args:
        colours: `appearance.lab` (height, width, 3).
        found: (height, width), the object with its openings.

    Returns:
        (height, width), true on the openings.
    """
    openings = np.zeros_like(found)
    if min(np.count_nonzero(found), np.count_nonzero(~found)) < MINIMUM_PIXELS:
        return openings
    for position_weight, quantile in BACKGROUNDS:
        openings |= _openings_before(colours, found, position_weight, quantile)
    return openings


def _openings_before(colours: Floats, found: Bools, position_weight: float, quantile: float) -> Bools:
    """The openings in front of one kind of background; see `BACKGROUNDS`."""
    points = appearance.features(colours) * np.array([1, 1, 1, position_weight, position_weight], np.float32)
    mixture = appearance.fit_mixture(points[~found.ravel()])
    background = appearance.log_likelihood(points, mixture).reshape(found.shape)
    least, typical = np.quantile(background[~found], (quantile, 0.5))
    candidates = morphology.opening(morphology.erode(found, MIXED_BAND) & (background > least), 1.0)
    openings = np.zeros_like(found)
    for part in morphology.components_from(candidates, OPEN_HOLE_AREA * np.count_nonzero(found)):
        rest = found & ~morphology.dilate(part, MIXED_BAND)
        lightness = np.median(colours[part][:, 0])
        informative = INFORMATIVE_LIGHTNESS[0] < lightness < INFORMATIVE_LIGHTNESS[1]
        if np.count_nonzero(rest) < MINIMUM_PIXELS or not informative:
            continue
        own = appearance.log_likelihood(points[part.ravel()], appearance.fit_mixture(points[rest.ravel()]))
        log_ratio = np.clip(background[part] - own, -MAXIMUM_LOG_RATIO, MAXIMUM_LOG_RATIO).mean()
        if log_ratio >= OPENING_LOG_RATIO and background[part].mean() >= typical - TYPICAL_DIFFERENCE:
            openings |= part
    return openings


def _as_one_object(found: Bools, inside: Bools, outside: Bools, data_term: Floats) -> Bools:
    """The main component with its holes filled, but for those that show the background."""
    if (inside & found).any():
        part = morphology.components_touching(found, inside)
    else:
        part = morphology.largest_component(found)
    holes = morphology.fill_holes(part) & ~part
    for hole in morphology.components_from(holes, 0):
        large = hole.sum() >= OPEN_HOLE_AREA * part.sum()
        is_open = large and data_term[hole].mean() <= -DATA_WEIGHT * OPEN_HOLE_LOG_RATIO
        if not is_open and not (hole & outside).any():
            part = part | hole
    return part & ~outside


def _principal_components(colours: Floats) -> Bytes:
    """The two directions of largest variance of the colours as uint8 channels (height, width, 2)."""
    flat = colours.reshape(-1, 3)
    flat = flat - flat.mean(axis=0)
    axes = np.linalg.eigh(flat.T @ flat)[1][:, :0:-1]
    drawn: Bytes = np.clip(flat @ axes + MIDDLE_LEVEL, 0, 255).astype(np.uint8)
    return np.reshape(drawn, (*colours.shape[:2], 2))


def _gaussian(mean: float, variance: float) -> NDArray[np.float64]:
    """One Gaussian in OpenCV's layout of mixtures: 5 weights, 5 means of 3 numbers, 5 covariances of 9."""
    model = np.zeros((1, 65))
    model[0, 0] = 1.0
    model[0, 5:8] = mean, MIDDLE_LEVEL, MIDDLE_LEVEL
    model[0, 20:29] = np.diag([variance, UNINFORMATIVE_VARIANCE, UNINFORMATIVE_VARIANCE]).ravel()
    return model
