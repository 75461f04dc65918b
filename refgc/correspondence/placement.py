"""Placement: the plane (homography) that matches agree on beyond chance."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import scipy  # imports a part of it at its first use: the start of the page need not wait for that
from numpy.typing import NDArray

from refgc.correspondence.match import Matches
from refgc.imaging.arrays import Floats, Size

# The constants of this file were chosen by hand, not fitted.
# Thresholds of the ratio test (Lowe, 2004), tried in this order: strict where there are many matches, loose where few.
RATIOS = (0.85, 0.92)
# Largest transfer error, in pixels of the matching frame, of an inlier; generated objects are slightly distorted.
TOLERANCE = 8.0
# Parallax: matches of one deep scene may lie so many tolerances off a plane.
DEPTH = 8.0
# Largest difference of a match's own change of scale (natural log) and rotation (degrees) to that of the placement.
SIZE_TOLERANCE = 0.7
ANGLE_TOLERANCE = 35.0
# A placement is accepted if log10 of its expected number of false alarms is at most this.
LOG_FALSE_ALARMS_LIMIT = -4.0
# How many groups of matches with similar scale and rotation are tried, the largest first, and bins of rotation.
GROUPS = 32
ROTATION_BINS = 12
# Tolerance in pixels of the matching frame of the plane nearest to learned matches of an object that may be bent.
BENT_TOLERANCE = 24.0
# SIFT matches agree with learned ones if so large a share of them is predicted to within so many pixels.
AGREEING_SHARE = 0.5
AGREEING_TOLERANCE = 24.0
# Where planes by SIFT explain so large a share of the learned matches, the object has flat faces.
PLANAR_SHARE = 0.8
# Limits of a plausible homography: ratio of its singular values, and largest change of scale.
MAXIMUM_ANISOTROPY = 4.0
MAXIMUM_SCALE = 40


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the reference lies in the generated picture.

    Attributes:
        homography: 3x3, from generated to reference coordinates.
        matches: its inliers.
        log_false_alarms: log10 of the expected number of placements with as many inliers among random matches; the
            lower, the surer.
        is_bent: whether the matches agree with each other and not with the plane alone.
    """

    homography: NDArray[np.float64]
    matches: Matches
    log_false_alarms: float
    is_bent: bool = False


def sureness(log_false_alarms: float) -> float:
    """In [0, 1]: 0 at the limit of acceptance, 0.97 where 10^-20 placements are expected among random matches."""
    return float(1.0 - 10.0 ** (min(0.0, log_false_alarms - LOG_FALSE_ALARMS_LIMIT) / 10.0))


def place(matches: Matches, reference_frame: Size) -> Placement | None:
    """The placement with the fewest expected false alarms, or None where even that could be due to chance.

    An affine map is estimated by MAGSAC++ (Barath et al., 2020), from groups of matches with similar scale and
    rotation. A homography replaces it where that has more inliers. The placement is accepted by an a contrario test
    (Moisan and Stival, 2004).

    Args:
        matches: in the coordinates of the two matching frames.
        reference_frame: (width, height) of the reference's matching frame.
    """
    for ratio in RATIOS:
        placement = _surest(matches.subset(matches.ambiguity < ratio), reference_frame)
        if placement is not None and placement.log_false_alarms <= LOG_FALSE_ALARMS_LIMIT:
            return placement
    return None


def place_all(matches: Matches, reference_frame: Size, limit: int) -> list[Placement]:
    """Sequential RANSAC: up to `limit` placements, such as the faces of a box, each from the outliers of those before.

    Args:
        matches: in the coordinates of the two matching frames.
        reference_frame: (width, height) of the reference's matching frame.
        limit: the largest number of placements.

    Returns:
        The placements, the surest first.
    """
    placements: list[Placement] = []
    left = matches
    while len(placements) < limit:
        placement = place(left, reference_frame)
        if placement is None:
            break
        placements.append(placement)
        left = left.subset(~consistent(left, placement.homography))
    return placements


def with_learned(placements: list[Placement], moving: Matches, chance: float) -> list[Placement]:
    """Placements by SIFT, and what learned matches say beside them.

    Where both kinds agree they count together, as independent evidence; where not, the surer one stands.

    Args:
        placements: by SIFT, the surest first.
        moving: coherent learned matches, in the coordinates of the two matching frames.
        chance: log10 of their probability by chance; 0 where there are none.
    """
    if chance == 0.0:
        return placements
    agreeing = [face for face in placements if _agree(face.matches, moving)]
    matches = Matches.joined([moving, *(face.matches for face in agreeing)])
    false_alarms = chance + min((face.log_false_alarms for face in agreeing), default=0.0)
    surest = min((face.log_false_alarms for face in placements), default=0.0)
    if false_alarms > min(surest, LOG_FALSE_ALARMS_LIMIT):
        return placements
    # Too few learned matches to place anything by themselves say nothing about the shape.
    few = chance > LOG_FALSE_ALARMS_LIMIT
    explained = [consistent(moving, face.homography) for face in agreeing]
    if few or (explained and float(np.any(explained, axis=0).mean()) >= PLANAR_SHARE):
        flat = agreeing[0]
        learned = moving.subset(consistent(moving, flat.homography))
        return [
            replace(flat, matches=Matches.joined([flat.matches, learned]), log_false_alarms=false_alarms),
            *(face for face in placements if face is not flat),
        ]
    cv2.setRNGSeed(0)
    plane, _ = cv2.findHomography(matches.generated, matches.reference, cv2.USAC_MAGSAC, BENT_TOLERANCE)
    if plane is None or not _is_plausible(plane):
        cv2.setRNGSeed(0)
        affine, _ = cv2.estimateAffine2D(matches.generated, matches.reference, ransacReprojThreshold=BENT_TOLERANCE)
        if affine is None:
            return placements
        plane = np.vstack([affine, [0.0, 0.0, 1.0]]).astype(np.float64)
        if not _is_plausible(plane):
            return placements
    apart = [face for face in placements if not any(face is one for one in agreeing)]
    return [Placement(np.asarray(plane), matches, false_alarms, is_bent=True), *apart]


def _agree(some: Matches, moving: Matches) -> bool:
    """Whether matches lie where the nearest of the others say, by their displacement alone."""
    distance = np.linalg.norm(some.generated[:, None] - moving.generated[None], axis=2)
    nearest = distance.argmin(axis=1)
    scale = float(np.median(_spread(moving.reference)) / max(1e-6, float(np.median(_spread(moving.generated)))))
    offset = np.linalg.norm(some.reference - moving.reference[nearest], axis=1)
    reach = AGREEING_TOLERANCE + 1.5 * distance[np.arange(len(nearest)), nearest] * scale
    return float((offset < reach).mean()) >= AGREEING_SHARE


def _spread(points: Floats) -> Floats:
    return np.asarray(np.linalg.norm(points - points.mean(axis=0), axis=1), np.float32)


def placement_scale(homography: NDArray[np.float64]) -> float:
    """Reference pixels per pixel of the generated picture, near its origin."""
    return float(np.sqrt(abs(np.linalg.det(homography[:2, :2]))))


def _surest(matches: Matches, reference_frame: Size) -> Placement | None:
    candidates = (_estimate(group, matches, reference_frame) for group in _similarity_groups(matches))
    return min((c for c in candidates if c is not None), key=lambda c: c.log_false_alarms, default=None)


def _similarity_groups(matches: Matches) -> list[Matches]:
    """Groups of matches with about the same change of scale and rotation, the largest first, then all matches."""
    if len(matches) < 4:
        return []
    turn = np.floor(((matches.turns % 360.0) / 360.0) * ROTATION_BINS).astype(int)
    size = np.floor(matches.size_ratios / SIZE_TOLERANCE).astype(int)
    groups: list[tuple[int, NDArray[np.bool_]]] = []
    for t in range(ROTATION_BINS):
        near_turn = (turn - t) % ROTATION_BINS <= 1
        for s in range(int(size.min()), int(size.max()) + 1):
            keep = near_turn & ((size == s) | (size == s + 1))
            groups.append((int(keep.sum()), keep))
    groups.sort(key=lambda group: -group[0])
    return [matches.subset(keep) for count, keep in groups[:GROUPS] if count >= 4] + [matches]


def _estimate(candidates: Matches, everything: Matches, reference_frame: Size) -> Placement | None:
    """The placement estimated from some matches and judged by its inliers among all of them."""
    cv2.setRNGSeed(0)
    affine, _ = cv2.estimateAffine2D(
        candidates.generated,
        candidates.reference,
        method=cv2.USAC_MAGSAC,
        ransacReprojThreshold=TOLERANCE,
        maxIters=5000,
        confidence=0.999,
    )
    if affine is None:
        return None
    homography = np.vstack([affine, [0.0, 0.0, 1.0]])
    keep = consistent(everything, homography)
    if keep.sum() >= 8:
        cv2.setRNGSeed(0)
        agreeing = everything.subset(keep)
        better, _ = cv2.findHomography(agreeing.generated, agreeing.reference, cv2.USAC_MAGSAC, TOLERANCE)
        if better is not None:
            wider = consistent(everything, better)
            if wider.sum() > keep.sum():
                homography, keep = better, wider
    if not _is_plausible(homography):
        return None
    return Placement(
        homography,
        everything.subset(keep),
        _log_false_alarms(int(keep.sum()), len(everything), homography, reference_frame),
    )


def middle_plane(matches: Matches, placement: Placement) -> NDArray[np.float64]:
    """The homography (3, 3) of a plane through the middle depth of a scene, as a start for its flow.

    The plane with the most inliers may be the wall at the back; flow from there would not reach what stands in front.

    Args:
        matches: of the scene, in the coordinates of the two matching frames.
        placement: the surest one.
    """
    near = matches.subset(consistent(matches, placement.homography, DEPTH * TOLERANCE))
    cv2.setRNGSeed(0)
    middle, _ = cv2.findHomography(near.generated, near.reference, cv2.RANSAC, 0.5 * DEPTH * TOLERANCE, maxIters=3000)
    return placement.homography if middle is None or not _is_plausible(middle) else np.asarray(middle)


def consistent(matches: Matches, homography: NDArray[np.float64], tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Which matches are inliers of a homography: by transfer error, change of scale and rotation.

    Args:
        matches: in the coordinates of the two matching frames.
        homography: 3x3, from generated to reference coordinates.
        tolerance: largest transfer error in pixels of the generated picture.

    Returns:
        (n,), true for inliers.
    """
    predicted = cv2.perspectiveTransform(matches.generated.reshape(-1, 1, 2), homography).reshape(-1, 2)
    ahead = (
        cv2.perspectiveTransform(
            (matches.generated + np.array([1, 0], np.float32)).reshape(-1, 1, 2), homography
        ).reshape(-1, 2)
        - predicted
    )
    below = (
        cv2.perspectiveTransform(
            (matches.generated + np.array([0, 1], np.float32)).reshape(-1, 1, 2), homography
        ).reshape(-1, 2)
        - predicted
    )
    area = ahead[:, 0] * below[:, 1] - ahead[:, 1] * below[:, 0]
    size = 0.5 * np.log(np.maximum(area, 1e-9))
    turn = np.degrees(np.arctan2(ahead[:, 1] - below[:, 0], ahead[:, 0] + below[:, 1]))
    off_turn = np.abs((matches.turns - turn + 180.0) % 360.0 - 180.0)
    # In pixels of the generated picture, as the tolerance is.
    distance = np.linalg.norm(predicted - matches.reference, axis=1) / np.exp(size)
    return np.asarray(
        (area > 0)
        & (distance < tolerance)
        & (matches.learned | (np.abs(matches.size_ratios - size) < SIZE_TOLERANCE))
        & (matches.learned | (off_turn < ANGLE_TOLERANCE))
    )


def _log_false_alarms(agreeing: int, total: int, homography: NDArray[np.float64], reference_frame: Size) -> float:
    """log10 of the expected number of affine maps with as many inliers if all matches were random.

    As in Moisan and Stival (2004): the number of tests, times the number of triples that define a map, times the
    chance that all other inliers agree with it in place, rotation and (by a half) scale.
    """
    if agreeing <= 3:
        return float("inf")
    disc = np.pi * (TOLERANCE * placement_scale(homography)) ** 2 / (reference_frame[0] * reference_frame[1])
    chance = np.log(min(1.0, disc * (2 * ANGLE_TOLERANCE / 360.0) * 0.5))
    gammaln = scipy.special.gammaln
    choose = gammaln(total + 1) - gammaln(agreeing + 1) - gammaln(total - agreeing + 1)
    triples = gammaln(agreeing + 1) - gammaln(4) - gammaln(agreeing - 2)
    return float((np.log(total) + choose + triples + (agreeing - 3) * chance) / np.log(10.0))


def _is_plausible(homography: NDArray[np.float64]) -> bool:
    """Whether a camera can see an object like this: not mirrored, not squeezed to a line, not shrunk to a point."""
    singular = np.linalg.svd(homography[:2, :2] / homography[2, 2], compute_uv=False)
    return bool(
        np.linalg.det(homography[:2, :2]) > 0
        and singular[0] / max(singular[1], 1e-9) < MAXIMUM_ANISOTROPY
        and singular[1] > 1 / MAXIMUM_SCALE
        and singular[0] < MAXIMUM_SCALE
    )
