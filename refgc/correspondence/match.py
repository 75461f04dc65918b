"""Features of both pictures, matched, and the placement that enough of the matches agree on."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from refgc.imaging.arrays import Bytes, Floats, Size

FEATURE_LIMIT = 8000
# Generated pictures are soft: SIFT's default of 0.04 would leave a blurred object without features.
CONTRAST_THRESHOLD = 0.01
# A match must be this much nearer than the runner-up (Lowe, 2004): strict where there are many, loose where few.
RATIOS = (0.85, 0.92)
# How far, in pixels of the matching frame, a match may lie from where the placement says: generated objects wobble.
TOLERANCE = 8.0
# Matches of one scene may lie so many tolerances off a plane: parallax.
DEPTH = 8.0
# A match's own change of size and direction must be that of the placement within these (natural log, degrees).
SIZE_TOLERANCE = 0.7
ANGLE_TOLERANCE = 35.0
# log10 of the number of placements as good as this one that chance alone would give; below it a placement is real.
FALSE_ALARMS = -4.0
# How many groups of matches with like size and direction are tried, the largest first.
GROUPS = 32
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Features:
    """SIFT features: `points` (n, 2) and `sizes` (n,) in pixels, `angles` (n,) in degrees, `descriptors` (n, 128)."""

    points: Floats
    sizes: Floats
    angles: Floats
    descriptors: Floats


@dataclass(frozen=True, slots=True)
class Matches:
    """Matched features.

    Attributes:
        generated: (n, 2), and
        reference: (n, 2), where row i shows the same spot.
        size_ratios: (n,), natural log of the reference feature's size over the generated one's.
        turns: (n,), degrees by which the reference feature is turned.
        ambiguity: (n,), distance of the match over that of the runner-up.
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
        """The same matches in other coordinates."""
        return Matches(generated, reference, self.size_ratios, self.turns, self.ambiguity)

    @staticmethod
    def joined(several: "Sequence[Matches]") -> "Matches":
        """All matches of several sets, in order."""
        columns = ((m.generated, m.reference, m.size_ratios, m.turns, m.ambiguity) for m in several)
        return Matches(*(np.concatenate(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the reference lies in the generated picture.

    Attributes:
        homography: 3x3, generated to reference coordinates.
        matches: those that agree with it.
        log_false_alarms: log10 of how many as good placements chance would give; the lower, the surer.
    """

    homography: NDArray[np.float64]
    matches: Matches
    log_false_alarms: float

    @property
    def confidence(self) -> float:
        """0 at the point of doubt, near 1 from a false alarm in 10^20 on."""
        return float(1.0 - 10.0 ** (min(0.0, self.log_false_alarms - FALSE_ALARMS) / 10.0))


def find_features(grey: Bytes, mask: Bytes | None = None) -> Features:
    """SIFT where `mask` is not 0 (Lowe, 2004), as unit RootSIFT descriptors (Arandjelovic and Zisserman, 2012)."""
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
    """Nearest neighbours that pass the ratio test, each spot of either picture used once."""
    if len(generated.points) < 2 or len(reference.points) < 2:
        nothing = np.zeros(0, np.intp)
        return _pair(generated, reference, nothing, nothing, np.zeros(0, np.float32))
    nearest = np.empty(len(generated.points), np.intp)
    ratios = np.empty(len(generated.points), np.float32)
    for start in range(0, len(nearest), CHUNK):
        likeness = generated.descriptors[start : start + CHUNK] @ reference.descriptors.T
        rows = np.arange(len(likeness))
        best = likeness.argmax(axis=1)
        first = likeness[rows, best]
        likeness[rows, best] = -1.0
        second = likeness.max(axis=1)
        nearest[start : start + CHUNK] = best
        # Unit descriptors: the squared distance is twice what the likeness lacks to one.
        ratios[start : start + CHUNK] = np.sqrt(np.maximum(1.0 - first, 0.0) / np.maximum(1.0 - second, 1e-9))
    order = np.argsort(ratios, kind="stable")
    order = order[ratios[order] < max(RATIOS)]
    order = order[_first_of_each(generated.points[order])]
    order = order[_first_of_each(reference.points[nearest[order]])]
    return _pair(generated, reference, order, nearest[order], ratios[order])


def _first_of_each(points: Floats) -> NDArray[np.intp]:
    """Indices of the first point in each spot of 3 pixels: one spot gives several features, but is one witness."""
    _, first = np.unique(np.round(points / 3.0).astype(np.int64), axis=0, return_index=True)
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
    """The placement that the matches agree on beyond chance, or None.

    An affinity by MAGSAC++ (Barath et al., 2020) over matches whose size and direction agree with it, judged a
    contrario (Moisan and Stival, 2004), then a homography where it keeps more matches.

    Args:
        matches: in the coordinates of the two matching frames.
        reference_frame: size of the reference's matching frame.
    """
    for ratio in RATIOS:
        placement = _surest(matches.subset(matches.ambiguity < ratio), reference_frame)
        if placement is not None and placement.log_false_alarms <= FALSE_ALARMS:
            return placement
    return None


def place_all(matches: Matches, reference_frame: Size, limit: int) -> list[Placement]:
    """Up to `limit` placements, the surest first, each of matches that agree with none before: the faces of a box."""
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
    candidates = (_agree(group, matches, reference_frame) for group in _by_similarity(matches))
    return min((c for c in candidates if c is not None), key=lambda c: c.log_false_alarms, default=None)


def _by_similarity(matches: Matches) -> list[Matches]:
    """Groups of matches with about the same change of size and direction, the largest first, then all of them."""
    if len(matches) < 4:
        return []
    bins = 12
    turn = np.floor(((matches.turns % 360.0) / 360.0) * bins).astype(int)
    size = np.floor(matches.size_ratios / SIZE_TOLERANCE).astype(int)
    groups: list[tuple[int, NDArray[np.bool_]]] = []
    for t in range(bins):
        near_turn = (turn - t) % bins <= 1
        for s in range(int(size.min()), int(size.max()) + 1):
            keep = near_turn & ((size == s) | (size == s + 1))
            groups.append((int(keep.sum()), keep))
    groups.sort(key=lambda group: -group[0])
    return [matches.subset(keep) for count, keep in groups[:GROUPS] if count >= 4] + [matches]


def _agree(candidates: Matches, everything: Matches, reference_frame: Size) -> Placement | None:
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
    """The homography (3, 3) of a plane through the middle of a deep scene, from which no part of it is far.

    The surest plane may be the wall at the back; flow then starts too far from what stands in front.
    """
    near = matches.subset(consistent(matches, placement.homography, DEPTH * TOLERANCE))
    cv2.setRNGSeed(0)
    middle, _ = cv2.findHomography(near.generated, near.reference, cv2.RANSAC, 0.5 * DEPTH * TOLERANCE, maxIters=3000)
    return placement.homography if middle is None or not _is_plausible(middle) else np.asarray(middle)


def consistent(matches: Matches, homography: NDArray[np.float64], tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Which matches (n,) lie within `tolerance` of where the homography says, with the size and turn it gives them."""
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
    # The tolerance is in the generated picture's pixels.
    distance = np.linalg.norm(predicted - matches.reference, axis=1) / np.exp(size)
    return np.asarray(
        (area > 0)
        & (distance < tolerance)
        & (np.abs(matches.size_ratios - size) < SIZE_TOLERANCE)
        & (off_turn < ANGLE_TOLERANCE)
    )


def _log_false_alarms(agreeing: int, total: int, homography: NDArray[np.float64], reference_frame: Size) -> float:
    """log10 of the expected number of affinities with as many agreeing matches if all matches were random."""
    if agreeing <= 3:
        return float("inf")
    scale = float(np.sqrt(abs(np.linalg.det(homography[:2, :2]))))
    disc = np.pi * (TOLERANCE * scale) ** 2 / (reference_frame[0] * reference_frame[1])
    chance = np.log(min(1.0, disc * (2 * ANGLE_TOLERANCE / 360.0) * 0.5))
    choose = gammaln(total + 1) - gammaln(agreeing + 1) - gammaln(total - agreeing + 1)
    triples = gammaln(agreeing + 1) - gammaln(4) - gammaln(agreeing - 2)
    return float((np.log(total) + choose + triples + (agreeing - 3) * chance) / np.log(10.0))


def _is_plausible(homography: NDArray[np.float64]) -> bool:
    """Whether it is how a camera sees an object from another side: no mirror, no needle, no speck."""
    singular = np.linalg.svd(homography[:2, :2] / homography[2, 2], compute_uv=False)
    return bool(
        np.linalg.det(homography[:2, :2]) > 0
        and singular[0] / max(singular[1], 1e-9) < 4.0
        and singular[1] > 1 / 40
        and singular[0] < 40
    )
