"""Feature matching: SIFT keypoints, and learned ones beside them where their networks are there."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.learned import KEYPOINT_LIMIT, Networks
from refgc.imaging.arrays import Bytes, Floats, Size, shrink

# The constants of this file were chosen by hand, not fitted.
FEATURE_LIMIT = 8000
# SIFT's default of 0.04 would leave a blurred object of a soft generated picture without features.
CONTRAST_THRESHOLD = 0.01
# Matches that fail the ratio test (Lowe, 2004) at this value are dropped.
LOOSEST_RATIO = 0.92
# Side in pixels of the cells in which one match is kept.
CELL = 3.0
# Descriptors that are compared at a time, which bounds the memory.
CHUNK = 2048
# Parts of the matches, each of which is left out of a fit once.
FOLDS = 4


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

    def at(self, mask: Bytes | None) -> "Features":
        """The features where a mask (height, width) is above 0; None keeps all."""
        if mask is None or not len(self.points):
            return self
        x, y = np.rint(self.points).astype(int).T
        keep = mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)] > 0
        return Features(self.points[keep], self.sizes[keep], self.angles[keep], self.descriptors[keep])


@dataclass(frozen=True, slots=True)
class Matches:
    """Matched features; row i of every field belongs to one match.

    Attributes:
        generated: (n, 2), (x, y) in the generated picture.
        reference: (n, 2), the same point in the reference.
        size_ratios: (n,), natural log of the reference feature's size over the generated one's.
        turns: (n,), orientation of the reference feature minus that of the generated one, in degrees.
        ambiguity: (n,), the ratio of Lowe's test: descriptor distance of the match over that of the second nearest.
            Of learned matches it is one minus their probability, and size ratios and turns are NaN: learned keypoints
            have neither size nor orientation.
    """

    generated: Floats
    reference: Floats
    size_ratios: Floats
    turns: Floats
    ambiguity: Floats

    def __len__(self) -> int:
        return len(self.generated)

    @property
    def learned(self) -> NDArray[np.bool_]:
        """(n,), true for learned matches."""
        return np.isnan(self.turns)

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


def folds(count: int) -> Iterator[NDArray[np.bool_]]:
    """For cross-validation: which of `count` matches are left out, each once, (count,)."""
    part = np.arange(count) % FOLDS
    return (part == out for out in range(FOLDS))


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
    order = order[ratios[order] < LOOSEST_RATIO]
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


def match_learned(
    generated: Bytes,
    reference: Bytes,
    networks: Networks,
    *,
    enlargement: float = 1.0,
    limit: int = KEYPOINT_LIMIT,
    generated_mask: Bytes | None = None,
    reference_mask: Bytes | None = None,
) -> Matches:
    """Matches of XFeat's keypoints by LighterGlue.

    Args:
        generated: uint8 RGB (height, width, 3).
        reference: uint8 RGB (height, width, 3).
        networks: the weights of both.
        enlargement: the factor by which the generated picture was enlarged before.
        limit: the largest number of keypoints in one picture.
        generated_mask: uint8 (height, width) of `generated`, 0 where no features are wanted.
        reference_mask: the same for `reference`.
    """
    with ThreadPoolExecutor(2) as threads:
        masks = generated_mask, reference_mask
        first, second = threads.map(
            networks.features, (generated, reference), masks, (enlargement, 1.0), (limit, limit)
        )
    i, j, probabilities = networks.matches(first, second)
    unknown = np.full(len(i), np.nan, np.float32)
    return Matches(first.points[i], second.points[j], unknown, unknown, 1.0 - probabilities)


def search_mask(mask: Floats, size: Size) -> Bytes:
    """Where features are looked for: a mask, dilated since those beside the outline are good ones too.

    Args:
        mask: (height, width) in [0, 1].
        size: (width, height) of the result.

    Returns:
        uint8 (height, width), 255 where features are wanted and 0 elsewhere.
    """
    marked = (shrink(mask, size) > 0.25).astype(np.uint8)
    reach = max(3, max(size) // 100)
    return np.asarray(cv2.dilate(marked, np.ones((reach, reach), np.uint8)) * 255, np.uint8)
