"""Fusion: the reference's pixels into the upscale, strip by strip so that memory stays small at any size."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, size_of
from refgc.imaging.warp import rescale_points, sample

STRIP = 256


def fuse(
    upscaled: Bytes, reference: Bytes, frame: Size, mapping: Floats, gain: Floats, trust: Floats
) -> tuple[Bytes, Bytes]:
    """Blend the harmonised, placed reference over the upscale.

    Args:
        upscaled: RGB of the output size.
        reference: RGB, prefiltered for the output's sampling.
        frame: size of the original reference, whose coordinates `mapping` holds.
        mapping: (h, w, 2) on any grid over the output's frame, into the original reference.
        gain: (h, w, 3) on any such grid.
        trust: (h, w) in [0, 1] on any such grid.

    Returns:
        The fused picture, and the harmonised reference in the output's frame; both RGB of the output size.
    """
    width, height = size_of(upscaled)
    fused, aligned = np.empty_like(upscaled), np.empty_like(upscaled)
    for top in range(0, height, STRIP):
        rows = slice(top, min(top + STRIP, height))
        strip_map = _strip(mapping, rows, (width, height))
        placed = np.asarray(sample(reference, strip_map, frame), np.float32)
        placed = np.clip(placed * _strip(gain, rows, (width, height)), 0.0, 255.0)
        share = _strip(trust, rows, (width, height))[..., None]
        base = upscaled[rows].astype(np.float32)
        fused[rows] = np.clip(base + share * (placed - base), 0.0, 255.0) + 0.5
        aligned[rows] = placed + 0.5
    return fused, aligned


def _strip(field: Floats, rows: slice, size: Size) -> Floats:
    """Rows of a field as they are when it is enlarged to `size`."""
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(rows.start, rows.stop, dtype=np.float32))
    positions = rescale_points(np.dstack([x, y]), size, size_of(field))
    return np.asarray(cv2.remap(field, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
