"""Dense correspondence: bidirectional optical flow between the generated picture and the placed reference."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, luma, size_of
from refgc.imaging.warp import follow

# Weight of the smoothness term, three times OpenCV's default of 20: detail of a generated picture is often wrong and
# must not bend the flow. Chosen by hand, not fitted.
SMOOTHNESS = 60.0


@dataclass(frozen=True, slots=True)
class Registration:
    """A refined map into the reference and its forward-backward error.

    Attributes:
        mapping: (height, width, 2), the map in coordinates of the original reference.
        flow: (height, width, 2), displacement from the map before, in pixels of the flow frame.
        inconsistency: (height, width), forward-backward error: the distance in pixels of the flow frame by which the
            forward flow followed by the backward flow misses its start.
    """

    mapping: Floats
    flow: Floats
    inconsistency: Floats


def register(generated: Bytes, placed: Bytes, mapping: Floats, sharpness: float, finest: int = 0) -> Registration:
    """Refine a map by dense inverse search (DIS) optical flow (Kroeger et al., 2016) in both directions.

    Args:
        generated: uint8 RGB (height, width, 3), the generated picture in the flow frame.
        placed: uint8 RGB (height, width, 3), the reference warped by `mapping`.
        mapping: (height, width, 2), from the flow frame into the reference, near the truth.
        sharpness: pixels of the generated picture per pixel of the flow frame, in (0, 1]; `placed` is blurred to it.
        finest: the finest pyramid level that is searched, 0 being the full size; each level costs a quarter of the one
            before.
    """
    target, source = luma(generated), luma(_reduce_sharpness(placed, sharpness, size_of(generated)))
    forward, backward = _flow(target, source, finest), _flow(source, target, finest)
    inconsistency = np.linalg.norm(forward + follow(backward, forward), axis=2).astype(np.float32)
    return Registration(follow(mapping, forward), forward, inconsistency)


def _reduce_sharpness(placed: Bytes, sharpness: float, size: Size) -> Bytes:
    """The picture shrunk to the generated picture's resolution and enlarged again."""
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
