"""Object localisation: where the generated picture shows the reference's object, and from which side."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.coarse_map import CoarseMap, fit_coarse_map, held_out_errors
from refgc.correspondence.cylinder import fit_cylinder
from refgc.correspondence.exposure import ExposedPair, expose
from refgc.correspondence.learned import find_networks
from refgc.correspondence.learned_search import find_learned_evidence
from refgc.correspondence.match import Matches, find_features, match_features, search_mask
from refgc.correspondence.placement import Placement, middle_plane, place_all, placement_scale, with_learned
from refgc.correspondence.segment import object_at_matches, shows_one_scene
from refgc.correspondence.silhouette import LOG_FALSE_ALARMS, SilhouettePlacement, place_by_silhouette
from refgc.imaging.arrays import Floats, luma, resized, size_of
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted, rescale_points, rescaling
from refgc.machine import BLAS_THREADS
from refgc.masks.plain_background import object_on_plain_background
from refgc.request import RefineRequest

# The constants of this file were chosen by hand, not fitted.
# Longer sides in pixels at which features are found; SIFT costs four times as much at twice the size. The generated
# picture is enlarged by at most this factor for it.
MATCHING_SIDE = 1024
REFERENCE_SIDE = 1280
MATCHING_ENLARGEMENT = 4.0
# How many faces of one object are placed separately.
FACES = 2
# A placement whose log10 of false alarms is below this is not compared with the mirrored reference. An object that is
# nearly its own mirror image matches both, so the mirrored one has to be so much surer.
MIRROR_CHECK = -80.0
MIRROR_MARGIN = 4.0
# The most copies of an object beside the first, and the longer side at which their places are marked.
COPIES = 3
COPY_SIDE = 512
# Margin around the object in which it is aligned, as a fraction of its longer side.
MARGIN = 0.15


@dataclass(frozen=True, slots=True)
class Finding:
    """Where the object is; coordinates are pixels of the original pictures.

    Attributes:
        maps: from generated to reference coordinates, one for each face of the object, the surest first.
        matches: the matches that agree with any of them.
        log_false_alarms: of the surest placement, log10 of what is expected by chance.
        region: the part of the generated picture to work on.
        object_mask: (height, width) of the reference in [0, 1], or None where both pictures show one scene.
        silhouette: the placement of an object that was found by its outline; None where matches placed it.
    """

    maps: tuple[CoarseMap, ...]
    matches: Matches
    log_false_alarms: float
    region: Region
    object_mask: Floats | None
    silhouette: SilhouettePlacement | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found.

    Attributes:
        findings: the object, and further copies of it; empty where nothing was placed.
        mirrored: whether the object matches the mirrored reference better, so that nothing was placed.
    """

    findings: tuple[Finding, ...]
    mirrored: bool = False


def find(request: RefineRequest, pair: ExposedPair | None = None) -> Finding | None:
    """The reference's object in the generated picture, without a look at copies; None where it was not placed.

    Args:
        request: the pictures and the masks.
        pair: the same pictures, prepared; None prepares them here.
    """
    with BLAS_THREADS.one():
        matching = _Matching(request, pair or expose(request.reference, request.generated))
        placements = matching.placements()
        return matching.object(placements) if placements else None


def search(request: RefineRequest, pair: ExposedPair) -> Search:
    """Match both pictures and place the reference, wherever its object is seen.

    Args:
        request: the pictures and the masks.
        pair: the same pictures, prepared.
    """
    matching = _Matching(request, pair)
    placements = matching.placements()
    if matching.is_mirrored(placements):
        return Search((), mirrored=True)
    first = matching.object(placements) if placements else matching.by_silhouette()
    if first is None or first.silhouette is not None:
        return Search(() if first is None else (first,))
    return Search((first, *matching.copies(first)))


class _Matching:
    """The features of both pictures in their matching frames, and what is found with them."""

    def __init__(self, request: RefineRequest, pair: ExposedPair) -> None:
        self._generated, self._reference = pair.generated, pair.reference
        self._size, self._reference_size = size_of(pair.generated), size_of(pair.reference)
        self._frame = fitted(self._size, MATCHING_SIDE, MATCHING_ENLARGEMENT)
        self._reference_frame = fitted(self._reference_size, REFERENCE_SIDE)
        given = request.reference_mask
        self._mask = given.values if given else object_on_plain_background(request.reference.pixels)
        marked = request.generated_mask.values if request.generated_mask else None
        self._greys = (
            luma(resized(pair.generated, self._frame)),
            luma(resized(pair.reference, self._reference_frame)),
        )
        self._marked = marked
        self._masks = tuple(
            None if mask is None else search_mask(mask, size)
            for mask, size in ((marked, self._frame), (self._mask, self._reference_frame))
        )
        self._features = [find_features(grey, where) for grey, where in zip(self._greys, self._masks, strict=True)]
        self._matches = match_features(*self._features)
        self._by_sift = place_all(self._matches, self._reference_frame, FACES)

    def placements(self) -> list[Placement]:
        """All placements, the surest first."""
        networks = find_networks()
        if networks is None:
            return self._by_sift
        evidence = find_learned_evidence(self._generated, self._reference, networks, self._marked, self._mask)
        moving = evidence.matches.at(
            rescale_points(evidence.matches.generated, self._size, self._frame),
            rescale_points(evidence.matches.reference, self._reference_size, self._reference_frame),
        )
        return with_learned(self._by_sift, moving, evidence.log_chance)

    def object(self, placements: list[Placement]) -> Finding | None:
        """The object with its faces, or one scene; None where it lies outside of the picture."""
        best, mask = placements[0], self._mask
        if mask is None and shows_one_scene(best.matches, self._frame, self._reference_frame):
            plane = middle_plane(self._matches, self._by_sift[0]) if self._by_sift else best.homography
            flat = CoarseMap(self._original(plane), None, self._size)
            return Finding((flat,), self._located(best.matches), best.log_false_alarms, Region(0, 0, *self._size), None)
        located = self._located(Matches.joined([face.matches for face in placements]))
        if mask is None:
            mask = object_at_matches(self._reference, located.reference)
        return self._finding(placements, located, mask)

    def by_silhouette(self) -> Finding | None:
        """The object by its outline, for one without texture; None where that is not certain enough."""
        placed = place_by_silhouette(self._generated, self._reference, self._marked, self._mask)
        if placed is None:
            return None
        region = placed.map.object_region(placed.mask, MARGIN)
        if region is None:
            return None
        here, there = placed.points
        unknown, certain = np.full(len(here), np.nan, np.float32), np.zeros(len(here), np.float32)
        matches = Matches(here, there, unknown, unknown, certain)
        return Finding((placed.map,), matches, LOG_FALSE_ALARMS, region, placed.mask, placed)

    def is_mirrored(self, placements: list[Placement]) -> bool:
        """Whether the mirrored reference is placed with clearly more certainty than the reference itself."""
        surest = placements[0].log_false_alarms if placements else 0.0
        if surest < MIRROR_CHECK:
            return False
        grey, where = (None if field is None else field[:, ::-1].copy() for field in (self._greys[1], self._masks[1]))
        assert grey is not None
        mirrored = place_all(match_features(self._features[0], find_features(grey, where)), self._reference_frame, 1)
        return bool(mirrored) and mirrored[0].log_false_alarms < surest - MIRROR_MARGIN

    def copies(self, first: Finding) -> list[Finding]:
        """Further copies of an object, each found with the features that lie on none before."""
        found: list[Finding] = []
        if first.object_mask is None:
            return found
        size = fitted(self._size, COPY_SIDE)
        whole = Region(0, 0, *self._size)
        free = np.ones((size[1], size[0]), bool)
        solid = search_mask(first.object_mask, self._reference_frame)
        reference = self._features[1].at(solid)
        latest = first
        while len(found) < COPIES:
            placed = latest.maps[0].covered(first.object_mask, whole, size)
            free &= cv2.dilate(placed.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
            where = cv2.resize(free.astype(np.uint8) * 255, self._frame, interpolation=cv2.INTER_NEAREST)
            placements = place_all(match_features(self._features[0].at(where), reference), self._reference_frame, 1)
            if not placements:
                break
            copy = self._finding(placements, self._located(placements[0].matches), first.object_mask)
            if copy is None:
                break
            found.append(copy)
            latest = copy
        return found

    def _finding(self, faces: list[Placement], located: Matches, mask: Floats) -> Finding | None:
        maps = []
        for face in faces:
            homography = self._original(face.homography)
            if face.is_bent:
                scale = placement_scale(face.homography) * self._reference_size[0] / self._reference_frame[0]
                maps.append(fit_coarse_map(homography, self._located(face.matches), self._size, scale))
            else:
                maps.append(CoarseMap(homography, None, self._size))
        turned = self._cylinder(faces[0], maps, located)
        maps = maps if turned is None else [turned]
        region = maps[0].object_region(mask, MARGIN)
        return Finding(tuple(maps), located, faces[0].log_false_alarms, region, mask) if region is not None else None

    def _cylinder(self, surest: Placement, maps: list[CoarseMap], located: Matches) -> CoarseMap | None:
        """The map of a turned cylinder, where that predicts the matches best."""
        unit = self._reference_size[0] / self._reference_frame[0]
        scale = placement_scale(surest.homography) * unit
        by_face = [held_out_errors(face.homography, located, self._size, scale) for face in maps]
        # Each match of a box lies on one of its faces.
        faces = np.min([plane for plane, _ in by_face], axis=0)
        cylinder = fit_cylinder(located, unit, [faces, *(bent for _, bent in by_face)])
        return None if cylinder is None else replace(maps[0], deviation=None, cylinder=cylinder)

    def _original(self, homography: NDArray[np.float64]) -> NDArray[np.float64]:
        """A homography between the matching frames as one between the pictures."""
        from_frame = rescaling(self._reference_frame, self._reference_size)
        return np.asarray(from_frame @ homography @ rescaling(self._size, self._frame))

    def _located(self, matches: Matches) -> Matches:
        """Matches in coordinates of the pictures."""
        return matches.at(
            rescale_points(matches.generated, self._frame, self._size),
            rescale_points(matches.reference, self._reference_frame, self._reference_size),
        )
