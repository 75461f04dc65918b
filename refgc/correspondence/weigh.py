"""Weighing: the light the placed reference must take on, and how far each spot of it may be trusted."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.correspondence import segment
from refgc.correspondence.align import LIGHT_REACH, Alignment, object_in_place
from refgc.correspondence.cutout import outline_near
from refgc.correspondence.harmonize import light
from refgc.correspondence.trust import Evidence, agreement, bending, judge, likeness
from refgc.imaging.arrays import Bytes, Floats, Size, blur, resized, shrink, size_of, smoothstep
from refgc.imaging.warp import fitted, inside, prefilter, sample

# The placed object is all of the one in the picture if it covers this share of the outline, or of both outlines that
# are found in two ways (what it leaves would stand beside it), if the outline keeps this share of it, and if so much of
# it looks alike: a deep object seen from another side may fill its outline with its parts elsewhere. Or, where colours
# give no good outline, if the flow agrees on so much of it. There is nothing between all and not all: half of an object
# laid over another is a ghost.
COVERED = 0.965
KEPT = 0.855
SAME_LOOK = 0.88
AGREED = 0.925
# Reach of an object's light, as a share of its region's longer side: folds and glosses are smaller than the object.
OBJECT_LIGHT_REACH = 0.03
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
    gain, evidence, _ = _weigh(generated, reference, aligned, None, LIGHT_REACH)
    return Weighing(gain, _within_reference(judge(evidence), reference, aligned), everywhere, is_whole=True)


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
        picture: Bytes | None = resized(generated, size)
        outline = segment.object_at(resized(generated, size), placed, aligned.believed)
    else:
        picture, outline = None, shrink(generated_mask, size)
    gain, evidence, alike = _weigh(generated, reference, aligned, placed, OBJECT_LIGHT_REACH)
    judged = agreement(evidence) * smoothstep(alike, *ALIKE)
    agreeing = smoothstep(_enlarged(_within_reference(judged, reference, aligned), size), *AGREEING)
    alike = _enlarged(alike, size)
    whole = np.zeros_like(placed)
    if may_be_whole and _fills(placed, outline, aligned.believed, alike, picture):
        whole = segment.without_thin_parts(placed) * segment.away_from_leftovers(placed, outline)
    if generated_mask is None:
        outline = np.maximum(segment.widened(outline, OUTLINE_SLACK), whole)
    trust = np.asarray(np.maximum(agreeing, whole) * placed * outline, np.float32)
    return Weighing(gain, trust, outline, is_whole=bool((whole > 0.5).any()))


def _fills(placed: Floats, outline: Floats, believed: Floats, alike: Floats, picture: Bytes | None) -> bool:
    """Whether the placed object is all of the one in the picture, seen from the same side.

    `picture` is given where the outline was found in it, and may have been found wrong.
    """
    core = segment.without_thin_parts(placed)
    same_outline = (
        segment.share_within(outline, placed) >= COVERED
        and segment.share_within(core, outline) >= KEPT
        and segment.share_within(core, (alike > ALIKE[0]).astype(np.float32)) >= SAME_LOOK
        and (picture is None or segment.share_within(outline_near(picture, placed), placed) >= COVERED)
    )
    return same_outline or segment.share_within(core, believed) >= AGREED


def _weigh(
    generated: Bytes, reference: Bytes, aligned: Alignment, share: Floats | None, reach: float
) -> tuple[Floats, Evidence, Floats]:
    """Light, evidence and likeness on a grid of half the flow frame.

    The light is learned from what `share` marks, or where that is None from where the flow is believed.
    """
    grid = fitted(size_of(aligned.mapping), 1e9, 0.5)
    placed = sample(prefilter(reference, aligned.scale), aligned.mapping, size_of(reference))
    placed = shrink(np.asarray(placed, np.float32), grid)
    seen = shrink(generated.astype(np.float32), grid)
    believed = shrink(aligned.believed, grid)
    said = believed if share is None else shrink(share, grid)
    gain = light(placed, seen, said + np.float32(1e-3), reach * max(grid))
    cell = 2.0 * aligned.scale
    strayed = np.linalg.norm(aligned.flow - aligned.mapping, axis=2).clip(0, 10 * cell).astype(np.float32)
    evidence = Evidence(
        disagreement=np.abs(np.clip(placed * gain, 0, 255) - seen).mean(axis=2),
        believed=believed,
        deviation=shrink(strayed, grid) / np.float32(cell),
        bending=bending(shrink(aligned.mapping, grid) / np.float32(cell)),
    )
    return gain, evidence, likeness(np.asarray(placed @ LUMA, np.float32), np.asarray(seen @ LUMA, np.float32))


def _within_reference(judged: Floats, reference: Bytes, aligned: Alignment) -> Floats:
    return blur(judged, 1.0) * shrink(inside(aligned.mapping, size_of(reference)), size_of(judged))


def _enlarged(field: Floats, size: Size) -> Floats:
    return np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR), np.float32)
