"""A small picture as floods from its border find it, and how much a region of it looks like an object."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Floats, blur
from refgc.masks import shapes
from refgc.masks.graph_cut import Bools

# Steepness, in colour difference a pixel, that stops a flood from the border.
DAMS = (1.0, 1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 16.0, 22.0)
# Colour difference across an outline that is as clear as any, and how far from it its two sides are looked at.
CLEAR, SIDES = 10.0, 3
# No colours farther from a region than this count for its outline.
BEYOND = 12
# How far around a region its surroundings reach, in sizes of it.
SURROUNDINGS = 0.3
# How colours are counted: brightness coarsely, since one thing has light and shade.
COLOUR_BINS, COLOUR_RANGE = (8, 10, 10), ((0, 80), (-60, 60), (-60, 60))


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What candidates are found and judged in.

    Attributes:
        colours: `appearance.lab` (height, width, 3) of the whole picture, small.
        steepness: (height, width), colour difference a pixel.
        shelter: (height, width) in [0, 1], the share of floods from the picture's border that do not come here.
    """

    colours: Floats
    steepness: Floats
    shelter: Floats


def survey(colours: Floats) -> Scene:
    """The scene of a small picture's `appearance.lab` colours."""
    smooth = blur(colours, 1.0)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, *axis, scale=0.25) for axis in ((1, 0), (0, 1))]
    steepness = np.sqrt(np.sum(np.square(slopes), axis=(0, 3)))
    dry = [~shapes.reached_from_border(steepness < dam) for dam in DAMS]
    return Scene(colours, np.asarray(steepness, np.float32), np.mean(dry, axis=0, dtype=np.float32))


def objectness(scene: Scene, region: Bools) -> float:
    """How much the region that was marked looks like one whole thing; the highest of several is the one.

    Its outline is clear and has few dents, it does not fill the picture or go on beyond it, and edges shelter it more
    than what is around it: a label's surroundings are sheltered too, the bottle's are not. The weights were fitted to
    overlap with the truth, and hold where each product in turn is left out.
    """
    outline = max(cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
    columns, rows = outline[:, 0, 0], outline[:, 0, 1]
    height, width = region.shape
    cut_off = (columns <= 1) | (columns >= width - 2) | (rows <= 1) | (rows >= height - 2)
    contrast = _contrast(scene.colours, region)[rows, columns][~cut_off]
    clarity = float(np.minimum(contrast / CLEAR, 1.0).mean()) if len(contrast) else 0.0
    solidity = np.count_nonzero(region) / max(1.0, float(cv2.contourArea(cv2.convexHull(outline))))
    exposure = _exposure(scene, region, _surroundings(region))
    return 0.4 * clarity * solidity - 0.75 * exposure - 0.7 * float(region.mean()) - 0.2 * float(cut_off.mean())


def prominence(scene: Scene, region: Bools) -> float:
    """How likely a region is what its picture shows, where nothing was marked; the highest of several is the one.

    It is near the middle, has colours that its surroundings have not, and is sheltered from them. Weights as those of
    `objectness`.
    """
    around = _surroundings(region)
    own, other = _colour_shares(scene.colours[region]), _colour_shares(scene.colours[around])
    distinctness = 1.0 - float(np.sqrt(own * other).sum())
    return 0.85 * distinctness - 1.6 * off_centre(region) - 0.4 * _exposure(scene, region, around)


def off_centre(region: Bools) -> float:
    """From the picture's centre to the region's, in sizes of the picture."""
    rows, columns = np.nonzero(region)
    height, width = region.shape
    return float(np.hypot(columns.mean() / width - 0.5, rows.mean() / height - 0.5))


def _surroundings(region: Bools) -> Bools:
    return shapes.grown(region, max(4.0, SURROUNDINGS * float(np.sqrt(np.count_nonzero(region))))) & ~region


def _exposure(scene: Scene, region: Bools, around: Bools) -> float:
    """The surroundings' shelter, in shares of the region's."""
    return float(scene.shelter[around].mean() / max(scene.shelter[region].mean(), 1e-3)) if around.any() else 1.0


def _colour_shares(colours: Floats) -> NDArray[np.float64]:
    counts = np.histogramdd(colours, bins=COLOUR_BINS, range=COLOUR_RANGE)[0]
    return np.asarray(counts / max(1.0, float(counts.sum())))


def _contrast(colours: Floats, region: Bools) -> Floats:
    """Colour difference (height, width) between the two sides of the region's outline; 0 away from it."""
    left, top, right, bottom = shapes.box_of(region)
    here = np.s_[max(0, top - BEYOND) : bottom + BEYOND, max(0, left - BEYOND) : right + BEYOND]
    contrast = np.zeros(region.shape, np.float32)
    contrast[here] = _contrast_within(colours[here], region[here])
    return contrast


def _contrast_within(colours: Floats, region: Bools) -> Floats:
    own, own_share = _mean_near(colours, region & ~shapes.shrunken(region, SIDES))
    other, other_share = _mean_near(colours, shapes.grown(region, SIDES) & ~region)
    seen = (own_share > 0.02) & (other_share > 0.02)
    return np.where(seen, np.linalg.norm(own - other, axis=2), 0.0).astype(np.float32)


def _mean_near(colours: Floats, where: Bools) -> tuple[Floats, Floats]:
    weight = where.astype(np.float32)
    share = blur(weight, 2.0)
    weighted = blur(colours * weight[..., None], 2.0)
    return np.asarray(weighted / np.maximum(share, 1e-3)[..., None], np.float32), share
