"""Fusion: the placed reference blended into the upscaled picture, strip by strip so that memory stays small."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.correspondence.align import Alignment
from refgc.correspondence.blend_weights import BlendWeights
from refgc.correspondence.exposure import ExposedPair, with_chroma_of
from refgc.correspondence.find import Finding
from refgc.correspondence.harmonize import Light
from refgc.imaging.arrays import Bytes, Floats, Size, enlarge, size_of, smoothstep
from refgc.imaging.levels import Levels
from refgc.imaging.warp import prefilter, rescale_points, sample
from refgc.request import RefineRequest

# Rows that are fused at a time.
STRIP = 256
# Range of the difference in trust over which a later layer replaces the earlier ones, wide enough for no visible seam.
# Chosen by hand, not fitted.
TAKEOVER = (-0.1, 0.1)
# Where the earlier layers are of another reference: the range of the difference as a fraction of the later one's trust.
# Two photos never fit each other to the pixel, and a mixture of both would be a blur, so that the later one has to be
# trusted clearly more. Chosen by hand on photographs of one can; narrower or lower ranges lost up to 0.2 dB there.
REPLACEMENT = (0.25, 0.5)


@dataclass(frozen=True, slots=True)
class Layer:
    """One face of the object, aligned to the region and weighted."""

    alignment: Alignment
    weights: BlendWeights


def fuse_layers(
    request: RefineRequest,
    pair: ExposedPair,
    found: Finding,
    layers: list[Layer],
    fused: Levels,
    aligned: Bytes,
    earlier: Floats | None = None,
) -> Floats:
    """Blend all faces of an object into a picture.

    Args:
        request: the masks, the strength and the scale.
        pair: the pictures.
        found: where the object is.
        layers: the faces, the surest first.
        fused: uint8 or uint16 RGB of the output size, the upscaled picture at first; the object is blended into it.
        aligned: uint8 RGB of the output size, white at first; the placed reference is drawn into it.
        earlier: (height, width) of the output, the trust of other references that are blended in already; they stay
            where this one is not trusted more. None where there are none.

    Returns:
        The trust (height, width) in [0, 1], before the strength, with which each pixel was taken from the reference.
    """
    reference, region, scale = pair.reference, found.region, request.scale
    total_trust = np.zeros(fused.shape[:2], np.float32)
    part, part_aligned = region.of(fused, scale), region.of(aligned, scale)
    part_trust = region.of(total_trust, scale)
    size = size_of(part)
    for position, layer in enumerate(layers):
        trust = enlarge(layer.weights.trust, size)
        if request.generated_mask is not None:
            # The mask is obeyed to the pixel; trust on its coarser grid would reach beyond it.
            marked = np.asarray(region.of(request.generated_mask.values), np.float32)
            trust = np.minimum(trust, cv2.resize(marked, size, interpolation=cv2.INTER_NEAREST))
        shown = np.ones_like(trust)
        if earlier is not None:
            lead = 1.0 - region.of(earlier, scale) / np.maximum(trust, np.float32(1e-6))
            shown = smoothstep(np.asarray(lead, np.float32), *REPLACEMENT)
            trust = trust * shown
        alpha = trust
        if position > 0:
            takeover = smoothstep(np.asarray(trust - part_trust, np.float32), *TAKEOVER)
            alpha, shown = trust * takeover, shown * takeover
        blended, placed = fuse(
            part,
            prefilter(reference, layer.alignment.scale * size_of(layer.alignment.mapping)[0] / size[0]),
            size_of(reference),
            layer.alignment.mapping,
            layer.weights.light.darkened(pair.exposure),
            np.asarray(alpha * request.strength, np.float32),
            luminance_only=pair.luminance_only,
        )
        part[:] = blended
        is_first = position == 0 and earlier is None
        part_aligned[:] = placed if is_first else np.where((shown > 0.5)[..., None], placed, part_aligned)
        np.maximum(part_trust, trust, out=part_trust)
    return total_trust


def fuse(
    upscaled: Levels,
    reference: Bytes,
    frame: Size,
    mapping: Floats,
    light: Light,
    alpha: Floats,
    strip: int = STRIP,
    *,
    luminance_only: bool = False,
) -> tuple[Levels, Bytes]:
    """Blend the harmonised, warped reference over the upscaled picture.

    Args:
        upscaled: uint8 or uint16 RGB of the output size.
        reference: uint8 RGB, prefiltered for the output's sampling.
        frame: (width, height) of the original reference, whose coordinates `mapping` holds.
        mapping: (rows, columns, 2), from any grid over the output's frame into the original reference.
        light: on any such grid.
        alpha: (rows, columns) in [0, 1], on any such grid.
        strip: rows that are worked on at a time; the result does not depend on it.
        luminance_only: whether the colour differences of `upscaled` stay; the reference is grey then.

    Returns:
        The fused picture, of the type of `upscaled`, and the harmonised reference in the output's frame, uint8; both
        RGB of the output size, rounded to the nearest level.
    """
    width, height = size_of(upscaled)
    fused, aligned = np.empty_like(upscaled), np.empty(upscaled.shape, np.uint8)
    # The reference and its light are in levels of 8 bits.
    unit = np.float32(np.iinfo(upscaled.dtype).max / 255)
    for top in range(0, height, strip):
        rows = slice(top, min(top + strip, height))
        placed = np.asarray(sample(reference, _rows_of(mapping, rows, (width, height)), frame), np.float32)
        gain, offset = (_rows_of(field, rows, (width, height)) for field in (light.gain, light.offset))
        placed = Light(gain, offset).applied(placed)
        share = _rows_of(alpha, rows, (width, height))[..., None]
        base = upscaled[rows].astype(np.float32) / unit
        if luminance_only:
            placed = with_chroma_of(base, placed)
        fused[rows] = np.clip(base + share * (placed - base), 0.0, 255.0) * unit + 0.5
        aligned[rows] = placed + 0.5
    return fused, aligned


def _rows_of(field: Floats, rows: slice, size: Size) -> Floats:
    """Some rows of a field that is enlarged to `size`, without enlarging all of it."""
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(rows.start, rows.stop, dtype=np.float32))
    positions = rescale_points(np.dstack([x, y]), size, size_of(field))
    return np.asarray(cv2.remap(field, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
