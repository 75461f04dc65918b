"""Several references of one object: at each place the surest one, and of sure ones in each pixel the most trusted."""

from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from refgc.correspondence.exposure import ExposedPair
from refgc.correspondence.find import Finding, Search
from refgc.correspondence.fuse import Layer, fuse_layers
from refgc.correspondence.report import TAKEN, PlacedObject
from refgc.imaging.arrays import Bools, Bytes, Floats, Size, enlarge
from refgc.imaging.levels import Levels
from refgc.request import RefineRequest

# The constants of this file were chosen by hand, not fitted.
# Two references show the same object, or the same copy of it, if the smaller of the two outlines lies in the other by
# this share.
SAME_PLACE = 0.5
# A placement whose log10 of false alarms is at most this is sure; surer ones are not better. Where two references show
# the same object, the second one adds to the first only if its placement is sure, and its confidence at most by the
# margin below that of the first. The trust of weaker ones is too uncertain for the largest of several to be the best.
SURE = -80.0
CONFIDENCE_MARGIN = 0.03


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


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """An object or a copy as one reference shows it."""

    view: View
    found: Finding
    faces: list[Layer]

    @property
    def rank(self) -> tuple[float, float]:
        """The lower, the better: how sure the placement is, then how well the object fits."""
        return max(self.found.log_false_alarms, SURE), -self.faces[0].weights.probability

    def may_add_to(self, better: "_Candidate") -> bool:
        """Whether parts of the object are taken from this one as well."""
        (false_alarms, confidence), (_, of_better) = self.rank, better.rank
        return false_alarms == SURE and confidence <= of_better + CONFIDENCE_MARGIN

    def outline(self) -> Bools:
        """Where it is in the whole generated picture (height, width)."""
        width, height = self.view.request.generated.size
        outline = np.zeros((height, width), bool)
        self.found.region.of(outline)[:] = _enlarged_outline(self.faces, self.found.region.size)
        return outline


def worth_blending(views: list[View]) -> list[View]:
    """The views from which something would be taken, the most surely placed one first; at least one.

    Args:
        views: aligned; each has something placed, and there is at least one.
    """
    ordered = sorted(views, key=lambda view: _Candidate(view, view.found.findings[0], view.layers[0]).rank)
    return [view for view in ordered if _gives_something(view)] or ordered[:1]


def unplaced(views: list[View], used: list[View]) -> dict[int, bool]:
    """By the numbers of the views that are not used, whether the object looks mirrored in them."""
    numbers = {view.number for view in used}
    return {view.number: view.found.mirrored for view in views if view.number not in numbers}


def fuse_views(views: list[View], fused: Levels, aligned: Bytes) -> tuple[list[PlacedObject], Bytes]:
    """Blend what all references show into a picture.

    Args:
        views: the surest first; each has something placed.
        fused: uint8 or uint16 RGB of the output size, the upscaled picture at first; the objects are blended into it.
        aligned: uint8 RGB of the output size, white at first; the placed references are drawn into it.

    Returns:
        What was placed, the surest first, and (height, width) of the output the number of the reference that most of a
        pixel comes from; 0 where nothing was taken.
    """
    objects: list[PlacedObject] = []
    sources = np.zeros(fused.shape[:2], np.uint8)
    trusts: dict[int, Floats] = {}
    for place in _places(views):
        parts = []
        for one in place:
            view = one.view
            others = [trust for number, trust in trusts.items() if number != view.number]
            earlier = reduce(np.maximum, others) if others else None
            trust = fuse_layers(view.request, view.pair, one.found, one.faces, fused, aligned, earlier)
            sources[(trust > TAKEN) if earlier is None else (trust > TAKEN) & (trust > earlier)] = view.number
            if len(views) > 1:
                trusts[view.number] = np.maximum(trust, trusts.get(view.number, np.float32(0.0)))
            parts.append(PlacedObject(one.found, one.faces, trust))
        objects.append(reduce(PlacedObject.joined, parts))
    return objects, sources


def _places(views: list[View]) -> list[list[_Candidate]]:
    """What is blended at each place of the generated picture where an object or a copy is, the surest first."""
    places: list[list[_Candidate]] = []
    outlines: list[Bools] = []
    for view in views:
        # Copies that one reference shows are not the same one.
        known = len(places)
        for found, faces in zip(view.found.findings, view.layers, strict=True):
            candidate = _Candidate(view, found, faces)
            outline = candidate.outline()
            same = next((at for at in range(known) if _is_same(outlines[at], outline)), None)
            if same is None:
                places.append([candidate])
                outlines.append(outline)
            else:
                places[same].append(candidate)
    return [_sure(place) for place in places]


def _sure(candidates: list[_Candidate]) -> list[_Candidate]:
    """The best candidate of a place, and those others that may add to it."""
    best, *others = sorted(candidates, key=lambda one: one.rank)
    return [best, *(one for one in others if one.may_add_to(best))]


def _is_same(one: Bools, other: Bools) -> bool:
    return int((one & other).sum()) > SAME_PLACE * min(int(one.sum()), int(other.sum()))


def _enlarged_outline(faces: list[Layer], size: Size) -> Bools:
    return np.asarray(enlarge(faces[0].weights.outline, size) > 0.5)


def _gives_something(view: View) -> bool:
    return any(bool((layer.weights.trust > TAKEN).any()) for faces in view.layers for layer in faces)
