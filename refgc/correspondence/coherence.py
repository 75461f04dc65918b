"""Coherence: which learned matches move like their neighbours, and how unlikely that is by chance.

An object that has turned is no plane, so its matches agree on no homography. Near each other they still move by nearly
the same affine map. The test against chance counts the cells of both pictures in which such matches lie. Counting
matches would not do: a network that matches one spot by mistake matches its neighbours along with it.
"""

import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.match import Matches
from refgc.imaging.arrays import Floats, Size

# The constants of this file were chosen by hand where nothing else is said.
# Neighbours that predict a match, and the largest error of the prediction in pixels of the reference's matching frame.
NEIGHBOURS = 10
TOLERANCE = 16.0
LEAST_MATCHES = 6
ROUNDS = 3
REWEIGHTINGS = 6
# Ridge on the slopes of a local affine map, in squared pixels of the matching frame.
RIDGE = 0.1
# Cells have sides of this share of a matching frame's longer side.
CELL = 1 / 24
# log10 of the probability of so many cells by chance falls by this for each cell.
LOG_CHANCE = -0.2
LOG_CHANCE_PER_CELL = -0.29


def coherent(matches: Matches) -> NDArray[np.bool_]:
    """Which matches (n,) are predicted by the local affine map of their nearest neighbours.

    The map is fitted by iteratively reweighted least squares (Geman and McClure, 1987), without the match itself. What
    is not predicted is no neighbour in the next round.

    Args:
        matches: in the coordinates of the two matching frames.
    """
    keep = np.ones(len(matches), bool)
    for _ in range(ROUNDS):
        index = np.flatnonzero(keep)
        if len(index) < LEAST_MATCHES:
            return np.zeros(len(matches), bool)
        fits = _predicted(matches.generated[index].astype(np.float64), matches.reference[index].astype(np.float64))
        keep = np.zeros(len(matches), bool)
        keep[index[fits]] = True
        if fits.all():
            break
    return keep


def log_chance(matches: Matches, frame: Size, reference_frame: Size) -> float:
    """log10 of the probability that two pictures which share nothing have as many cells of coherent matches.

    Args:
        matches: coherent ones, in the coordinates of the two matching frames.
        frame: (width, height) of the generated picture's matching frame.
        reference_frame: the same of the reference's.
    """
    cells = min(
        count_cells(matches.generated, CELL * max(frame)), count_cells(matches.reference, CELL * max(reference_frame))
    )
    return LOG_CHANCE + LOG_CHANCE_PER_CELL * cells if cells else 0.0


def count_cells(points: Floats, side: float) -> int:
    """How many cells of a grid with cells of `side` hold points (n, 2)."""
    return len(np.unique(np.floor(points / side).astype(np.int64), axis=0)) if len(points) else 0


def _predicted(here: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.bool_]:
    distance = ((here[:, None] - here[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    count = min(NEIGHBOURS, len(here) - 1)
    nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
    offsets = here[nearest] - here[:, None]
    targets = there[nearest] - there[:, None]
    design = np.concatenate([np.ones((*offsets.shape[:2], 1)), offsets], axis=2)
    weight = np.ones(offsets.shape[:2])
    ridge = np.diag([1e-6, RIDGE, RIDGE])
    for _ in range(REWEIGHTINGS):
        weighted = (design * weight[..., None]).transpose(0, 2, 1)
        solution = np.linalg.solve(weighted @ design + ridge, weighted @ targets)
        error = np.linalg.norm(targets - design @ solution, axis=2)
        weight = 1.0 / (1.0 + (error / TOLERANCE) ** 2) ** 2
    slopes = solution[:, 1:]
    area = slopes[:, 0, 0] * slopes[:, 1, 1] - slopes[:, 0, 1] * slopes[:, 1, 0]
    # A mirrored or folded neighbourhood is no view of the same surface.
    agreed = (area > 0) & (weight.sum(axis=1) > count / 2)
    return np.asarray(agreed & (np.linalg.norm(solution[:, 0], axis=1) < TOLERANCE))
