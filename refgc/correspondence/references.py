"""Several references of one object: each pixel is taken from the one that is trusted most there."""

from dataclasses import dataclass, field

import numpy as np

from refgc.correspondence.exposure import ExposedPair
from refgc.correspondence.find import Finding, Search
from refgc.correspondence.fuse import Layer, fuse_layers
from refgc.correspondence.report import TAKEN, PlacedObject
from refgc.imaging.arrays import Bools, Bytes, Floats, Size, enlarge
from refgc.imaging.levels import Levels
from refgc.request import RefineRequest

# Two references show the same object, or the same copy of it, if the smaller of the two outlines lies in the other by
# this share. Chosen by hand, not fitted.
SAME_PLACE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One reference, and what was found of it in the generated picture.

    Attributes:
        number: of the reference, from 1.
        request: with this reference alone.
        pair: both pictures, prepared.
        found: the object and its copies.
        layers: the faces of each of them, the surest first; empty until they are aligned.
    """

    number: int
    request: RefineRequest
    pair: ExposedPair
    found: Search
    layers: list[list[Layer]] = field(default_factory=list)


def most_trusted_first(views: list[View]) -> list[View]:
    """The views in the order of the area that is taken from each, the largest first."""
    return sorted(views, key=lambda view: -sum(map(_trusted_area, view.found.findings, view.layers)))


def _trusted_area(found: Finding, faces: list[Layer]) -> float:
    """Mean trust times the area, in pixels of the generated picture."""
    width, height = found.region.size
    return max(float(layer.weights.trust.mean()) for layer in faces) * width * height


def fuse_views(views: list[View], fused: Levels, aligned: Bytes) -> tuple[list[PlacedObject], Bytes]:
    """Blend what all references show into a picture.

    Args:
        views: the most trusted first; each has something placed.
        fused: uint8 or uint16 RGB of the output size, the upscaled picture at first; the objects are blended into it.
        aligned: uint8 RGB of the output size, white at first; the placed references are drawn into it.

    Returns:
        What was placed, the surest first, and (height, width) of the output the number of the reference that most of a
        pixel comes from; 0 where nothing was taken.
    """
    objects: list[PlacedObject] = []
    sources = np.zeros(fused.shape[:2], np.uint8)
    earlier: Floats | None = None
    for view in views:
        placed = [
            PlacedObject(one, faces, fuse_layers(view.request, view.pair, one, faces, fused, aligned, earlier))
            for one, faces in zip(view.found.findings, view.layers, strict=True)
        ]
        for one in placed:
            taken = one.trust > TAKEN
            sources[taken if earlier is None else taken & (one.trust > earlier)] = view.number
        if view is not views[-1]:
            earlier = np.maximum.reduce([one.trust for one in placed] + ([] if earlier is None else [earlier]))
        objects = _merged(objects, placed, view.request.generated.size)
    return objects, sources


def _merged(objects: list[PlacedObject], placed: list[PlacedObject], size: Size) -> list[PlacedObject]:
    """What earlier references placed together with what another one placed, each object and copy once."""
    outlines = [_outline(one, size) for one in objects]
    merged = list(objects)
    for one in placed:
        outline = _outline(one, size) if objects else None
        at = next((at for at, other in enumerate(outlines) if outline is not None and _overlap(outline, other)), None)
        if at is None:
            merged.append(one)
        else:
            merged[at] = merged[at].joined(one)
    return merged


def _outline(one: PlacedObject, size: Size) -> Bools:
    """Where an object is in the generated picture, whose (width, height) is `size`."""
    outline = np.zeros((size[1], size[0]), bool)
    one.found.region.of(outline)[:] = enlarge(one.layers[0].weights.outline, one.found.region.size) > 0.5
    return outline


def _overlap(one: Bools, other: Bools) -> bool:
    return int((one & other).sum()) > SAME_PLACE * min(int(one.sum()), int(other.sum()))
