"""Blend weights: the light that the placed reference takes on, and the trust with which each pixel of it is used."""

from dataclasses import dataclass

import numpy as np

from refgc.correspondence import segment
from refgc.correspondence.align import GAIN_SIGMA, Alignment, warp_mask
from refgc.correspondence.harmonize import Light, estimate_light
from refgc.correspondence.trust import Evidence, agreement_trust, bending, estimate_trust, local_correlation
from refgc.imaging.arrays import Bytes, Floats, blur, enlarge, resized, shrink, size_of, smoothstep
from refgc.imaging.warp import fitted, inside, prefilter, sample

# The constants of this file were chosen by hand, not fitted.
# The placed object is taken as the whole of the object in the picture if it covers at least this fraction of the
# picture's outline, and of a second outline where both were estimated; if the outline covers at least this fraction of
# its core; and if at least this fraction of the core looks alike. The last one is needed because a deep object seen
# from another side may fill its outline with its parts in other places.
OUTLINE_COVERED = 0.965
CORE_INSIDE = 0.855
CORE_ALIKE = 0.88
# Or, where colours give no good outline, if the flow is reliable on at least this fraction of the core. There is
# nothing between the whole object and none of it: half of an object over another is a ghost.
CORE_RELIABLE = 0.925
# Standard deviation of the gain's window for an object, as a fraction of its region's longer side: folds and highlights
# are smaller than the object.
OBJECT_GAIN_SIGMA = 0.03
# Error in pixels of the flow frame of an outline that was found in a soft picture.
OUTLINE_ERROR = 4
# Range of agreement over which a face of an object goes from unused to fully used; a wider one would leave ghosts.
AGREEMENT_RANGE = (0.5, 0.8)
# Range of local correlation over which a face may be used; misplaced print would be seen double.
CORRELATION_RANGE = (0.2, 0.5)
# ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class BlendWeights:
    """Light and trust of an aligned reference; each field has a grid of its own over the same region.

    Attributes:
        light: the change of light.
        trust: (rows, columns) in [0, 1].
        outline: (rows, columns) in [0, 1], the object in the generated picture.
        is_whole: whether the placed object is the whole of it.
    """

    light: Light
    trust: Floats
    outline: Floats
    is_whole: bool


def scene_weights(generated: Bytes, reference: Bytes, aligned: Alignment) -> BlendWeights:
    """Light and trust of an aligned scene, on a grid of half the flow frame.

    Args:
        generated: uint8 RGB of the generated picture.
        reference: uint8 RGB of the original reference.
        aligned: the alignment of the two.
    """
    everywhere = np.ones(aligned.mapping.shape[:2], np.float32)
    light, evidence, _ = _gather_evidence(generated, reference, aligned, None, GAIN_SIGMA)
    trust = _inside_reference(estimate_trust(evidence), reference, aligned)
    return BlendWeights(light, trust, everywhere, is_whole=True)


def object_weights(
    generated: Bytes,
    reference: Bytes,
    aligned: Alignment,
    mask: Floats,
    generated_mask: Floats | None,
    *,
    may_be_whole: bool,
) -> BlendWeights:
    """Light and trust of an aligned object; the trust is on the flow frame's grid.

    If the placed object fills the outline that it has in the generated picture, or the flow is reliable nearly all over
    it, then it is seen from the same side and is trusted as a whole. If not (a turned bottle, a box that shows another
    face), each pixel must agree by itself, and nothing reaches beyond the generated object's outline.

    Args:
        generated: uint8 RGB of the generated picture's region around the object.
        reference: uint8 RGB of the original reference.
        aligned: the alignment of the two.
        mask: the object in the reference, (height, width) in [0, 1].
        generated_mask: the object in `generated`, of the same size, or None to estimate it.
        may_be_whole: whether this may be the whole object and not just one face of it.
    """
    size = size_of(aligned.mapping)
    placed = warp_mask(mask, aligned.mapping)
    if generated_mask is None:
        picture: Bytes | None = resized(generated, size)
        outline = segment.object_at_placement(resized(generated, size), placed, aligned.reliable)
    else:
        picture, outline = None, shrink(generated_mask, size)
    light, evidence, correlation = _gather_evidence(generated, reference, aligned, placed, OBJECT_GAIN_SIGMA)
    agreement = agreement_trust(evidence) * smoothstep(correlation, *CORRELATION_RANGE)
    used = smoothstep(enlarge(_inside_reference(agreement, reference, aligned), size), *AGREEMENT_RANGE)
    correlation = enlarge(correlation, size)
    whole = np.zeros_like(placed)
    if may_be_whole and _is_whole(placed, outline, aligned.reliable, correlation, picture):
        whole = segment.remove_thin_parts(placed) * segment.suppress_near_uncovered(placed, outline)
    if generated_mask is None:
        outline = np.maximum(segment.dilate_softly(outline, OUTLINE_ERROR), whole)
    trust = np.asarray(np.maximum(used, whole) * placed * outline, np.float32)
    return BlendWeights(light, trust, outline, is_whole=bool((whole > 0.5).any()))


def _is_whole(placed: Floats, outline: Floats, reliable: Floats, correlation: Floats, picture: Bytes | None) -> bool:
    """Whether the placed object is the whole object in the picture, seen from the same side.

    `picture` is given where the outline was estimated, so that a second estimate can confirm it.
    """
    core = segment.remove_thin_parts(placed)
    same_outline = (
        segment.fraction_inside(outline, placed) >= OUTLINE_COVERED
        and segment.fraction_inside(core, outline) >= CORE_INSIDE
        and segment.fraction_inside(core, (correlation > CORRELATION_RANGE[0]).astype(np.float32)) >= CORE_ALIKE
        and (
            picture is None
            or segment.fraction_inside(segment.refine_outline(picture, placed), placed) >= OUTLINE_COVERED
        )
    )
    return same_outline or segment.fraction_inside(core, reliable) >= CORE_RELIABLE


def _gather_evidence(
    generated: Bytes, reference: Bytes, aligned: Alignment, alpha: Floats | None, gain_sigma: float
) -> tuple[Light, Evidence, Floats]:
    """Light, evidence and local correlation on a grid of half the flow frame.

    The light is learned where `alpha` is above 0, or where that is None from the pixels with reliable flow.
    """
    grid = fitted(size_of(aligned.mapping), 1e9, 0.5)
    placed = sample(prefilter(reference, aligned.scale), aligned.mapping, size_of(reference))
    placed = shrink(np.asarray(placed, np.float32), grid)
    seen = shrink(generated.astype(np.float32), grid)
    reliable = shrink(aligned.reliable, grid)
    weight = reliable if alpha is None else shrink(alpha, grid)
    light = estimate_light(placed, seen, weight + np.float32(1e-3), gain_sigma * max(grid))
    cell = 2.0 * aligned.scale
    deviation = np.linalg.norm(aligned.flow - aligned.mapping, axis=2).clip(0, 10 * cell).astype(np.float32)
    evidence = Evidence(
        disagreement=np.abs(light.applied(placed) - seen).mean(axis=2),
        reliable=reliable,
        deviation=shrink(deviation, grid) / np.float32(cell),
        bending=bending(shrink(aligned.mapping, grid) / np.float32(cell)),
    )
    greys = (np.asarray(colours @ LUMA, np.float32) for colours in (placed, seen))
    return light, evidence, local_correlation(*greys)


def _inside_reference(trust: Floats, reference: Bytes, aligned: Alignment) -> Floats:
    """Trust smoothed, and 0 where the map points outside of the reference."""
    return blur(trust, 1.0) * shrink(inside(aligned.mapping, size_of(reference)), size_of(trust))
