"""Reference inliers: how many places of the reference's object are found again in the result."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.correspondence.learned import KEYPOINT_LIMIT, find_networks
from refgc.correspondence.xfeat import LearnedFeatures
from refgc.imaging.arrays import Bools, Floats, resized
from refgc.imaging.image import Image, Mask
from refgc.imaging.warp import fitted
from refgc.metrics.memo import Memo
from refgc.metrics.metric import Need, Region, pixels_of
from refgc.metrics.sample import Sample
from refgc.wheels import LEARNED_MATCHING

# The constants of this file were chosen by hand, not fitted.
# Longer side in pixels at which both pictures are matched; smaller ones are enlarged to it.
SIDE = 1024
# Largest distance in pixels of an inlier from its epipolar line.
TOLERANCE = 3.0
# From so many matches on a fundamental matrix is estimated with one to spare.
FEWEST = 9


class Inliers:
    """Matches of the reference and the result that one fundamental matrix explains."""

    name = "inliers"
    label = "Inliers"
    unit = ""
    digits = 1
    higher_is_better = True
    regions: tuple[Region, ...] = ("whole", "inside")
    needs: frozenset[Need] = frozenset({"reference"})

    def __init__(self) -> None:
        self._features = Memo(_features)

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRRI, 8-bit sRGB, both resized to a longer side of {SIDE} pixels, matches of at most "
            f"{KEYPOINT_LIMIT} XFeat keypoints by LighterGlue ({LEARNED_MATCHING.requirement}) that lie within "
            f"{TOLERANCE:g} pixels of a fundamental matrix by MAGSAC++ (OpenCV {cv2.__version__}); inside counts those "
            "on the object in both pictures"
        )

    def __call__(self, sample: Sample) -> dict[str, float]:
        """`inliers`, and `inliers_inside` of those whose two ends lie on the object.

        The mask of the reference is taken into account where there is one.

        Raises:
            EngineError: the networks cannot be read.
        """
        networks = find_networks()
        if sample.reference is None or networks is None:
            return {}
        seen, shown = self._features(sample.result), self._features(sample.reference)
        i, j, _ = networks.matches(seen, shown)
        points, reference_points = seen.points[i], shown.points[j]
        agreeing = epipolar_inliers(points, reference_points)
        figures = {"inliers": float(agreeing.sum())}
        if sample.truth_mask is not None:
            on_object = _lies_on(points, sample.truth_mask)
            if sample.reference_mask is not None:
                on_object &= _lies_on(reference_points, sample.reference_mask)
            figures["inliers_inside"] = float((agreeing & on_object).sum())
        return figures


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
    cv2.setRNGSeed(0)
    _, inliers = cv2.findFundamentalMat(
        points, reference_points, cv2.USAC_MAGSAC, ransacReprojThreshold=TOLERANCE, confidence=0.9999, maxIters=10_000
    )
    return none if inliers is None else np.asarray(inliers.ravel() > 0, np.bool_)


def _features(image: Image, _: Mask | None) -> LearnedFeatures:
    networks = find_networks()
    assert networks is not None
    frame = fitted(image.size, SIDE, float("inf"))
    return networks.features(resized(image.pixels, frame), None, enlargement=max(1.0, frame[0] / image.size[0]))


def _lies_on(points: Floats, mask: Mask) -> Bools:
    """Which points (n, 2) in a matching frame lie on the object of a mask."""
    frame = fitted(mask.size, SIDE, float("inf"))
    scaled = (points + 0.5) * np.array(mask.size) / np.array(frame) - 0.5
    x, y = np.rint(scaled).astype(int).T
    return pixels_of(mask)[y.clip(0, mask.size[1] - 1), x.clip(0, mask.size[0] - 1)]
