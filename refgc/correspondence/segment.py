"""Where the object is: in the reference, and where it stands in the generated picture."""

import cv2
import numpy as np

from refgc.correspondence.match import Matches
from refgc.imaging.arrays import Bytes, Floats, Size, blur, shrink, size_of, smoothstep
from refgc.imaging.warp import fitted

# Matches over this share of both pictures show one scene from two sides rather than an object put elsewhere.
SCENE_SHARE = 0.35
# The generated object's outline is only as sharp as its picture.
OUTLINE_SIDE = 240
# Uncovered parts thicker than this, in pixels of the flow frame, are more than the outline's error; they speak against
# what lies beside them, from so near to so far in object sizes.
LEFTOVER = 7
LEFTOVER_REACH = (0.02, 0.15)


def hull_share(points: Floats, size: Size) -> float:
    """Share of a picture of `size` that the convex hull of `points` (n, 2) covers."""
    return float(cv2.contourArea(cv2.convexHull(points))) / (size[0] * size[1]) if len(points) >= 3 else 0.0


def shows_one_scene(matches: Matches, frame: Size, reference_frame: Size) -> bool:
    """Whether the two pictures show the same scene, so that there is no object to cut out."""
    return (
        hull_share(matches.generated, frame) > SCENE_SHARE
        and hull_share(matches.reference, reference_frame) > SCENE_SHARE
    )


def object_at(picture: Bytes, placed: Floats, believed: Floats) -> Floats:
    """Mask (height, width) of the object in the generated picture, by GrabCut from where it was placed.

    Args:
        picture: RGB of the region around the object.
        placed: (height, width), the reference's mask in this frame.
        believed: (height, width), 1 where flow agrees: surely object.
    """
    frame = size_of(placed)
    size = fitted(frame, OUTLINE_SIDE)
    picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    placed, believed = shrink(placed, size), shrink(believed, size)
    solid = (placed > 0.5).astype(np.uint8)
    reach = max(3, round(0.1 * max(solid.shape)))
    labels = np.full(solid.shape, cv2.GC_PR_BGD, np.uint8)
    labels[solid > 0] = cv2.GC_PR_FGD
    core = cv2.erode(solid, np.ones((reach, reach), np.uint8))
    labels[(core > 0) & (believed > 0.5)] = cv2.GC_FGD
    labels[cv2.dilate(solid, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) == 0] = cv2.GC_BGD
    found = cv2.resize(_grab(picture, labels, solid), frame, interpolation=cv2.INTER_LINEAR)
    return np.asarray(found, np.float32)


def without_thin_parts(mask: Floats) -> Floats:
    """The mask less straps, handles and wires, which the object's pose does not fix."""
    solid = (mask > 0.5).astype(np.uint8)
    reach = max(3, round(0.12 * float(np.sqrt(solid.sum()))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    opened = cv2.morphologyEx(solid, cv2.MORPH_OPEN, kernel)
    # Opening rounds corners off; a little wider, it gives them back.
    return mask * np.asarray(cv2.dilate(opened, np.ones((5, 5), np.uint8)), np.float32)


def away_from_leftovers(placed: Floats, outline: Floats) -> Floats:
    """0 beside parts of the generated object that the placed one leaves uncovered, 1 well away from them.

    There the two are not seen from the same side, and the old edge would stand beside the new one.
    """
    leftover = ((outline > 0.5) & (placed < 0.5)).astype(np.uint8)
    leftover = np.asarray(cv2.morphologyEx(leftover, cv2.MORPH_OPEN, np.ones((LEFTOVER, LEFTOVER), np.uint8)), np.uint8)
    if not leftover.any():
        return np.ones_like(placed)
    distance = cv2.distanceTransform(1 - leftover, cv2.DIST_L2, 5)
    side = float(np.sqrt((outline > 0.5).sum()))
    return smoothstep(np.asarray(distance, np.float32), LEFTOVER_REACH[0] * side, LEFTOVER_REACH[1] * side)


def widened(mask: Floats, pixels: int) -> Floats:
    """The mask grown by so many pixels, its edge softened."""
    grown = cv2.dilate(mask, np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8))
    return blur(np.asarray(grown, np.float32), max(1.0, pixels / 2))


def share_within(part: Floats, whole: Floats) -> float:
    """Share of the mask `part` that lies in the mask `whole`."""
    inner = part > 0.5
    return float((whole > 0.5)[inner].mean()) if inner.any() else 0.0


def _grab(picture: Bytes, labels: Bytes, seed: Bytes) -> Floats:
    """GrabCut from labels, the part that shares most with `seed`; `seed` itself where the labels leave no choice."""
    object_labels = [cv2.GC_FGD, cv2.GC_PR_FGD]
    if np.isin(labels, object_labels).all() or not np.isin(labels, object_labels).any():
        return seed.astype(np.float32)
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    solid = np.isin(labels, object_labels).astype(np.uint8)
    return _main_part(solid, seed).astype(np.float32) if solid.any() else seed.astype(np.float32)


def _main_part(solid: Bytes, seed: Bytes) -> Bytes:
    """The connected part that shares most with the seed, its holes closed."""
    count, labels = cv2.connectedComponents(solid)
    shared = np.bincount(labels[(seed > 0) & (solid > 0)], minlength=count)
    shared[0] = 0
    if not shared.any():
        return seed
    part = (labels == int(shared.argmax())).astype(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(part), contours, -1, 1, cv2.FILLED), np.uint8)
