"""Local rigidity: robust local affine regression of a map.

Between two views a real surface moves almost affinely. The small displacements of a generative model do not.
"""

import cv2
import numpy as np

from refgc.imaging import warp
from refgc.imaging.arrays import Bytes, Floats, shrink, size_of

# The constants of this file were chosen by hand, not fitted.
# Spacing of the nodes in pixels of the flow frame, and the largest number of them along a side.
NODE_SPACING = 4
MAXIMUM_NODES = 160
# Radius in nodes of the neighbourhood of each regression, wide enough to average a generative model's errors.
RADIUS = 28
# Scales of the weights: colour distance in grey levels, and residual of the map in pixels of the flow frame.
COLOUR_SCALE = 30.0
RESIDUAL_SCALE = 0.5
# Weight of a pixel whose flow is not reliable.
MINIMUM_WEIGHT = 1e-3


def regularise(
    mapping: Floats,
    base: Floats,
    reliable: Floats,
    guide: Bytes,
    scale: float,
    radius: int = RADIUS,
    prior: float = 0.0,
    passes: int = 2,
) -> Floats:
    """Replace a map's deviation from a base map by its robust local affine regression.

    Around each node an affine map is fitted to the reliable neighbours of similar colour by iteratively reweighted
    least squares (Geman and McClure, 1987). Depth edges survive, since neighbours beyond them have large residuals.

    Args:
        mapping: (height, width, 2), map into the reference in pixels.
        base: a smooth map of the same shape.
        reliable: (height, width) in [0, 1], weight of each pixel's map.
        guide: uint8 RGB (height, width, 3); the map may have edges where it has.
        scale: reference pixels per pixel of the map's frame.
        radius: radius of the neighbourhood in nodes.
        prior: weight of the base map, in units of one reliable neighbour.
        passes: rounds of reweighting.

    Returns:
        The regularised map, float32 (height, width, 2).
    """
    width, height = size_of(mapping)
    nodes = warp.fitted((width, height), MAXIMUM_NODES, 1.0 / NODE_SPACING)
    pixel_weight = reliable + np.float32(MINIMUM_WEIGHT)
    weight = shrink(pixel_weight, nodes)
    offset = shrink((mapping - base) * pixel_weight[..., None], nodes) / weight[..., None]
    colour = shrink(guide.astype(np.float32), nodes)
    fitted = _local_affine(offset, weight, colour, RESIDUAL_SCALE * max(scale, 1e-3), radius, prior, passes)
    smooth = cv2.resize(fitted, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(base + smooth, np.float32)


def _local_affine(
    offset: Floats, node_weight: Floats, colour: Floats, residual_scale: float, radius: int, prior: float, passes: int
) -> Floats:
    """The regression's value at each node, (height, width, 2)."""
    height, width = node_weight.shape
    reach = min(radius, max(1, min(height, width) - 1))
    # Channels first, since the inner loop runs over whole channels.
    offsets, colours = _padded(offset, reach), _padded(colour, reach)
    weight_padded = np.pad(node_weight, reach)
    here = np.ascontiguousarray(np.moveaxis(colour, 2, 0))
    fitted = np.ascontiguousarray(np.moveaxis(offset, 2, 0))
    slope = np.zeros((2, 2, height, width), np.float32)
    for _ in range(passes):
        moments = np.zeros((6, height, width), np.float32)
        right = np.zeros((3, 2, height, width), np.float32)
        for dy, dx in _disc(reach):
            window = (slice(reach + dy, reach + dy + height), slice(reach + dx, reach + dx + width))
            theirs = offsets[:, window[0], window[1]]
            weight = _neighbour_weight(
                colours[:, window[0], window[1]], here, (dx * dx + dy * dy) / (2 * (reach / 1.7) ** 2)
            )
            weight *= weight_padded[window]
            residual = theirs - fitted - slope[0] * np.float32(dx) - slope[1] * np.float32(dy)
            robust = 1.0 / (1.0 + (residual[0] ** 2 + residual[1] ** 2) * np.float32(1 / residual_scale**2))
            weight *= robust * robust
            weighted = weight * theirs
            for i, term in enumerate((1, dx, dy, dx * dx, dx * dy, dy * dy)):
                if term:
                    moments[i] += weight * np.float32(term)
            for i, term in enumerate((1, dx, dy)):
                if term:
                    right[i] += weighted * np.float32(term)
        solution = _solve(moments, right, prior)
        fitted, slope = solution[0], solution[1:]
    return np.ascontiguousarray(np.moveaxis(fitted, 0, 2))


def _padded(field: Floats, reach: int) -> Floats:
    return np.ascontiguousarray(np.pad(np.moveaxis(field, 2, 0), ((0, 0), (reach, reach), (reach, reach)), mode="edge"))


def _disc(reach: int) -> list[tuple[int, int]]:
    """Offsets (dy, dx) of every second node of a disc; adjacent nodes carry nearly the same information."""
    steps = range(-(reach // 2) * 2, reach + 1, 2)
    return [(dy, dx) for dy in steps for dx in steps if dx * dx + dy * dy <= reach * reach]


def _neighbour_weight(theirs: Floats, here: Floats, distance_term: float) -> Floats:
    """Bilateral weight in [0, 1] of a neighbour by its colour and its distance."""
    difference = theirs - here
    squared = difference[0] ** 2 + difference[1] ** 2 + difference[2] ** 2
    return np.asarray(np.exp(squared * np.float32(-1 / (6 * COLOUR_SCALE**2)) - np.float32(distance_term)), np.float32)


def _solve(moments: Floats, right: Floats, prior: float) -> Floats:
    """The affine maps (3, 2, height, width): value, slope along x and slope along y of both coordinates."""
    one, x, y, xx, xy, yy = moments
    # Ridge regularisation of the slopes, for nodes with few neighbours.
    ridge = np.maximum(one, 1e-6)
    normal = np.stack([one + prior + 1e-4 * ridge, x, y, x, xx + 0.5 * ridge, xy, y, xy, yy + 0.5 * ridge])
    height, width = one.shape
    systems = np.moveaxis(normal, 0, 2).reshape(height, width, 3, 3)
    solution = np.linalg.solve(systems, np.moveaxis(right, (0, 1), (2, 3)))
    return np.ascontiguousarray(np.moveaxis(solution, (2, 3), (0, 1)), np.float32)
