"""Reference inliers: how many places of the reference's object are found again in the result."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.correspondence.epipolar import fundamental_matrix
from refgc.correspondence.learned import KEYPOINT_LIMIT, Networks, find_networks
from refgc.correspondence.xfeat import LearnedFeatures
from refgc.errors import EngineError
from refgc.imaging.arrays import Bools, Floats, enlarge, resized
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.warp import fitted
from refgc.metrics.memo import Memo
from refgc.metrics.metric import Need, Region
from refgc.metrics.sample import Sample
from refgc.wheels import LEARNED_MATCHING

# The constants of this file were chosen by hand, not fitted.
# Longer side in pixels at which both pictures are matched; smaller ones are enlarged to it.
SIDE = 1024
# Largest distance in pixels of an inlier from its epipolar line.
TOLERANCE = 3.0
# From so many matches on a fundamental matrix is estimated with one to spare.
FEWEST = 9
MISSING = "Inliers needs the weights of learned matching: `refgc setup` downloads them."


class Inliers:
    """Matches of the reference's object and the result that one fundamental matrix explains.

    Keypoints are looked for on the object alone where its masks are known. Otherwise a sharp background takes most of
    the keypoints of a sharp picture, and a blurred one would have more left for the object.
    """

    name = "inliers"
    label = "Inliers"
    unit = ""
    digits = 1
    higher_is_better = True
    regions: tuple[Region, ...] = ("whole",)
    needs: frozenset[Need] = frozenset({"reference"})

    def __init__(self) -> None:
        self._features = Memo(_features)

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRRI, 8-bit sRGB, both resized to a longer side of {SIDE} pixels, matches by LighterGlue "
            f"of at most {KEYPOINT_LIMIT} XFeat keypoints, on the object alone where its masks are known "
            f"({LEARNED_MATCHING.requirement}), that lie within {TOLERANCE:g} pixels of a fundamental matrix by "
            f"MAGSAC++ (OpenCV {cv2.__version__})"
        )

    def __call__(self, sample: Sample) -> dict[str, float]:
        """`inliers`, a whole number.

        Raises:
            EngineError: the networks are not there or cannot be read.
        """
        if sample.reference is None:
            return {}
        seen = self._features(sample.result, sample.truth_mask)
        shown = self._features(sample.reference, sample.reference_mask)
        i, j, _ = _networks().matches(seen, shown)
        return {self.name: float(epipolar_inliers(seen.points[i], shown.points[j]).sum())}


def epipolar_inliers(points: Floats, reference_points: Floats) -> Bools:
    """Which matches one rigid object, seen from two sides, can explain.

    Args:
        points: (n, 2), (x, y) in pixels of one picture.
        reference_points: (n, 2), the same places in the other.

    Returns:
        (n,); all false where there are too few of them.
    """
    none = np.zeros(len(points), np.bool_)
    if len(points) < FEWEST:
        return none
    matrix, inliers = fundamental_matrix(points, reference_points, TOLERANCE, 10_000)
    if matrix is not None:
        return inliers
    # Points of one plane leave the fundamental matrix open, and a homography explains them.
    cv2.setRNGSeed(0)
    _, flat = cv2.findHomography(points, reference_points, cv2.USAC_MAGSAC, TOLERANCE)
    return none if flat is None else np.asarray(flat.ravel() > 0, np.bool_)


def _features(image: Image, mask: Mask | None) -> LearnedFeatures:
    frame = fitted(image.size, SIDE, float("inf"))
    wanted = None
    if mask is not None:
        wanted = np.asarray(255 * (enlarge(mask.values, frame) >= MARKED), np.uint8)
    return _networks().features(resized(image.pixels, frame), wanted, enlargement=max(1.0, frame[0] / image.size[0]))


def _networks() -> Networks:
    networks = find_networks()
    if networks is None:
        raise EngineError(MISSING)
    return networks
