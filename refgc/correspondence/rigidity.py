"""Local rigidity: a real surface moves almost affinely from view to view, the wobble of a generative model does not."""

import cv2
import numpy as np

from refgc.imaging import warp
from refgc.imaging.arrays import Bytes, Floats, shrink, size_of

# Pixels of the flow frame from node to node, at most how many nodes along a side, and how many of them around each
# one take part in its fit: wide enough to average a generative model's wobble away.
NODE_SPACING = 4
MAXIMUM_NODES = 160
RADIUS = 28
# Colour distance (grey levels) and map distance (reference pixels per pixel of the flow frame) that halve a node's say.
COLOUR_SCALE = 30.0
MAP_SCALE = 0.5


def regularise(
    mapping: Floats,
    base: Floats,
    believed: Floats,
    guide: Bytes,
    scale: float,
    radius: int = RADIUS,
    prior: float = 0.0,
    passes: int = 2,
) -> Floats:
    """Replace a map, seen from a base map, by its robust local affine regression.

    Around each node an affinity is fitted to the believed neighbours of similar colour whose map agrees (iteratively
    reweighted least squares, Geman-McClure); depth edges survive because what lies beyond them disagrees.

    Args:
        mapping: (height, width, 2) map into the reference.
        base: a smooth map of the same shape that `mapping` deviates from.
        believed: (height, width) in [0, 1].
        guide: RGB (height, width, 3), whose edges may be edges of the map.
        scale: reference pixels per pixel of the map's frame.
        radius: how many nodes around each one take part in its fit.
        prior: how many believed neighbours' worth of say the base map has everywhere.
        passes: how often the fit is made anew with the neighbours that agreed with the last one.
    """
    width, height = size_of(mapping)
    nodes = warp.fitted((width, height), MAXIMUM_NODES, 1.0 / NODE_SPACING)
    say = shrink(believed + np.float32(1e-3), nodes)
    offset = shrink((mapping - base) * (believed + np.float32(1e-3))[..., None], nodes) / say[..., None]
    colour = shrink(guide.astype(np.float32), nodes)
    fitted = _local_affine(offset, say, colour, MAP_SCALE * max(scale, 1e-3), radius, prior, passes)
    smooth = cv2.resize(fitted, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(base + smooth, np.float32)


def _local_affine(
    offset: Floats, say: Floats, colour: Floats, map_scale: float, radius: int, prior: float, passes: int
) -> Floats:
    height, width = say.shape
    reach = min(radius, max(1, min(height, width) - 1))
    # Planes, because the innermost loops run over them.
    offsets, colours = _padded(offset, reach), _padded(colour, reach)
    say_padded = np.pad(say, reach)
    here = np.ascontiguousarray(np.moveaxis(colour, 2, 0))
    fitted = np.ascontiguousarray(np.moveaxis(offset, 2, 0))
    slope = np.zeros((2, 2, height, width), np.float32)
    for _ in range(passes):
        moments = np.zeros((6, height, width), np.float32)
        right = np.zeros((3, 2, height, width), np.float32)
        for dy, dx in _disc(reach):
            window = (slice(reach + dy, reach + dy + height), slice(reach + dx, reach + dx + width))
            theirs = offsets[:, window[0], window[1]]
            weight = _closeness(colours[:, window[0], window[1]], here, (dx * dx + dy * dy) / (2 * (reach / 1.7) ** 2))
            weight *= say_padded[window]
            missed = theirs - fitted - slope[0] * np.float32(dx) - slope[1] * np.float32(dy)
            agreeing = 1.0 / (1.0 + (missed[0] ** 2 + missed[1] ** 2) * np.float32(1 / map_scale**2))
            weight *= agreeing * agreeing
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
    """Every second node of a disc: neighbours say nearly the same."""
    steps = range(-(reach // 2) * 2, reach + 1, 2)
    return [(dy, dx) for dy in steps for dx in steps if dx * dx + dy * dy <= reach * reach]


def _closeness(theirs: Floats, here: Floats, remoteness: float) -> Floats:
    """Weight in [0, 1] of a neighbour by its colour and its distance."""
    difference = theirs - here
    squared = difference[0] ** 2 + difference[1] ** 2 + difference[2] ** 2
    return np.asarray(np.exp(squared * np.float32(-1 / (6 * COLOUR_SCALE**2)) - np.float32(remoteness)), np.float32)


def _solve(moments: Floats, right: Floats, prior: float) -> Floats:
    """The affinities (3, 2, height, width): value, slope along x and slope along y of both coordinates."""
    one, x, y, xx, xy, yy = moments
    # A little ridge on the slopes keeps a node with few neighbours from tilting.
    ridge = np.maximum(one, 1e-6)
    normal = np.stack([one + prior + 1e-4 * ridge, x, y, x, xx + 0.5 * ridge, xy, y, xy, yy + 0.5 * ridge])
    height, width = one.shape
    systems = np.moveaxis(normal, 0, 2).reshape(height, width, 3, 3)
    solution = np.linalg.solve(systems, np.moveaxis(right, (0, 1), (2, 3)))
    return np.ascontiguousarray(np.moveaxis(solution, (2, 3), (0, 1)), np.float32)
