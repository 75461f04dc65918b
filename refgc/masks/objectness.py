"""Objectness: the edge map of a small picture, and scores of how much a region looks like a whole object."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bools, Floats, blur
from refgc.masks import morphology

# The constants below were chosen by hand, not fitted.
# Gradient thresholds, in colour difference per pixel, of the floods from the border; each flood stops at its threshold.
FLOOD_THRESHOLDS = (1.0, 1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 16.0, 22.0)
# Colour difference across an outline that counts as fully clear, and the width in pixels of the two bands compared.
CLEAR_CONTRAST, BAND_WIDTH = 10.0, 3
# Colours farther than this from a region, in pixels, do not count for its outline.
OUTLINE_MARGIN = 12
# Width of a region's surroundings, in square roots of its area.
SURROUNDINGS = 0.3
# Colour histograms have few bins of lightness, since one thing has light and shade.
COLOUR_BINS, COLOUR_RANGE = (8, 10, 10), ((0, 80), (-60, 60), (-60, 60))
# Weights of the two scores. Fitted to the overlap with the true masks of the rendered example products, and checked
# with each product in turn left out.
CLARITY_WEIGHT, EXPOSURE_WEIGHT, AREA_WEIGHT, CROPPED_WEIGHT = 0.4, 0.75, 0.7, 0.2
DISTINCTNESS_WEIGHT, OFF_CENTRE_WEIGHT, PROMINENT_EXPOSURE_WEIGHT = 0.85, 1.6, 0.4


@dataclass(frozen=True, slots=True, eq=False)
class EdgeMap:
    """A small picture's colours and edges, in which candidate regions are found and scored.

    Attributes:
        colours: `appearance.lab` (height, width, 3).
        gradient: (height, width), gradient magnitude in colour difference per pixel.
        enclosure: (height, width) in [0, 1], the fraction of the floods from the border that do not reach the pixel.
    """

    colours: Floats
    gradient: Floats
    enclosure: Floats


def edge_map(colours: Floats) -> EdgeMap:
    """The edge map of a small picture's `appearance.lab` colours (height, width, 3)."""
    smooth = blur(colours, 1.0)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, *axis, scale=0.25) for axis in ((1, 0), (0, 1))]
    gradient = np.sqrt(np.sum(np.square(slopes), axis=(0, 3)))
    enclosed = [~morphology.flood_from_border(gradient < threshold) for threshold in FLOOD_THRESHOLDS]
    return EdgeMap(colours, np.asarray(gradient, np.float32), np.mean(enclosed, axis=0, dtype=np.float32))


def objectness(edges: EdgeMap, region: Bools) -> float:
    """How much a marked region looks like one whole object; the higher the better.

    The outline of an object is clear and nearly convex. An object neither fills the picture nor is cropped by its
    border. Edges enclose it more than its surroundings: those of a label are enclosed too, those of the bottle are not.
    """
    outline = max(cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
    columns, rows = outline[:, 0, 0], outline[:, 0, 1]
    height, width = region.shape
    cropped = (columns <= 1) | (columns >= width - 2) | (rows <= 1) | (rows >= height - 2)
    contrast = _outline_contrast(edges.colours, region)[rows, columns][~cropped]
    clarity = float(np.minimum(contrast / CLEAR_CONTRAST, 1.0).mean()) if len(contrast) else 0.0
    solidity = np.count_nonzero(region) / max(1.0, float(cv2.contourArea(cv2.convexHull(outline))))
    exposure = _exposure(edges, region, _surroundings(region))
    return (
        CLARITY_WEIGHT * clarity * solidity
        - EXPOSURE_WEIGHT * exposure
        - AREA_WEIGHT * float(region.mean())
        - CROPPED_WEIGHT * float(cropped.mean())
    )


def prominence(edges: EdgeMap, region: Bools) -> float:
    """How likely a region is the picture's subject where nothing was marked; the higher the better.

    A subject is near the centre, differs in colour from its surroundings, and is enclosed by edges more than they are.
    """
    around = _surroundings(region)
    own, other = _histogram(edges.colours[region]), _histogram(edges.colours[around])
    # One minus the Bhattacharyya coefficient.
    distinctness = 1.0 - float(np.sqrt(own * other).sum())
    return (
        DISTINCTNESS_WEIGHT * distinctness
        - OFF_CENTRE_WEIGHT * off_centre(region)
        - PROMINENT_EXPOSURE_WEIGHT * _exposure(edges, region, around)
    )


def off_centre(region: Bools) -> float:
    """Distance of the region's centroid from the picture's centre, in sides of the picture."""
    rows, columns = np.nonzero(region)
    height, width = region.shape
    return float(np.hypot(columns.mean() / width - 0.5, rows.mean() / height - 0.5))


def _surroundings(region: Bools) -> Bools:
    width = max(4.0, SURROUNDINGS * float(np.sqrt(np.count_nonzero(region))))
    return morphology.dilate(region, width) & ~region


def _exposure(edges: EdgeMap, region: Bools, around: Bools) -> float:
    """Enclosure of the surroundings as a fraction of the region's own."""
    if not around.any():
        return 1.0
    return float(edges.enclosure[around].mean() / max(edges.enclosure[region].mean(), 1e-3))


def _histogram(colours: Floats) -> NDArray[np.float64]:
    """The normalised colour histogram of `appearance.lab` colours (n, 3)."""
    counts = np.histogramdd(colours, bins=COLOUR_BINS, range=COLOUR_RANGE)[0]
    return np.asarray(counts / max(1.0, float(counts.sum())))


def _outline_contrast(colours: Floats, region: Bools) -> Floats:
    """Colour difference (height, width) between the two sides of a region's outline; 0 away from the outline."""
    left, top, right, bottom = morphology.bounding_box(region)
    margin = OUTLINE_MARGIN
    window = np.s_[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
    contrast = np.zeros(region.shape, np.float32)
    contrast[window] = _contrast_in(colours[window], region[window])
    return contrast


def _contrast_in(colours: Floats, region: Bools) -> Floats:
    inner, inner_weight = _local_mean(colours, region & ~morphology.erode(region, BAND_WIDTH))
    outer, outer_weight = _local_mean(colours, morphology.dilate(region, BAND_WIDTH) & ~region)
    both = (inner_weight > 0.02) & (outer_weight > 0.02)
    return np.where(both, np.linalg.norm(inner - outer, axis=2), 0.0).astype(np.float32)


def _local_mean(colours: Floats, where: Bools) -> tuple[Floats, Floats]:
    """Mean colour under a Gaussian window of the pixels marked by `where`, and their weight in the window."""
    marked = where.astype(np.float32)
    weight = blur(marked, 2.0)
    weighted = blur(colours * marked[..., None], 2.0)
    return np.asarray(weighted / np.maximum(weight, 1e-3)[..., None], np.float32), weight
