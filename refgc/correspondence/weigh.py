"""Weighing: the light the placed reference must take on, and how far each spot of it may be trusted."""

import cv2
import numpy as np

from refgc.correspondence.align import LIGHT_REACH, Alignment, object_in_place
from refgc.correspondence.arrays import Bytes, Floats, blur, shrink, size_of
from refgc.correspondence.harmonize import light
from refgc.correspondence.trust import Evidence, bending, judge
from refgc.correspondence.warp import fitted, inside, prefilter, sample


def weigh_scene(generated: Bytes, reference: Bytes, aligned: Alignment) -> tuple[Floats, Floats]:
    """Light and trust of an aligned scene, on a grid of half the flow frame.

    Returns:
        gain (h, w, 3), trust (h, w) in [0, 1].
    """
    grid = fitted(size_of(aligned.mapping), 1e9, 0.5)
    placed = sample(prefilter(reference, aligned.scale), aligned.mapping, size_of(reference))
    placed = shrink(np.asarray(placed, np.float32), grid)
    seen = shrink(generated.astype(np.float32), grid)
    believed = shrink(aligned.believed, grid)
    gain = light(placed, seen, believed + np.float32(1e-3), LIGHT_REACH * max(grid))
    cell = 2.0 * aligned.scale
    strayed = np.linalg.norm(aligned.flow - aligned.mapping, axis=2).clip(0, 10 * cell).astype(np.float32)
    evidence = Evidence(
        disagreement=np.abs(np.clip(placed * gain, 0, 255) - seen).mean(axis=2),
        believed=believed,
        deviation=shrink(strayed, grid) / np.float32(cell),
        bending=bending(shrink(aligned.mapping, grid) / np.float32(cell)),
    )
    trust = blur(judge(evidence), 1.0) * shrink(inside(aligned.mapping, size_of(reference)), grid)
    return gain, trust


def weigh_object(generated: Bytes, reference: Bytes, aligned: Alignment, mask: Floats) -> tuple[Floats, Floats]:
    """Light and trust of an aligned object: its whole mask, on the flow frame's grid; see `weigh_scene`."""
    grid = size_of(aligned.mapping)
    placed = np.asarray(sample(prefilter(reference, aligned.scale), aligned.mapping, size_of(reference)), np.float32)
    seen = np.asarray(cv2.resize(generated, grid, interpolation=cv2.INTER_CUBIC), np.float32)
    share = object_in_place(mask, aligned.mapping)
    gain = light(placed, seen, share, 2 * LIGHT_REACH * max(grid))
    return gain, share
