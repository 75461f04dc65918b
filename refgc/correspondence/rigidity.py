"""Local rigidity: a real surface moves almost affinely from view to view, the wobble of a generative model does not."""

import cv2
import numpy as np

from refgc.correspondence.arrays import Bytes, Floats, shrink, size_of

# Distance of the nodes in pixels of the flow frame, and how many nodes around each one take part in its fit.
NODE_SPACING = 4
RADIUS = 12
# Colour distance (grey levels) and map distance (reference pixels per pixel of the flow frame) that halve a node's say.
COLOUR_SCALE = 30.0
MAP_SCALE = 0.75


def regularise(mapping: Floats, base: Floats, believed: Floats, guide: Bytes, scale: float, passes: int = 2) -> Floats:
    """Replace a map, seen from a base map, by its robust local affine regression.

    Around each node an affinity is fitted to the believed neighbours of similar colour whose map agrees (iteratively
    reweighted least squares, Geman-McClure); depth edges survive because what lies beyond them disagrees.

    Args:
        mapping: (height, width, 2) map into the reference.
        base: a smooth map of the same shape that `mapping` deviates from.
        believed: (height, width) in [0, 1].
        guide: RGB (height, width, 3), whose edges may be edges of the map.
        scale: reference pixels per pixel of the map's frame.
        passes: how often the fit is made anew with the neighbours that agreed with the last one.
    """
    width, height = size_of(mapping)
    nodes = (-(-width // NODE_SPACING), -(-height // NODE_SPACING))
    say = shrink(believed + np.float32(1e-3), nodes)
    offset = shrink((mapping - base) * (believed + np.float32(1e-3))[..., None], nodes) / say[..., None]
    colour = shrink(guide.astype(np.float32), nodes)
    fitted = _local_affine(offset, say, colour, MAP_SCALE * max(scale, 1e-3), passes)
    smooth = cv2.resize(fitted, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(base + smooth, np.float32)


def _local_affine(offset: Floats, say: Floats, colour: Floats, map_scale: float, passes: int) -> Floats:
    height, width = say.shape
    reach = min(RADIUS, max(1, min(height, width) - 1))
    pad = ((reach, reach), (reach, reach))
    say_padded = np.pad(say, pad)
    colour_padded = np.pad(colour, (*pad, (0, 0)), mode="edge")
    offset_padded = np.pad(offset, (*pad, (0, 0)), mode="edge")
    fitted, slope = offset, np.zeros((height, width, 2, 2), np.float32)
    for _ in range(passes):
        normal = np.zeros((height, width, 3, 3), np.float32)
        right = np.zeros((height, width, 3, 2), np.float32)
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                near = dx * dx + dy * dy
                if near > reach * reach:
                    continue
                window = (slice(reach + dy, reach + dy + height), slice(reach + dx, reach + dx + width))
                theirs = offset_padded[window]
                off_colour = ((colour_padded[window] - colour) ** 2).sum(axis=2)
                off_map = ((theirs - fitted - slope[..., 0, :] * dx - slope[..., 1, :] * dy) ** 2).sum(axis=2)
                weight = say_padded[window] * np.exp(
                    -near / (2 * (reach / 1.7) ** 2) - off_colour / (6 * COLOUR_SCALE**2), dtype=np.float32
                )
                weight /= (1.0 + off_map / map_scale**2) ** 2
                terms = (1.0, float(dx), float(dy))
                for i in range(3):
                    for j in range(i, 3):
                        normal[..., i, j] += weight * (terms[i] * terms[j])
                    right[..., i, :] += (weight * terms[i])[..., None] * theirs
        for i in range(1, 3):
            for j in range(i):
                normal[..., i, j] = normal[..., j, i]
        # A little ridge on the slopes keeps a node with few neighbours from tilting.
        strength = np.maximum(normal[..., 0, 0], 1e-6)[..., None]
        normal[..., (0, 1, 2), (0, 1, 2)] += strength * np.float32([1e-4, 0.5, 0.5])
        solution = np.linalg.solve(normal, right).astype(np.float32)
        fitted, slope = solution[..., 0, :], solution[..., 1:, :]
    return fitted
