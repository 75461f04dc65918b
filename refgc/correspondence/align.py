"""Alignment: from a homography to a dense map, for a whole scene or for one object that was cut out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refgc.correspondence.coarse_map import CoarseMap
from refgc.correspondence.cylinder import Cylinder
from refgc.correspondence.epipolar import enforce_epipolar_geometry
from refgc.correspondence.flow import register
from refgc.correspondence.harmonize import estimate_light
from refgc.correspondence.rigidity import regularise
from refgc.correspondence.surface import fit_surface
from refgc.imaging.arrays import Bytes, Floats, local_variance, luma, resized, size_of
from refgc.imaging.region import Region
from refgc.imaging.warp import (
    fitted,
    inside,
    magnification,
    prefilter,
    sample,
    warp_mask,
)

# The constants of this file were chosen by hand, not fitted.
# The flow frame is the generated picture enlarged by this factor, since flow is found best at finer than its pixels;
# its longer side is limited, for scenes and for objects. DIS flow needs a smallest side to search in.
FLOW_ENLARGEMENT = 2.0
SCENE_SIDE = 1024
OBJECT_SIDE = 768
MINIMUM_SIDE = 24
# A scene whose median displacement from the homography exceeds so many pixels of the flow frame is searched again.
RESTART_DISPLACEMENT = 2.0
# An object's surface is refitted at most so often, and no more once its median displacement in pixels of the flow frame
# is below the limit. From a plane, flow reaches the sides of a round object only step by step.
SURFACE_PASSES = 4
CONVERGED_DISPLACEMENT = 0.4
# A new surface is rejected if this percentile of its displacement exceeds `MAXIMUM_OBJECT_FLOW`. The tenth above it is
# allowed to, since the first plane touches a round object along one line only.
DISPLACEMENT_PERCENTILE = 90
# An object that is no surface of this kind is searched again from its regularised map so often.
BENT_PASSES = 2
# Largest forward-backward error, in pixels of the flow frame, of reliable flow in a scene and on an object. Of 0.5, 1
# and 2, the one for objects gave the largest gain on photographs of a can, a shoe and a toy car from different sides.
CONSISTENCY_LIMIT = 0.5
OBJECT_CONSISTENCY_LIMIT = 1.0
# Longest reliable flow of an object, as a fraction of the frame's longer side.
MAXIMUM_OBJECT_FLOW = 0.08
# Least local standard deviation, in grey levels, at which an object's flow is reliable: in flat colour it drifts.
MINIMUM_CONTRAST = 4.0
# Weight of the fitted surface against an object's flow, in units of one reliable neighbour, and radius in nodes of the
# local regression. It is smaller than a scene's, since an object is smaller and bends sooner.
OBJECT_PRIOR = 0.05
# The same of an object that was found by its outline. It has little texture, so its flow follows noise and the shading
# of another light, and would make waves in its relief.
SILHOUETTE_PRIOR = 1.0
# The same of a cylinder, whose shape is known. It is refitted to so many samples of the flow at most, and to no fewer
# than the other; the error at which a sample's weight has fallen to a half is in pixels of the flow frame.
CYLINDER_PRIOR = 1.0
CYLINDER_FLOW, LEAST_CYLINDER_FLOW, CYLINDER_TOLERANCE = 1500, 100, 1.5
OBJECT_RADIUS = 20
# Standard deviation of the gain's window, as a fraction of the frame's longer side.
GAIN_SIGMA = 0.05


@dataclass(frozen=True, slots=True)
class Alignment:
    """A dense map from (a region of) the generated picture into the reference, on the flow frame's grid.

    Attributes:
        mapping: (height, width, 2), in pixels of the original reference.
        flow: (height, width, 2), the map before it was regularised.
        reliable: (height, width) in [0, 1], 1 where the flow is reliable.
        scale: reference pixels per pixel of the flow frame.
        surface: the map of the object's known shape, which may bend; None for a plane.
        shown: (height, width) in [0, 1], how well the reference shows a surface; None where it shows all.
    """

    mapping: Floats
    flow: Floats
    reliable: Floats
    scale: float
    surface: Floats | None = None
    shown: Floats | None = None

    def placed(self, mask: Floats) -> Floats:
        """The reference's mask as it is placed, (height, width) in [0, 1]."""
        return warp_mask(mask, self.mapping, self.shown)


def align_scene(generated: Bytes, reference: Bytes, start: CoarseMap, region: Region) -> Alignment:
    """Dense map between two views of one scene.

    Args:
        generated: uint8 RGB (height, width, 3) of the generated picture.
        reference: uint8 RGB (height, width, 3) of the original reference.
        start: the coarse map.
        region: where `generated` lies in the generated picture.
    """
    picture, (base, _), scale, sharpness = _flow_frame(generated, start, region, SCENE_SIDE)
    sharp = prefilter(reference, scale)

    def search(rough: Floats) -> Alignment:
        placed = np.asarray(sample(sharp, rough, size_of(reference)), np.uint8)
        registration = register(picture, placed, rough, sharpness)
        flow = registration.mapping
        consistent = (registration.inconsistency < CONSISTENCY_LIMIT).astype(np.float32)
        reliable = consistent * inside(flow, size_of(reference))
        rigid = enforce_epipolar_geometry(flow, reliable, scale)
        return Alignment(regularise(rigid, base, reliable, picture, scale), flow, reliable, scale)

    aligned = search(base)
    displacement = float(np.median(np.linalg.norm(aligned.mapping - base, axis=2))) / scale
    return search(aligned.mapping) if displacement > RESTART_DISPLACEMENT else aligned


def align_object(
    generated: Bytes,
    reference: Bytes,
    start: CoarseMap,
    region: Region,
    mask: Floats,
    prior: float = OBJECT_PRIOR,
) -> Alignment:
    """Dense map of an object that stands in another scene than in the reference.

    The placed object is composited over the generated picture before the flow is estimated. The two pictures then
    differ in the object alone, and the background cannot pull at it.

    Args:
        generated: uint8 RGB (height, width, 3) of the generated picture's region around the object.
        reference: uint8 RGB of the original reference.
        start: the coarse map of the whole picture.
        region: where `generated` lies in it.
        mask: the object in the reference, (height, width) in [0, 1].
        prior: weight of the fitted surface against the flow, in units of one reliable neighbour.
    """
    picture, (base, shown), scale, sharpness = _flow_frame(generated, start, region, OBJECT_SIDE)
    seen = picture.astype(np.float32)
    sharp = prefilter(reference, scale)
    contrast = np.sqrt(local_variance(luma(picture).astype(np.float32), 3.0))

    def search(surface: Floats, finest: int, shown: Floats | None = None) -> tuple[Floats, Floats]:
        placed = np.asarray(sample(sharp, surface, size_of(reference)), np.float32)
        alpha = warp_mask(mask, surface, shown)
        light = estimate_light(placed, seen, alpha, GAIN_SIGMA * max(size_of(picture)))
        composited = seen + alpha[..., None] * (light.applied(placed) - seen)
        registration = register(picture, (composited + 0.5).astype(np.uint8), surface, sharpness, finest)
        reliable = (
            (registration.inconsistency < OBJECT_CONSISTENCY_LIMIT)
            & (np.linalg.norm(registration.flow, axis=2) < MAXIMUM_OBJECT_FLOW * max(size_of(picture)))
            & (contrast > MINIMUM_CONTRAST)
        )
        return registration.mapping, reliable.astype(np.float32) * alpha

    if start.cylinder is not None and shown is not None:
        points = start.points(region, size_of(picture))
        base, shown = _refitted_cylinder(search, start.cylinder, points, base, shown, scale)
        flow, reliable = search(base, 0, shown)
        mapping = regularise(flow, base, reliable, picture, scale, OBJECT_RADIUS, CYLINDER_PRIOR)
        return Alignment(mapping, flow, reliable, scale, base, shown)
    for _ in range(SURFACE_PASSES):
        surface = _refitted_surface(*search(base, finest=1), base, scale)
        displacement = float(np.median(np.linalg.norm(surface - base, axis=2))) / scale
        base = surface
        if displacement < CONVERGED_DISPLACEMENT:
            break
    if start.deviation is not None:
        for _ in range(BENT_PASSES):
            flow, reliable = search(base, finest=1)
            base = regularise(flow, base, reliable, picture, scale, OBJECT_RADIUS, prior)
    flow, reliable = search(base, finest=0)
    mapping = regularise(flow, base, reliable, picture, scale, OBJECT_RADIUS, prior)
    return Alignment(mapping, flow, reliable, scale)


def _refitted_cylinder(
    search: Callable[[Floats, int, Floats], tuple[Floats, Floats]],
    cylinder: Cylinder,
    points: Floats,
    base: Floats,
    shown: Floats,
    scale: float,
) -> tuple[Floats, Floats]:
    """The map of the cylinder that the flow agrees with, and how well the reference shows it.

    Args:
        search: the flow from a map, and how reliable it is.
        cylinder: to start from.
        points: (height, width, 2), of the generated picture.
        base: where the cylinder maps them.
        shown: how well the reference shows them.
        scale: reference pixels per pixel of the flow frame.
    """
    for _ in range(SURFACE_PASSES):
        flow, reliable = search(base, 1, shown)
        keep = np.flatnonzero(reliable > 0.5)
        if len(keep) < LEAST_CYLINDER_FLOW:
            break
        keep = keep[np.linspace(0, len(keep) - 1, min(len(keep), CYLINDER_FLOW)).astype(int)]
        cylinder = cylinder.refitted(points.reshape(-1, 2)[keep], flow.reshape(-1, 2)[keep], CYLINDER_TOLERANCE * scale)
        refitted, shown = cylinder.mapped(points)
        moved = np.linalg.norm(refitted - base, axis=2)[shown > 0.5]
        base = refitted
        if not moved.size or float(np.median(moved)) / scale < CONVERGED_DISPLACEMENT:
            break
    return base, shown


def _refitted_surface(flow: Floats, reliable: Floats, base: Floats, scale: float) -> Floats:
    """The smooth surface fitted to the flow, or `base` where there is none or it lies too far from `base`."""
    refitted = fit_surface(flow, reliable, scale)
    if refitted is None:
        return base
    displacement = np.linalg.norm(refitted - base, axis=2)[reliable > 0.5] / scale
    limit = MAXIMUM_OBJECT_FLOW * max(size_of(flow))
    return refitted if float(np.percentile(displacement, DISPLACEMENT_PERCENTILE)) < limit else base


def _flow_frame(
    generated: Bytes, start: CoarseMap, region: Region, side: int
) -> tuple[Bytes, tuple[Floats, Floats | None], float, float]:
    """The picture in the flow frame, the coarse map there with what it shows, its magnification, the sharpness.

    Magnification is in reference pixels per pixel of the flow frame; sharpness in generated pixels per the same.
    """
    size = fitted(size_of(generated), side, FLOW_ENLARGEMENT)
    size = (max(MINIMUM_SIDE, size[0]), max(MINIMUM_SIDE, size[1]))
    picture = resized(generated, size)
    base, shown = start.seen(region, size)
    return picture, (base, shown), magnification(base, shown), min(1.0, generated.shape[1] / size[0])
