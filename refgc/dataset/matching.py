"""Learned matches between views of one object, with keypoints found once for each view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.coherence import coherent, log_chance
from refgc.correspondence.learned import Networks
from refgc.correspondence.learned_search import GENERATED_FRAME, REFERENCE_FRAME, coherence_frame
from refgc.correspondence.match import Matches, search_mask
from refgc.correspondence.xfeat import LearnedFeatures
from refgc.imaging.arrays import Bytes, Floats, Size, resized, size_of
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted, rescale_points

# The constants of this file were chosen by hand, not fitted.
# Longer sides in pixels at which keypoints are found, and the most of them: in whole frames, and in the part of a frame
# with the object. Matching costs four times as much for twice as many.
WHOLE_SIDE, OBJECT_SIDE = 512, 640
WHOLE_KEYPOINTS, OBJECT_KEYPOINTS = 768, 1024
# The most by which a small part is enlarged.
ENLARGEMENT = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of a frame, or of a part of it.

    Attributes:
        features: of the part as it was resized.
        part: of the frame.
        points: (n, 2), (x, y) in pixels of the frame.
    """

    features: LearnedFeatures
    part: Region
    points: Floats

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True, eq=False)
class Agreeing:
    """Matches of two views that move like their neighbours.

    Attributes:
        first_index: (n,), keypoints of the first view.
        second_index: (n,), the same points in the second.
        first: (n, 2), where they are in the first frame, in pixels.
        second: (n, 2), in the second.
        log_chance: log10 of the probability of as many in pictures that share nothing; 0 where there are none.
    """

    first_index: NDArray[np.intp]
    second_index: NDArray[np.intp]
    first: Floats
    second: Floats
    log_chance: float

    def __len__(self) -> int:
        return len(self.first)


def find_keypoints(pixels: Bytes, mask: Floats | None, part: Region | None, networks: Networks) -> Keypoints:
    """The surest keypoints of a frame.

    Args:
        pixels: uint8 RGB (height, width, 3).
        mask: (height, width) in [0, 1], where they are wanted; None takes them everywhere.
        part: of the frame, around the object; None looks at the whole frame.
        networks: the weights.
    """
    side, most = (WHOLE_SIDE, WHOLE_KEYPOINTS) if part is None else (OBJECT_SIDE, OBJECT_KEYPOINTS)
    part = part or Region(0, 0, *size_of(pixels))
    size = fitted(part.size, side, ENLARGEMENT)
    where = None if mask is None else search_mask(part.of(mask), size)
    enlargement = max(1.0, size[0] / part.size[0])
    features = networks.features(resized(part.of(pixels), size), where, enlargement, most)
    corner = np.array([part.left, part.top], np.float32)
    return Keypoints(features, part, rescale_points(features.points, size, part.size) + corner)


def find_agreeing(first: Keypoints, second: Keypoints, networks: Networks) -> Agreeing:
    """Matches of two views' keypoints that agree with their neighbours; see `refgc.correspondence.coherence`."""
    i, j, probabilities = networks.matches(first.features, second.features)
    frames = coherence_frame(first.part.size, GENERATED_FRAME), coherence_frame(second.part.size, REFERENCE_FRAME)
    unknown = np.full(len(i), np.nan, np.float32)
    matches = Matches(
        _in_frame(first, frames[0])[i], _in_frame(second, frames[1])[j], unknown, unknown, 1.0 - probabilities
    )
    keep = coherent(matches)
    return Agreeing(
        i[keep], j[keep], first.points[i[keep]], second.points[j[keep]], log_chance(matches.subset(keep), *frames)
    )


def _in_frame(keypoints: Keypoints, frame: Size) -> Floats:
    corner = np.array([keypoints.part.left, keypoints.part.top], np.float32)
    return rescale_points(keypoints.points - corner, keypoints.part.size, frame)
