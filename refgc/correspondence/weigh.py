"""Weighing: the light the placed reference must take on, and how far each spot of it may be trusted."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.correspondence import segment
from refgc.correspondence.align import LIGHT_REACH, Alignment, object_in_place
from refgc.correspondence.arrays import Bytes, Floats, blur, resized, shrink, size_of, smoothstep
from refgc.correspondence.harmonize import light
from refgc.correspondence.trust import Evidence, agreement, bending, judge, likeness
from refgc.correspondence.warp import fitted, inside, prefilter, sample

# The placed object is all of the one in the picture, from not at all to surely, by the share of the found outline that
# it covers (what it leaves would stand beside it) and by the share of it that the outline keeps; or, where colours give
# no good outline, by the share of it where the flow agrees.
COVERED = (0.95, 0.96)
KEPT = (0.84, 0.87)
AGREED = (0.9, 0.95)
# How far an outline found in a soft picture may be off, in pixels of the flow frame.
OUTLINE_SLACK = 4
# Agreement from which a face of an object counts, and from which it counts fully: half of it would be a ghost.
AGREEING = (0.5, 0.8)
# Likeness of a face's print from which it may count: print set beside itself would read double.
ALIKE = (0.2, 0.5)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Weighing:
    """What the placed reference must take on, and how far it is to be trusted; each field on a grid of its own.

    Attributes:
        gain: (h, w, 3), the light.
        trust: (h, w) in [0, 1].
        outline: (h, w) in [0, 1], the object in the generated picture.
        is_whole: whether the placed object fills that outline.
    """

    gain: Floats
    trust: Floats
    outline: Floats
    is_whole: bool


def weigh_scene(generated: Bytes, reference: Bytes, aligned: Alignment) -> Weighing:
    """Light and trust of an aligned scene, on a grid of half the flow frame."""
    everywhere = np.ones(aligned.mapping.shape[:2], np.float32)
    return Weighing(
        *_weigh(generated, reference, aligned, everywhere, LIGHT_REACH, geometry_alone=True), everywhere, is_whole=True
    )


def weigh_object(
    generated: Bytes,
    reference: Bytes,
    aligned: Alignment,
    mask: Floats,
    generated_mask: Floats | None,
    *,
    may_be_whole: bool,
) -> Weighing:
    """Light and trust of an aligned object, trust on the flow frame's grid; see `weigh_scene`.

    Where the placed object fills the outline it has in the generated picture, or the flow agrees nearly all over it, it
    is seen from the same side, and all of it is trusted. Where it does not (a turned bottle, a box that shows another
    face), each spot must agree by itself, and nothing reaches beyond the generated object's outline.

    Args:
        generated: RGB of the generated picture's region around the object.
        reference: RGB of the original reference.
        aligned: the alignment of the two.
        mask: the object in the reference, (height, width).
        generated_mask: the object in `generated`, same size, or None to find it.
        may_be_whole: whether the outline may speak for all of the object, not just for one face of it.
    """
    size = size_of(aligned.mapping)
    placed = object_in_place(mask, aligned.mapping)
    if generated_mask is None:
        outline = segment.object_at(resized(generated, size), placed, aligned.believed)
    else:
        outline = shrink(generated_mask, size)
    gain, agreeing = _weigh(generated, reference, aligned, placed, 2 * LIGHT_REACH, geometry_alone=False)
    agreeing = smoothstep(np.asarray(cv2.resize(agreeing, size, interpolation=cv2.INTER_LINEAR), np.float32), *AGREEING)
    core = segment.without_thin_parts(placed)
    whole = core * _fills(placed, core, outline, aligned.believed) if may_be_whole else np.zeros_like(core)
    whole = whole * segment.away_from_leftovers(placed, outline)
    if generated_mask is None:
        outline = np.maximum(segment.widened(outline, OUTLINE_SLACK), whole)
    trust = np.asarray(np.maximum(agreeing, whole) * placed * outline, np.float32)
    return Weighing(gain, trust, outline, is_whole=bool((whole[core > 0.5] > 0.5).any()))


def _fills(placed: Floats, core: Floats, outline: Floats, believed: Floats) -> float:
    """How sure it is, in [0, 1], that the placed object is all of the one in the picture, seen from the same side."""
    covered = np.array(segment.share_within(outline, placed), np.float32)
    kept = np.array(segment.share_within(core, outline), np.float32)
    agreed = np.array(segment.share_within(core, believed), np.float32)
    same_outline = min(float(smoothstep(covered, *COVERED)), float(smoothstep(kept, *KEPT)))
    return max(same_outline, float(smoothstep(agreed, *AGREED)))


def _weigh(
    generated: Bytes, reference: Bytes, aligned: Alignment, share: Floats, reach: float, *, geometry_alone: bool
) -> tuple[Floats, Floats]:
    grid = fitted(size_of(aligned.mapping), 1e9, 0.5)
    placed = sample(prefilter(reference, aligned.scale), aligned.mapping, size_of(reference))
    placed = shrink(np.asarray(placed, np.float32), grid)
    seen = shrink(generated.astype(np.float32), grid)
    believed = shrink(aligned.believed, grid)
    said = believed if geometry_alone else shrink(share, grid)
    gain = light(placed, seen, said + np.float32(1e-3), reach * max(grid))
    cell = 2.0 * aligned.scale
    strayed = np.linalg.norm(aligned.flow - aligned.mapping, axis=2).clip(0, 10 * cell).astype(np.float32)
    evidence = Evidence(
        disagreement=np.abs(np.clip(placed * gain, 0, 255) - seen).mean(axis=2),
        believed=believed,
        deviation=shrink(strayed, grid) / np.float32(cell),
        bending=bending(shrink(aligned.mapping, grid) / np.float32(cell)),
    )
    if geometry_alone:
        judged = judge(evidence)
    else:
        alike = likeness(np.asarray(placed @ LUMA, np.float32), np.asarray(seen @ LUMA, np.float32))
        judged = agreement(evidence) * smoothstep(alike, *ALIKE)
    return gain, blur(judged, 1.0) * shrink(inside(aligned.mapping, size_of(reference)), grid)
