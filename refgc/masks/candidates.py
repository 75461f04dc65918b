"""Regions of a scene that might be the object meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from refgc.imaging.arrays import blur
from refgc.masks import shapes
from refgc.masks.graph_cut import Bools
from refgc.masks.prompt import Box
from refgc.masks.scene import DAMS, Scene, off_centre

# The flood starts at the border of the picture, and of windows of these shares around the marks, for where the picture
# is full of things.
WINDOWS = (0.6, 0.36)
# Bridges between things are thinner than twice this share of the window's side.
BRIDGES = (0.0, 0.012, 0.03, 0.06)
# Colour differences to the marked place that still are the same thing.
ALIKE = (8.0, 12.0, 18.0, 26.0, 36.0)
# Share of the picture that an object covers where it was marked, of its box, and where nothing was marked.
LEAST_SHARE, MOST_SHARE = 0.0015, 0.85
LEAST_OF_BOX = 0.1
LEAST_PROMINENT, MOST_PROMINENT = 0.01, 0.6
# What a picture shows is nearer to its middle.
OFF_CENTRE = 0.3
# Regions that overlap more are the same.
SAME = 0.85


def around_marks(scene: Scene, seed: Bools, springs: Bools | None = None) -> list[Bools]:
    """Regions with something of the seed, sheltered from floods from the border and from springs."""
    return _distinct(region for region in _sheltered(scene, seed, springs) if _fits(region))


def of_one_colour(scene: Scene, seed: Bools) -> list[Bools]:
    """Regions with the seed's colours, and with their holes."""
    return _distinct(region for region in _alike(scene, seed) if _fits(region))


def within(scene: Scene, box: Box) -> list[Bools]:
    """The box, and the largest of what a flood from its border does not reach."""
    left, top, right, bottom = box
    here = np.s_[top:bottom, left:right]
    regions = [np.zeros(scene.steepness.shape, np.bool_)]
    regions[0][here] = True
    least = LEAST_OF_BOX * np.count_nonzero(regions[0])
    for dam in DAMS:
        dry = np.zeros_like(regions[0])
        dry[here] = ~shapes.reached_from_border(scene.steepness[here] < dam)
        regions.append(shapes.largest_part(_without_bridges(dry, 1.0)))
    return _distinct(region for region in regions if np.count_nonzero(region) >= least)


def anywhere(scene: Scene, outside: Bools) -> list[Bools]:
    """Regions near the middle with nothing of what surely is no object, sheltered from floods."""
    return _distinct(region for region in _all_sheltered(scene) if not (region & outside).any())


def _sheltered(scene: Scene, seed: Bools, springs: Bools | None) -> Iterator[Bools]:
    for left, top, right, bottom in _windows(seed):
        here = np.s_[top:bottom, left:right]
        for dam in DAMS:
            passable = scene.steepness[here] < dam
            wet = shapes.reached_from_border(passable)
            if springs is not None:
                wet |= shapes.parts_with(passable, springs[here])
            dry = ~wet
            if not (dry & seed[here]).any():
                break
            for bridge in BRIDGES:
                radius = max(1.0, bridge * max(dry.shape))
                core = shapes.parts_with(shapes.shrunken(dry, radius), seed[here])
                region = np.zeros_like(seed)
                region[here] = shapes.grown(core, radius) & dry
                yield region


def _all_sheltered(scene: Scene) -> Iterator[Bools]:
    for dam in DAMS:
        dry = ~shapes.reached_from_border(scene.steepness < dam)
        for bridge in BRIDGES:
            radius = max(1.0, bridge * max(dry.shape))
            cores = shapes.shrunken(dry, radius).astype(np.uint8)
            _, labels, figures, _ = cv2.connectedComponentsWithStats(cores, connectivity=4)
            for label in 1 + np.flatnonzero(figures[1:, cv2.CC_STAT_AREA] >= LEAST_PROMINENT * dry.size / 2):
                region = shapes.grown(labels == label, radius) & dry
                if LEAST_PROMINENT <= region.mean() <= MOST_PROMINENT and off_centre(region) <= OFF_CENTRE:
                    yield region


def _alike(scene: Scene, seed: Bools) -> Iterator[Bools]:
    colours = blur(scene.colours, 1.0)
    difference = np.linalg.norm(colours - np.median(colours[seed], axis=0), axis=2)
    for most in ALIKE:
        alike = (difference < most) | seed
        for radius in (0.0, BRIDGES[1] * max(alike.shape)):
            yield shapes.filled(shapes.parts_with(_without_bridges(alike, radius), seed))


def _without_bridges(mask: Bools, radius: float) -> Bools:
    return shapes.grown(shapes.shrunken(mask, radius), radius) & mask


def _windows(seed: Bools) -> Iterator[Box]:
    height, width = seed.shape
    left, top, right, bottom = shapes.box_of(seed)
    yield 0, 0, width, height
    for share in WINDOWS:
        reach = share * max(height, width) / 2
        across, down = (max(reach, side / 2 + 3) for side in (right - left, bottom - top))
        x, y = (left + right) / 2, (top + bottom) / 2
        yield max(0, int(x - across)), max(0, int(y - down)), min(width, int(x + across)), min(height, int(y + down))


def _fits(region: Bools) -> bool:
    return bool(LEAST_SHARE <= region.mean() <= MOST_SHARE)


def _distinct(regions: Iterable[Bools]) -> list[Bools]:
    kept: list[Bools] = []
    for region in regions:
        if all(shapes.overlap(region, one) <= SAME for one in kept):
            kept.append(region)
    return kept
