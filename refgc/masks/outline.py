"""From a rough region to the object's outline, by GrabCut with colours and places."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.arrays import Floats
from refgc.masks import appearance, shapes
from refgc.masks.graph_cut import Bools, cut

# No pixel's colour alone may decide against all of its surroundings.
MOST = 10.0
# What colours say against what edges say, and against where the region was thought to be.
COLOUR, PLACE = 3.0, 0.7
# So far within the rough region, in sizes of it, its edge is no longer a doubt.
DOUBT = 0.1
# A hole of at least such a share of the object, through which the background is seen so clearly, is one: a handle's.
OPENING, THROUGH = 0.03, 5.0
# Fewer pixels are no object and no background to learn from.
LEAST = 20


def find_outline(
    colours: Floats, rough: Bools, inside: Bools, outside: Bools, rounds: int, groups: int = appearance.GROUPS
) -> Bools:
    """The object in a small picture.

    GrabCut (Rother et al., 2004), with the place of a pixel beside its colour in the mixtures, so that what is behind
    the object on one side explains nothing on the other.

    Args:
        colours: `appearance.lab` (height, width, 3).
        rough: (height, width), where the object is thought to be.
        inside: (height, width), what surely is object.
        outside: (height, width), what surely is not.
        rounds: how often the mixtures are learned again from what was found.
        groups: of each mixture.

    Returns:
        (height, width), the parts with something of `inside`, or the largest part where nothing is sure; with holes
        only where the background is seen through them or something of `outside` lies in them.
    """
    points = appearance.features(colours)
    left, top, right, bottom = shapes.box_of(rough)
    doubt = max(1.0, DOUBT * float(np.sqrt((right - left) * (bottom - top))))
    place = PLACE * np.clip(shapes.depth(rough) / doubt, -1.0, 1.0)
    found, leaning = (rough | inside) & ~outside, place
    for _ in range(rounds):
        flat = found.ravel()
        if min(np.count_nonzero(flat), np.count_nonzero(~flat)) < LEAST:
            break
        own, behind = (appearance.learn(points[which], groups) for which in (flat, ~flat))
        colour = appearance.log_likelihood(points, own) - appearance.log_likelihood(points, behind)
        leaning = COLOUR * (np.clip(colour.reshape(rough.shape), -MOST, MOST) + place)
        better = cut(colours, leaning, COLOUR * (MOST + 2.0), inside, outside)
        if np.count_nonzero(better) < LEAST:
            break
        found = better
    return _one_object(found, inside & ~outside, outside, leaning)


def _one_object(found: Bools, inside: Bools, outside: Bools, leaning: Floats) -> Bools:
    part = shapes.parts_with(found, inside) if (inside & found).any() else shapes.largest_part(found)
    holes = shapes.filled(part) & ~part
    count, labels = cv2.connectedComponents(holes.astype(np.uint8), connectivity=4)
    for label in range(1, count):
        hole = labels == label
        opening = hole.sum() >= OPENING * part.sum() and leaning[hole].mean() <= -COLOUR * THROUGH
        if not opening and not (hole & outside).any():
            part = part | hole
    return part & ~outside
