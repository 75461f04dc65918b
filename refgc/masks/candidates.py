"""Candidate regions for the marked object, from floods that edges stop and from similar colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from refgc.imaging.arrays import Bools, blur
from refgc.masks import morphology
from refgc.masks.objectness import FLOOD_THRESHOLDS, EdgeMap, off_centre
from refgc.masks.prompt import Box

# The constants of this file were chosen by hand, not fitted.
# Floods start at the border of the picture, and at that of windows around the marks whose sides are these fractions of
# the picture's, for crowded pictures.
WINDOWS = (0.6, 0.36)
# Radii of the openings that cut bridges between things, as fractions of the window's side.
OPENING_RADII = (0.0, 0.012, 0.03, 0.06)
# Largest colour differences to the marked place at which a pixel is of the same thing.
SIMILAR_COLOUR = (8.0, 12.0, 18.0, 26.0, 36.0)
# Limits of an object's area, as a fraction: of the picture if it was marked, of its box, of the picture if nothing was
# marked.
MARKED_AREA = (0.0015, 0.85)
LEAST_AREA_OF_BOX = 0.1
UNMARKED_AREA = (0.01, 0.6)
# Largest distance of the subject's centroid from the picture's centre, in sides of the picture.
OFF_CENTRE = 0.3
# Candidates with a larger intersection over union are duplicates.
DUPLICATE_OVERLAP = 0.85


def around_marks(edges: EdgeMap, seed: Bools, sources: Bools | None = None) -> list[Bools]:
    """Regions that touch the seed and are not reached by floods from the border.

    Args:
        edges: the picture.
        seed: (height, width), what is certainly object.
        sources: (height, width), further places where floods start, such as clicks on the background.
    """
    return _distinct(region for region in _enclosed(edges, seed, sources) if _has_marked_area(region))


def of_one_colour(edges: EdgeMap, seed: Bools) -> list[Bools]:
    """Regions of the seed's median colour that touch the seed, together with their holes."""
    return _distinct(region for region in _of_similar_colour(edges, seed) if _has_marked_area(region))


def within(edges: EdgeMap, box: Box) -> list[Bools]:
    """The box itself, and for each flood from its border the largest part that stays dry."""
    left, top, right, bottom = box
    window = np.s_[top:bottom, left:right]
    regions = [np.zeros(edges.gradient.shape, np.bool_)]
    regions[0][window] = True
    least = LEAST_AREA_OF_BOX * np.count_nonzero(regions[0])
    for threshold in FLOOD_THRESHOLDS:
        dry = np.zeros_like(regions[0])
        dry[window] = ~morphology.flood_from_border(edges.gradient[window] < threshold)
        regions.append(morphology.largest_component(morphology.opening(dry, 1.0)))
    return _distinct(region for region in regions if np.count_nonzero(region) >= least)


def anywhere(edges: EdgeMap, outside: Bools) -> list[Bools]:
    """Regions near the centre that floods from the border do not reach, without those that touch `outside`."""
    return _distinct(region for region in _all_enclosed(edges) if not (region & outside).any())


def _enclosed(edges: EdgeMap, seed: Bools, sources: Bools | None) -> Iterator[Bools]:
    for left, top, right, bottom in _windows(seed):
        window = np.s_[top:bottom, left:right]
        for threshold in FLOOD_THRESHOLDS:
            passable = edges.gradient[window] < threshold
            wet = morphology.flood_from_border(passable)
            if sources is not None:
                wet |= morphology.components_touching(passable, sources[window])
            dry = ~wet
            if not (dry & seed[window]).any():
                break
            for fraction in OPENING_RADII:
                radius = max(1.0, fraction * max(dry.shape))
                core = morphology.components_touching(morphology.erode(dry, radius), seed[window])
                region = np.zeros_like(seed)
                region[window] = morphology.dilate(core, radius) & dry
                yield region


def _all_enclosed(edges: EdgeMap) -> Iterator[Bools]:
    for threshold in FLOOD_THRESHOLDS:
        dry = ~morphology.flood_from_border(edges.gradient < threshold)
        for fraction in OPENING_RADII:
            radius = max(1.0, fraction * max(dry.shape))
            for core in morphology.components_from(morphology.erode(dry, radius), UNMARKED_AREA[0] * dry.size / 2):
                region = morphology.dilate(core, radius) & dry
                if UNMARKED_AREA[0] <= region.mean() <= UNMARKED_AREA[1] and off_centre(region) <= OFF_CENTRE:
                    yield region


def _of_similar_colour(edges: EdgeMap, seed: Bools) -> Iterator[Bools]:
    colours = blur(edges.colours, 1.0)
    difference = np.linalg.norm(colours - np.median(colours[seed], axis=0), axis=2)
    for limit in SIMILAR_COLOUR:
        similar = (difference < limit) | seed
        for radius in (0.0, OPENING_RADII[1] * max(similar.shape)):
            opened = morphology.opening(similar, radius)
            yield morphology.fill_holes(morphology.components_touching(opened, seed))


def _windows(seed: Bools) -> Iterator[Box]:
    """The whole picture, and windows around the seed."""
    height, width = seed.shape
    left, top, right, bottom = morphology.bounding_box(seed)
    yield 0, 0, width, height
    for fraction in WINDOWS:
        reach = fraction * max(height, width) / 2
        across, down = (max(reach, side / 2 + 3) for side in (right - left, bottom - top))
        x, y = (left + right) / 2, (top + bottom) / 2
        yield max(0, int(x - across)), max(0, int(y - down)), min(width, int(x + across)), min(height, int(y + down))


def _has_marked_area(region: Bools) -> bool:
    return bool(MARKED_AREA[0] <= region.mean() <= MARKED_AREA[1])


def _distinct(regions: Iterable[Bools]) -> list[Bools]:
    """The regions without duplicates of earlier ones."""
    kept: list[Bools] = []
    for region in regions:
        if all(morphology.overlap(region, other) <= DUPLICATE_OVERLAP for other in kept):
            kept.append(region)
    return kept
