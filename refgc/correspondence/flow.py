"""Dense correspondence: optical flow from the generated picture to the placed reference, and which of it to believe."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, luma, size_of
from refgc.imaging.warp import follow

# Smoother than DIS's own 20: a generated picture's detail is wrong, and must not bend the flow.
SMOOTHNESS = 60.0


@dataclass(frozen=True, slots=True)
class Registration:
    """A map into the reference and how well it holds.

    Attributes:
        mapping: (height, width, 2), the map in the original reference's coordinates.
        flow: (height, width, 2), how far each pixel moved from the map before, in pixels of the flow frame.
        inconsistency: (height, width), pixels by which flow forth and back misses its start; small where both agree.
    """

    mapping: Floats
    flow: Floats
    inconsistency: Floats


def register(generated: Bytes, placed: Bytes, mapping: Floats, sharpness: float, finest: int = 0) -> Registration:
    """Refine a map by dense inverse search flow (Kroeger et al., 2016), in both directions.

    Args:
        generated: RGB of the flow frame.
        placed: RGB of the flow frame, the reference seen through `mapping`.
        mapping: map from the flow frame into the reference, near the truth.
        sharpness: pixels of the generated picture per pixel of the flow frame, at most 1; `placed` is blurred to it.
        finest: how often the finest level of the search is halved; each costs a quarter of the one before.
    """
    target, source = luma(generated), luma(_as_soft_as_generated(placed, sharpness, size_of(generated)))
    forth, back = _flow(target, source, finest), _flow(source, target, finest)
    inconsistency = np.linalg.norm(forth + follow(back, forth), axis=2).astype(np.float32)
    return Registration(follow(mapping, forth), forth, inconsistency)


def _as_soft_as_generated(placed: Bytes, sharpness: float, size: Size) -> Bytes:
    small = (max(1, round(size[0] * sharpness)), max(1, round(size[1] * sharpness)))
    return np.asarray(
        cv2.resize(cv2.resize(placed, small, interpolation=cv2.INTER_AREA), size, interpolation=cv2.INTER_CUBIC),
        np.uint8,
    )


def _flow(target: Bytes, source: Bytes, finest: int) -> Floats:
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(finest)
    search.setVariationalRefinementAlpha(SMOOTHNESS)
    return np.asarray(search.calc(target, source, None), np.float32)
