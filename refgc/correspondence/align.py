"""Alignment: from the placement to a dense map, for a whole scene or for one object cut out of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.epipolar import straighten
from refgc.correspondence.flow import register
from refgc.correspondence.harmonize import light
from refgc.correspondence.rigidity import regularise
from refgc.correspondence.surface import fit_surface
from refgc.imaging.arrays import Bytes, Floats, local_variance, luma, resized, size_of
from refgc.imaging.warp import (
    fitted,
    homography_map,
    inside,
    magnification,
    prefilter,
    rescaling,
    sample,
)

# Flow is estimated at twice the generated picture's size: finer than its pixels, as fine as its content.
FLOW_ENLARGEMENT = 2.0
SCENE_SIDE = 1024
OBJECT_SIDE = 768
SEARCHABLE = 24
# A scene that moved so many pixels of the flow frame from the plane it started on is searched again from there.
FAR = 2.0
# How often an object's surface is fitted anew at most, and the move, in pixels of the flow frame, that ends it: from a
# plane, the flow reaches the sides of a round object only step by step.
SURFACE_PASSES = 4
SETTLED = 0.4
# A surface as far from the one before as flow can be believed, on more than a tenth of what is seen, follows something
# else; its rim may be far, since the first plane touches a round object along one line.
STRAYED_SHARE = 90
# Flow forth and back that meet within so many pixels of the flow frame is believed.
BELIEF = 0.5
# An object's flow beyond this share of the frame follows something else.
OBJECT_REACH = 0.08
# Flow in an object is believed where the picture has so much contrast (grey levels), for flat colour moves freely.
OBJECT_CONTRAST = 4.0
# How much the placement itself weighs against an object's flow, in believed neighbours.
OBJECT_PRIOR = 0.3
# Nodes around each one that its fit hears: an object is smaller than a scene, and bends sooner.
OBJECT_RADIUS = 20
# Reach of the light estimate, as a share of the frame's longer side.
LIGHT_REACH = 0.05


@dataclass(frozen=True, slots=True)
class Alignment:
    """The reference laid over (a region of) the generated picture, on the flow frame's grid.

    Attributes:
        mapping: (height, width, 2), into the original reference.
        flow: the map before regularisation.
        believed: (height, width), 1 where the flow is to be believed.
        scale: reference pixels per pixel of the flow frame.
    """

    mapping: Floats
    flow: Floats
    believed: Floats
    scale: float


def align_scene(generated: Bytes, reference: Bytes, homography: NDArray[np.float64]) -> Alignment:
    """Dense map of one scene seen from two sides.

    Args:
        generated: RGB of the generated picture.
        reference: RGB of the original reference.
        homography: generated to reference coordinates.
    """
    picture, base, scale, sharpness = _prepare(generated, homography, SCENE_SIDE)
    sharp = prefilter(reference, scale)

    def search(start: Floats) -> Alignment:
        placed = np.asarray(sample(sharp, start, size_of(reference)), np.uint8)
        registration = register(picture, placed, start, sharpness)
        flow = registration.mapping
        believed = (registration.inconsistency < BELIEF).astype(np.float32) * inside(flow, size_of(reference))
        mapping = regularise(straighten(flow, believed, scale), base, believed, picture, scale)
        return Alignment(mapping, flow, believed, scale)

    aligned = search(base)
    moved = float(np.median(np.linalg.norm(aligned.mapping - base, axis=2))) / scale
    return search(aligned.mapping) if moved > FAR else aligned


def align_object(generated: Bytes, reference: Bytes, homography: NDArray[np.float64], mask: Floats) -> Alignment:
    """Dense map of an object that stands elsewhere in the reference.

    The placed object is laid over the generated picture before the flow is estimated, so that the two pictures differ
    in the object alone and the background cannot pull at it.

    Args:
        generated: RGB of the generated picture's region around the object.
        reference: RGB of the original reference.
        homography: region to reference coordinates.
        mask: the object in the reference, (height, width).
    """
    picture, base, scale, sharpness = _prepare(generated, homography, OBJECT_SIDE)
    seen = picture.astype(np.float32)
    sharp = prefilter(reference, scale)
    contrast = _contrast(luma(picture))

    def search(surface: Floats, finest: int) -> tuple[Floats, Floats]:
        placed = np.asarray(sample(sharp, surface, size_of(reference)), np.float32)
        share = object_in_place(mask, surface)
        gain = light(placed, seen, share, LIGHT_REACH * max(size_of(picture)))
        laid_over = seen + share[..., None] * (np.clip(gain * placed, 0, 255) - seen)
        registration = register(picture, (laid_over + 0.5).astype(np.uint8), surface, sharpness, finest)
        believed = (
            (registration.inconsistency < BELIEF)
            & (np.linalg.norm(registration.flow, axis=2) < OBJECT_REACH * max(size_of(picture)))
            & (contrast > OBJECT_CONTRAST)
        )
        return registration.mapping, believed.astype(np.float32) * share

    for _ in range(SURFACE_PASSES):
        surface = _refitted(*search(base, finest=1), base, scale)
        moved = float(np.median(np.linalg.norm(surface - base, axis=2))) / scale
        base = surface
        if moved < SETTLED:
            break
    flow, believed = search(base, finest=0)
    mapping = regularise(flow, base, believed, picture, scale, OBJECT_RADIUS, OBJECT_PRIOR)
    return Alignment(mapping, flow, believed, scale)


def _refitted(flow: Floats, believed: Floats, base: Floats, scale: float) -> Floats:
    """The map of the surface the flow shows, or `base` where it shows none near."""
    refitted = fit_surface(flow, believed, scale)
    if refitted is None:
        return base
    strayed = np.linalg.norm(refitted - base, axis=2)[believed > 0.5] / scale
    return refitted if float(np.percentile(strayed, STRAYED_SHARE)) < OBJECT_REACH * max(size_of(flow)) else base


def object_in_place(mask: Floats, mapping: Floats) -> Floats:
    """The reference's mask seen through a map, 0 where the map points outside."""
    seen = np.asarray(sample(mask, mapping, size_of(mask), cv2.INTER_LINEAR), np.float32)
    return seen * inside(mapping, size_of(mask))


def _prepare(generated: Bytes, homography: NDArray[np.float64], side: int) -> tuple[Bytes, Floats, float, float]:
    """The picture in the flow frame, the placement's map, its reference pixels per pixel, the picture's sharpness."""
    size = fitted(size_of(generated), side, FLOW_ENLARGEMENT)
    # Inverse search needs some pixels to search in, however thin the picture.
    size = (max(SEARCHABLE, size[0]), max(SEARCHABLE, size[1]))
    picture = resized(generated, size)
    base = homography_map(homography @ rescaling(size, size_of(generated)), size)
    return picture, base, magnification(base), min(1.0, generated.shape[1] / size[0])


def _contrast(grey: Bytes) -> Floats:
    return np.sqrt(local_variance(grey.astype(np.float32), 3.0))
