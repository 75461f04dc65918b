"""Object masks in both pictures where nobody gave them, and the operations on masks that the blend weights need."""

import cv2
import numpy as np

from refgc.correspondence.match import Matches
from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Floats, Size, blur, enlarge, luma, shrink, size_of, smoothstep
from refgc.imaging.image import MARKED, Image
from refgc.imaging.warp import fitted
from refgc.masks import Prompt
from refgc.masks.grabcut import GrabCutSegmenter

# The constants of this file were chosen by hand, not fitted.
# If the convex hull of the matches covers more than this fraction of both pictures, they show one scene from two sides.
SCENE_COVERAGE = 0.35
# The reference's most prominent object is the matched one if at least this fraction of the matches lies on it, or so
# many pixels beside it: features lie on both sides of an outline.
MATCHES_ON_OBJECT = 0.9
MATCH_MARGIN = 5
# Nothing is known of an object farther from its matches than this, in square roots of the area of their convex hull.
MATCH_REACH = 0.8
# Pictures are segmented at an exposure at which this percentile of the luma has this level.
BRIGHT_PERCENTILE, BRIGHT_LEVEL = 98.0, 220.0
# Longer side in pixels at which GrabCut runs: an outline in a generated picture is only as sharp as the picture.
OUTLINE_SIDE = 240
# Widths of the bands, as a fraction of the longer side, in which GrabCut decides, and of thin parts, as a fraction of
# the square root of the object's area.
UNCERTAIN_BAND = 0.1
THIN_PART = 0.12
# Uncovered parts thinner than this, in pixels of the flow frame, are errors of the outline. Trust rises from 0 to 1
# between the two distances from an uncovered part, in square roots of the object's area.
UNCOVERED_WIDTH = 7
UNCOVERED_DISTANCES = (0.02, 0.15)


def hull_coverage(points: Floats, size: Size) -> float:
    """Fraction of a picture of `size` that the convex hull of `points` (n, 2) covers."""
    return float(cv2.contourArea(cv2.convexHull(points))) / (size[0] * size[1]) if len(points) >= 3 else 0.0


def shows_one_scene(matches: Matches, frame: Size, reference_frame: Size) -> bool:
    """Whether the two pictures show one scene, so that there is no object to cut out."""
    return (
        hull_coverage(matches.generated, frame) > SCENE_COVERAGE
        and hull_coverage(matches.reference, reference_frame) > SCENE_COVERAGE
    )


def object_at_matches(reference: Bytes, points: Floats) -> Floats:
    """The object of the reference that the matches lie on, by the weight-free segmenter.

    Matches mark only spots of the object, such as a label. The mask is that of the whole object around them: the most
    prominent object if it holds the matches, else the object segmented with the matches as clicks.

    Args:
        reference: uint8 RGB (height, width, 3).
        points: (n, 2), the matched pixels of the reference.

    Returns:
        (height, width) in [0, 1].
    """
    # A lighter or darker photo of the same object has to give the same mask.
    picture, segmenter = Image(_equally_bright(reference)), GrabCutSegmenter()
    try:
        prominent = segmenter.segment(picture, Prompt(picture.size)).values
    except InputError:
        prominent = np.zeros(reference.shape[:2], np.float32)
    if _fraction_of_points(points, prominent) >= MATCHES_ON_OBJECT:
        return prominent * _around(points, reference)
    clicks = tuple((int(x), int(y)) for x, y in np.clip(np.rint(points), 0, np.array(picture.size) - 1))
    try:
        return segmenter.segment(picture, Prompt(picture.size, positive=clicks)).values * _around(points, reference)
    except InputError:
        return _convex_hull(points, reference)


def _equally_bright(pixels: Bytes) -> Bytes:
    """A picture times the factor that gives its bright parts the same level in every picture."""
    bright = float(np.percentile(luma(pixels), BRIGHT_PERCENTILE))
    return np.asarray(np.clip(pixels * np.float32(BRIGHT_LEVEL / max(bright, 1.0)) + 0.5, 0, 255), np.uint8)


def object_at_placement(picture: Bytes, placed: Floats, reliable: Floats) -> Floats:
    """The object in the generated picture, by GrabCut (Rother et al., 2004) started from where it was placed.

    Args:
        picture: uint8 RGB of the region around the object.
        placed: (height, width), the reference's mask warped into this frame.
        reliable: (height, width), 1 where the flow is reliable, which is surely object.

    Returns:
        (height, width) in [0, 1].
    """
    frame = size_of(placed)
    size = fitted(frame, OUTLINE_SIDE)
    picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    placed, reliable = shrink(placed, size), shrink(reliable, size)
    solid = (placed > 0.5).astype(np.uint8)
    reach = max(3, round(UNCERTAIN_BAND * max(solid.shape)))
    labels = np.full(solid.shape, cv2.GC_PR_BGD, np.uint8)
    labels[solid > 0] = cv2.GC_PR_FGD
    core = cv2.erode(solid, np.ones((reach, reach), np.uint8))
    labels[(core > 0) & (reliable > 0.5)] = cv2.GC_FGD
    labels[cv2.dilate(solid, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) == 0] = cv2.GC_BGD
    return enlarge(_grabcut(picture, labels, solid), frame)


def remove_thin_parts(mask: Floats) -> Floats:
    """Morphological opening: the mask without straps, handles and wires, whose place the object's pose does not fix."""
    solid = (mask > 0.5).astype(np.uint8)
    reach = max(3, round(THIN_PART * float(np.sqrt(solid.sum()))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    opened = cv2.morphologyEx(solid, cv2.MORPH_OPEN, kernel)
    # An opening rounds corners off; a small dilation gives them back.
    return mask * np.asarray(cv2.dilate(opened, np.ones((5, 5), np.uint8)), np.float32)


def suppress_near_uncovered(placed: Floats, outline: Floats) -> Floats:
    """A weight that falls to 0 beside parts of the generated object which the placed one leaves uncovered.

    There the two are not seen from the same side, and the old edge would stand beside the new one.

    Args:
        placed: (height, width), the reference's mask warped into this frame.
        outline: (height, width), the object in the generated picture.

    Returns:
        (height, width) in [0, 1], 1 well away from uncovered parts.
    """
    uncovered = ((outline > 0.5) & (placed < 0.5)).astype(np.uint8)
    kernel = np.ones((UNCOVERED_WIDTH, UNCOVERED_WIDTH), np.uint8)
    uncovered = np.asarray(cv2.morphologyEx(uncovered, cv2.MORPH_OPEN, kernel), np.uint8)
    if not uncovered.any():
        return np.ones_like(placed)
    distance = cv2.distanceTransform(1 - uncovered, cv2.DIST_L2, 5)
    side = float(np.sqrt((outline > 0.5).sum()))
    return smoothstep(np.asarray(distance, np.float32), UNCOVERED_DISTANCES[0] * side, UNCOVERED_DISTANCES[1] * side)


def dilate_softly(mask: Floats, radius: int) -> Floats:
    """Dilation by a square of `radius` pixels, its edge blurred."""
    dilated = cv2.dilate(mask, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    return blur(np.asarray(dilated, np.float32), max(1.0, radius / 2))


def fraction_inside(part: Floats, whole: Floats) -> float:
    """Fraction of the mask `part` that lies inside the mask `whole`; 0 where `part` is empty."""
    inner = part > 0.5
    return float((whole > 0.5)[inner].mean()) if inner.any() else 0.0


def _fraction_of_points(points: Floats, mask: Floats) -> float:
    """Fraction of points (n, 2) that lie on a mask dilated by `MATCH_MARGIN`."""
    kernel = np.ones((2 * MATCH_MARGIN + 1, 2 * MATCH_MARGIN + 1), np.uint8)
    dilated = cv2.dilate((mask >= MARKED).astype(np.uint8), kernel)
    columns, rows = np.clip(np.rint(points), 0, np.array(size_of(mask)) - 1).astype(int).T
    return float(dilated[rows, columns].mean())


def _around(points: Floats, reference: Bytes) -> Floats:
    """A mask of the reference, 1 where matches are near: inside their convex hull and a margin around it."""
    hull = _convex_hull(points, reference)
    distance = cv2.distanceTransform((hull == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(distance <= MATCH_REACH * float(np.sqrt(hull.sum())), np.float32)


def _convex_hull(points: Floats, reference: Bytes) -> Floats:
    """A mask of the reference, 1 inside the convex hull of the points."""
    mask = np.zeros(reference.shape[:2], np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1.0)
    return mask


def _grabcut(picture: Bytes, labels: Bytes, seed: Bytes) -> Floats:
    """GrabCut from labels, reduced to its main component; `seed` itself where the labels leave no choice."""
    object_labels = [cv2.GC_FGD, cv2.GC_PR_FGD]
    if np.isin(labels, object_labels).all() or not np.isin(labels, object_labels).any():
        return seed.astype(np.float32)
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    solid = np.isin(labels, object_labels).astype(np.uint8)
    return _main_component(solid, seed).astype(np.float32) if solid.any() else seed.astype(np.float32)


def _main_component(solid: Bytes, seed: Bytes) -> Bytes:
    """The connected component that overlaps most with the seed, its holes filled."""
    count, labels = cv2.connectedComponents(solid)
    shared = np.bincount(labels[(seed > 0) & (solid > 0)], minlength=count)
    shared[0] = 0
    if not shared.any():
        return seed
    component = (labels == int(shared.argmax())).astype(np.uint8)
    contours, _ = cv2.findContours(component, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(component), contours, -1, 1, cv2.FILLED), np.uint8)
