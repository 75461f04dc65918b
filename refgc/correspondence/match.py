"""Feature matching, and the robust placement (homography) that the matches agree on beyond chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from refgc.imaging.arrays import Bytes, Floats, Size

# The constants of this file were chosen by hand, not fitted.
FEATURE_LIMIT = 8000
# SIFT's default of 0.04 would leave a blurred object of a soft generated picture without features.
CONTRAST_THRESHOLD = 0.01
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
# Side in pixels of the cells in which one match is kept.
CELL = 3.0
# Descriptors that are compared at a time, which bounds the memory.
CHUNK = 2048
# Limits of a plausible homography: ratio of its singular values, and largest change of scale.
MAXIMUM_ANISOTROPY = 4.0
MAXIMUM_SCALE = 40


@dataclass(frozen=True, slots=True)
class Features:
    """SIFT features.

    Attributes:
        points: (n, 2), (x, y) in pixels.
        sizes: (n,), diameters in pixels.
        angles: (n,), orientations in degrees.
        descriptors: (n, 128), of unit length.
    """

    points: Floats
    sizes: Floats
    angles: Floats
    descriptors: Floats


@dataclass(frozen=True, slots=True)
class Matches:
    """Matched features; row i of every field belongs to one match.

    Attributes:
        generated: (n, 2), (x, y) in the generated picture.
        reference: (n, 2), the same point in the reference.
        size_ratios: (n,), natural log of the reference feature's size over the generated one's.
        turns: (n,), orientation of the reference feature minus that of the generated one, in degrees.
        ambiguity: (n,), the ratio of Lowe's test: descriptor distance of the match over that of the second nearest.
    """

    generated: Floats
    reference: Floats
    size_ratios: Floats
    turns: Floats
    ambiguity: Floats

    def __len__(self) -> int:
        return len(self.generated)

    def subset(self, keep: NDArray[np.bool_]) -> "Matches":
        """The matches where `keep` (n,) is true."""
        return Matches(
            self.generated[keep],
            self.reference[keep],
            self.size_ratios[keep],
            self.turns[keep],
            self.ambiguity[keep],
        )

    def at(self, generated: Floats, reference: Floats) -> "Matches":
        """The same matches with other coordinates (n, 2) each."""
        return Matches(generated, reference, self.size_ratios, self.turns, self.ambiguity)

    @staticmethod
    def joined(several: "Sequence[Matches]") -> "Matches":
        """Several sets of matches concatenated."""
        columns = ((m.generated, m.reference, m.size_ratios, m.turns, m.ambiguity) for m in several)
        return Matches(*(np.concatenate(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the reference lies in the generated picture.

    Attributes:
        homography: 3x3, from generated to reference coordinates.
        matches: its inliers.
        log_false_alarms: log10 of the expected number of placements with as many inliers among random matches; the
            lower, the surer.
    """

    homography: NDArray[np.float64]
    matches: Matches
    log_false_alarms: float

    @property
    def confidence(self) -> float:
        """In [0, 1]: 0 at the limit of acceptance, 0.97 where 10^-20 false alarms are expected."""
        return float(1.0 - 10.0 ** (min(0.0, self.log_false_alarms - LOG_FALSE_ALARMS_LIMIT) / 10.0))


def find_features(grey: Bytes, mask: Bytes | None = None) -> Features:
    """SIFT keypoints (Lowe, 2004) with RootSIFT descriptors of unit length (Arandjelovic and Zisserman, 2012).

    Args:
        grey: uint8 (height, width).
        mask: uint8 of the same shape, 0 where no features are wanted; None takes them everywhere.
    """
    keypoints, descriptors = cv2.SIFT_create(
        FEATURE_LIMIT, contrastThreshold=CONTRAST_THRESHOLD, enable_precise_upscale=True
    ).detectAndCompute(grey, mask)
    if descriptors is None or len(keypoints) == 0:
        return Features(
            np.zeros((0, 2), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, 128), np.float32),
        )
    root = np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-7))
    return Features(
        np.array([k.pt for k in keypoints], np.float32),
        np.array([k.size for k in keypoints], np.float32),
        np.array([k.angle for k in keypoints], np.float32),
        root.astype(np.float32),
    )


def match_features(generated: Features, reference: Features) -> Matches:
    """Nearest neighbours that pass the loosest ratio test, at most one match per cell of either picture."""
    if len(generated.points) < 2 or len(reference.points) < 2:
        nothing = np.zeros(0, np.intp)
        return _pair(generated, reference, nothing, nothing, np.zeros(0, np.float32))
    nearest = np.empty(len(generated.points), np.intp)
    ratios = np.empty(len(generated.points), np.float32)
    for start in range(0, len(nearest), CHUNK):
        similarity = generated.descriptors[start : start + CHUNK] @ reference.descriptors.T
        rows = np.arange(len(similarity))
        best = similarity.argmax(axis=1)
        first = similarity[rows, best]
        similarity[rows, best] = -1.0
        second = similarity.max(axis=1)
        nearest[start : start + CHUNK] = best
        # For unit vectors the squared distance is 2 - 2 * (scalar product).
        ratios[start : start + CHUNK] = np.sqrt(np.maximum(1.0 - first, 0.0) / np.maximum(1.0 - second, 1e-9))
    order = np.argsort(ratios, kind="stable")
    order = order[ratios[order] < max(RATIOS)]
    order = order[_first_in_each_cell(generated.points[order])]
    order = order[_first_in_each_cell(reference.points[nearest[order]])]
    return _pair(generated, reference, order, nearest[order], ratios[order])


def _first_in_each_cell(points: Floats) -> NDArray[np.intp]:
    """Indices of the first point in each cell: several features of one place are not independent evidence."""
    _, first = np.unique(np.round(points / CELL).astype(np.int64), axis=0, return_index=True)
    return np.sort(first)


def _pair(
    generated: Features, reference: Features, i: NDArray[np.intp], j: NDArray[np.intp], ambiguity: Floats
) -> Matches:
    return Matches(
        generated.points[i],
        reference.points[j],
        np.log(reference.sizes[j] / generated.sizes[i]),
        reference.angles[j] - generated.angles[i],
        ambiguity,
    )


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
        & (np.abs(matches.size_ratios - size) < SIZE_TOLERANCE)
        & (off_turn < ANGLE_TOLERANCE)
    )


def _log_false_alarms(agreeing: int, total: int, homography: NDArray[np.float64], reference_frame: Size) -> float:
    """log10 of the expected number of affine maps with as many inliers if all matches were random.

    As in Moisan and Stival (2004): the number of tests, times the number of triples that define a map, times the
    chance that all other inliers agree with it in place, rotation and (by a half) scale.
    """
    if agreeing <= 3:
        return float("inf")
    scale = float(np.sqrt(abs(np.linalg.det(homography[:2, :2]))))
    disc = np.pi * (TOLERANCE * scale) ** 2 / (reference_frame[0] * reference_frame[1])
    chance = np.log(min(1.0, disc * (2 * ANGLE_TOLERANCE / 360.0) * 0.5))
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
