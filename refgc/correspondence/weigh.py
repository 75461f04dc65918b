"""Weighing: the light the placed reference must take on, and how far each spot of it may be trusted."""

import cv2
import numpy as np

from refgc.correspondence.align import LIGHT_REACH, Alignment, object_in_place
from refgc.correspondence.arrays import Bytes, Floats, blur, shrink, size_of
from refgc.correspondence.harmonize import light
from refgc.correspondence.trust import gather, judge
from refgc.correspondence.warp import fitted, inside, prefilter, resize_field, sample


def weigh_scene(generated: Bytes, reference: Bytes, aligned: Alignment) -> tuple[Floats, Floats, Floats]:
    """Light and trust of an aligned scene, on a grid of half the flow frame.

    Returns:
        gain (h, w, 3), veil (3,) in grey levels, trust (h, w) in [0, 1].
    """
    grid = fitted(size_of(aligned.mapping), 1e9, 0.5)
    placed, detail = _placed_with_detail(reference, aligned)
    seen = shrink(generated.astype(np.float32), grid)
    believed = shrink(aligned.believed, grid)
    gain, veil = light(placed, seen, np.asarray(believed + 1e-3, np.float32), LIGHT_REACH * max(grid))
    strayed = np.linalg.norm(aligned.flow - aligned.mapping, axis=2).clip(0, 20 * aligned.scale).astype(np.float32)
    evidence = gather(
        placed=np.asarray(np.clip(placed * gain + veil, 0, 255), np.float32),
        generated=seen,
        detail=detail,
        believed=believed,
        mapping=np.asarray(shrink(aligned.mapping, grid) / (2 * aligned.scale), np.float32),
        deviation=np.asarray(shrink(strayed, grid) / (2 * aligned.scale), np.float32),
    )
    trust = blur(judge(evidence), 1.0) * shrink(inside(aligned.mapping, size_of(reference)), grid)
    return gain, veil, trust


def weigh_object(generated: Bytes, reference: Bytes, aligned: Alignment, mask: Floats) -> tuple[Floats, Floats, Floats]:
    """Light and trust of an aligned object: its whole mask, on the flow frame's grid; see `weigh_scene`."""
    grid = size_of(aligned.mapping)
    placed = np.asarray(sample(prefilter(reference, aligned.scale), aligned.mapping, size_of(reference)), np.float32)
    seen = np.asarray(cv2.resize(generated, grid, interpolation=cv2.INTER_CUBIC), np.float32)
    share = object_in_place(mask, aligned.mapping)
    gain, veil = light(placed, seen, share, 2 * LIGHT_REACH * max(grid))
    return gain, veil, share


def _placed_with_detail(reference: Bytes, aligned: Alignment) -> tuple[Floats, Floats]:
    """The placed reference on the trust grid, and the standard deviation of the detail it loses there."""
    size = size_of(aligned.mapping)
    grid = fitted(size, 1e9, 0.5)
    finer = resize_field(aligned.mapping, fitted(size, 1e9, 2.0))
    fine = np.asarray(sample(prefilter(reference, aligned.scale / 2), finer, size_of(reference)), np.float32)
    lost = ((fine - blur(fine, 2.0)) ** 2).mean(axis=2).astype(np.float32)
    return shrink(fine, grid), np.sqrt(shrink(lost, grid))
