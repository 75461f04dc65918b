"""Pastes the refined window into the upscaled picture: its colours are corrected, and it is blended without a seam."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, blur, resized, shrink, size_of, smoothstep
from refgc.imaging.image import MARKED
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted, pixel_grid
from refgc.model.locate import Windows, content_area

# The model also redraws edge and shadow around the object. The blend reaches this far beyond the object's outline and
# then fades over this distance, both as shares of the square root of the object's area. Chosen by hand, not fitted.
GROWTH = 0.03
FADE = 0.05
# The blend reaches at least this many pixels of the generated picture: an enlarged edge is blurred that far, and would
# be left as a rim. Chosen by hand, not fitted.
LEAST_REACH = 2.0
# Range of trust over which pixels stay as they are. Chosen by hand, not fitted.
SURE = (0.6, 0.9)
# Where the window ends inside the picture, the blend fades over this share of its shorter side. Chosen by hand, not
# fitted.
RIM = 0.06
# Cells along the longer side of two coarse grids: that of the blend and that of the smooth colour shift.
SHARE_SIDE = 1024
SHIFT_SIDE = 96
# Scale of Cauchy's weight, in grey levels: a larger difference hardly counts as a shift of colour. Chosen by hand, not
# fitted.
SHIFT_TOLERANCE = 12.0
# Standard deviations of the Gaussians that refine the shift, as shares of the longer side, from wide, which reaches
# under the object, to narrow, which follows the seam. Chosen by hand, not fitted.
SHIFT_REACHES = (0.2, 0.1, 0.05, 0.025, 0.015)
# Weight of the prior that there is no shift, in cells. Chosen by hand, not fitted.
PRIOR_CELLS = 2.0
# Output rows that are blended at a time, to limit memory.
STRIP = 256


def put_back(
    upscaled: Bytes,
    refined: Bytes,
    windows: Windows,
    scale: int,
    strength: float,
    *,
    trust: Floats | None = None,
) -> tuple[Bytes, Floats]:
    """Lay the refined window over the upscaled generated picture.

    A diffusion model shifts the colours of the whole picture a little. The shift is measured as a smooth field where
    both pictures show the same: beside the object or, where no object is known, along the window's border. The field is
    subtracted everywhere, so that the object keeps its colours relative to its surroundings.

    Args:
        upscaled: uint8 RGB of the output, `scale` times the generated picture.
        refined: uint8 RGB of `windows.working_size`, the generated window as the model refined it.
        windows: as located.
        scale: output size over generated size.
        strength: from 0, exactly `upscaled`, to 1.
        trust: (height, width) of the output in [0, 1], how sure it is that a pixel of `upscaled` is right. Where it is
            high the pixel stays, and the redrawn ones around it take on its colours; None where nothing is known.

    Returns:
        The output, uint8 RGB, outside the window that of `upscaled` bit for bit; and the share of each of its pixels
        that was taken from `refined`, float32 (height, width) in [0, 1].
    """
    window = Region(*windows.generated_window)
    picture, taken = upscaled.copy(), np.zeros(upscaled.shape[:2], np.float32)
    part, part_taken = np.asarray(window.of(picture, scale), np.uint8), window.of(taken, scale)
    size = size_of(part)
    content = np.asarray(content_area(windows.generated_window, windows.working_size).of(refined), np.uint8)
    grid = fitted(size, SHARE_SIDE)
    ends_inside = (
        window.left > 0,
        window.top > 0,
        window.right * scale < upscaled.shape[1],
        window.bottom * scale < upscaled.shape[0],
    )
    share = _faded_in(grid, RIM, ends_inside)
    if windows.generated_mask is None:
        unchanged = 1.0 - _faded_in(grid, 2 * RIM, (True, True, True, True))
    else:
        around = _around_object(np.asarray(window.of(windows.generated_mask), np.float32), grid)
        share, unchanged = share * around, 1.0 - around
    if trust is not None:
        kept = smoothstep(shrink(np.asarray(window.of(trust, scale), np.float32), grid), *SURE)
        share, unchanged = share * (1.0 - kept), np.maximum(unchanged, kept)
    shift = _colour_shift(content, part, np.asarray(unchanged, np.float32))
    share *= np.float32(strength)
    enlarged = resized(content, size)
    for top in range(0, size[1], STRIP):
        rows = slice(top, min(top + STRIP, size[1]))
        base = part[rows].astype(np.float32)
        fresh = np.clip(enlarged[rows] - _strip(shift, rows, size), 0.0, 255.0)
        part_taken[rows] = _strip(share, rows, size)
        part[rows] = base + part_taken[rows][..., None] * (fresh - base) + 0.5
    return picture, taken


def _faded_in(grid: Size, reach: float, sides: tuple[bool, bool, bool, bool]) -> Floats:
    """1 inside of a grid (width, height), falling to 0 toward the marked sides: left, top, right, bottom."""
    width, height = grid
    fade = max(1.0, reach * min(grid))
    across, down = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5
    left, top, right, bottom = (
        smoothstep(np.asarray(distance, np.float32), 0.0, fade) if side else np.ones_like(distance)
        for distance, side in zip((across, down, width - across, height - down), sides, strict=True)
    )
    return np.asarray(np.outer(top * bottom, left * right), np.float32)


def _around_object(mask: Floats, grid: Size) -> Floats:
    """1 on the object of a mask in generated pixels and a little around it, fading to 0, on a grid (width, height)."""
    cells = grid[0] / mask.shape[1]
    side = float(np.sqrt(np.count_nonzero(mask >= MARKED)))
    growth, fade = (cells * max(LEAST_REACH, share * side) for share in (GROWTH, FADE))
    outside = (shrink(mask, grid) < MARKED).astype(np.uint8)
    distance = np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    return smoothstep(distance, growth + fade, growth)


def _colour_shift(refined: Bytes, upscaled: Bytes, unchanged: Floats) -> Floats:
    """How much lighter each channel of `refined` is than in `upscaled`, (h, w, 3) in grey levels on a coarse grid.

    First a plane is fitted by iteratively reweighted least squares. Its residual is then interpolated by normalised
    convolution (Knutsson and Westin, 1993), from wide to narrow Gaussians: near reliable cells the field follows them,
    and between them it stays smooth.

    Args:
        refined: uint8 RGB of the window, of any size.
        upscaled: the same window with the colours to keep.
        unchanged: (height, width) in [0, 1] on any grid: 1 where both show the same.
    """
    grid = fitted(size_of(upscaled), SHIFT_SIDE)
    difference = resized(refined, grid).astype(np.float32) - resized(upscaled, grid)
    reliable = shrink(unchanged, grid)[..., None]
    known = difference[reliable[..., 0] > 0.5]
    shift = np.zeros_like(difference)
    if len(known):
        shift += np.median(known, axis=0)
    positions = 2.0 * (pixel_grid(grid) + np.float32(0.5)) / np.array(grid, np.float32) - 1.0
    basis = np.dstack([np.ones(grid[::-1], np.float32), positions]).reshape(-1, 3)
    for _ in range(5):
        weight = reliable * _cauchy_weight(difference - shift)
        weighted = basis * weight.reshape(-1, 1)
        plane = np.linalg.solve(weighted.T @ basis + PRIOR_CELLS * np.eye(3), weighted.T @ difference.reshape(-1, 3))
        shift = np.asarray((basis @ plane).reshape(difference.shape), np.float32)
    for reach in SHIFT_REACHES:
        sigma = reach * max(grid)
        residual = difference - shift
        weight = reliable * _cauchy_weight(residual)
        few = PRIOR_CELLS / (2.0 * np.pi * sigma**2)
        shift += blur(weight * residual, sigma) / (blur(weight, sigma)[..., None] + few)
    return shift


def _cauchy_weight(residual: Floats) -> Floats:
    """Cauchy's weight (h, w, 1) of each cell by the residual (h, w, 3) of its difference."""
    squares = (residual**2).mean(axis=2, keepdims=True)
    return np.asarray(1.0 / (1.0 + squares / SHIFT_TOLERANCE**2), np.float32)


def _strip(field: Floats, rows: slice, size: Size) -> Floats:
    """Some rows of a field that is enlarged to `size`."""
    across, down = field.shape[1] / size[0], field.shape[0] / size[1]
    back = np.array([[across, 0.0, 0.5 * across - 0.5], [0.0, down, (rows.start + 0.5) * down - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    target = (size[0], rows.stop - rows.start)
    return np.asarray(cv2.warpAffine(field, back, target, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)
