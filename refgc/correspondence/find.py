"""Object localisation: where the generated picture shows the reference's object, and from which side."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.correspondence.coarse_map import CoarseMap, fit_coarse_map
from refgc.correspondence.exposure import ExposedPair, expose
from refgc.correspondence.learned import find_networks
from refgc.correspondence.match import Matches, find_features, match_features, match_learned
from refgc.correspondence.placement import middle_plane, place_all, placement_scale, with_learned
from refgc.correspondence.segment import object_at_matches, shows_one_scene
from refgc.imaging.arrays import Bytes, Floats, Size, luma, resized, shrink, size_of
from refgc.imaging.region import Region, object_region
from refgc.imaging.warp import fitted, rescale_points, rescaling
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
# Margin around the object in which it is aligned, as a fraction of its longer side.
MARGIN = 0.15


@dataclass(frozen=True, slots=True)
class Finding:
    """Where the object is; coordinates are pixels of the original pictures.

    Attributes:
        maps: from generated to reference coordinates, one for each face of the object, the surest first.
        matches: the matches that agree with any of them.
        confidence: of the surest placement, in [0, 1].
        region: the part of the generated picture to work on.
        object_mask: (height, width) of the reference in [0, 1], or None where both pictures show one scene.
    """

    maps: tuple[CoarseMap, ...]
    matches: Matches
    confidence: float
    region: Region
    object_mask: Floats | None


def find(request: RefineRequest, pair: ExposedPair | None = None) -> Finding | None:
    """Match both pictures and place the reference; None where the matches could be random.

    Args:
        request: the pictures and the masks.
        pair: the same pictures, prepared; None prepares them here.
    """
    pair = pair or expose(request.reference, request.generated)
    generated, reference = pair.generated, pair.reference
    frame = fitted(size_of(generated), MATCHING_SIDE, MATCHING_ENLARGEMENT)
    reference_frame = fitted(size_of(reference), REFERENCE_SIDE)
    enlarged, smaller = resized(generated, frame), resized(reference, reference_frame)
    given = request.reference_mask
    mask = given.values if given else object_on_plain_background(request.reference.pixels)
    generated_mask = request.generated_mask.values if request.generated_mask else None
    greys = luma(enlarged), luma(smaller)
    masks = _search_mask(generated_mask, frame), _search_mask(mask, reference_frame)
    matches = match_features(*(find_features(grey, where) for grey, where in zip(greys, masks, strict=True)))
    by_sift = placements = place_all(matches, reference_frame, FACES)
    networks = find_networks()
    if networks is not None:
        learned = match_learned(*greys, networks, generated_mask=masks[0], reference_mask=masks[1])
        placements = with_learned(placements, learned, frame, reference_frame)
    if not placements:
        return None
    best = placements[0]
    one_scene = mask is None and shows_one_scene(best.matches, frame, reference_frame)
    faces = placements[:1] if one_scene else placements
    planes = [face.homography for face in faces]
    if one_scene and by_sift:
        planes = [middle_plane(matches, by_sift[0])]
    to_frame, from_frame = rescaling(size_of(generated), frame), rescaling(reference_frame, size_of(reference))

    def original(some: Matches) -> Matches:
        return some.at(
            rescale_points(some.generated, frame, size_of(generated)),
            rescale_points(some.reference, reference_frame, size_of(reference)),
        )

    maps = []
    for face, plane in zip(faces, planes, strict=True):
        homography = from_frame @ plane @ to_frame
        if face.is_bent and not one_scene:
            scale = placement_scale(face.homography) * size_of(reference)[0] / reference_frame[0]
            maps.append(fit_coarse_map(homography, original(face.matches), size_of(generated), scale))
        else:
            maps.append(CoarseMap(homography, None, size_of(generated)))
    located = original(Matches.joined([face.matches for face in faces]))
    if one_scene:
        return Finding(tuple(maps), located, best.confidence, Region(0, 0, *size_of(generated)), None)
    if mask is None:
        mask = object_at_matches(reference, located.reference)
    region = object_region(maps[0].homography, mask, size_of(generated), MARGIN)
    return Finding(tuple(maps), located, best.confidence, region, mask) if region is not None else None


def _search_mask(mask: Floats | None, size: Size) -> Bytes | None:
    """Where features are looked for: the mask, dilated since those beside the outline are good ones too."""
    if mask is None:
        return None
    marked = (shrink(mask, size) > 0.25).astype(np.uint8)
    reach = max(3, max(size) // 100)
    return np.asarray(cv2.dilate(marked, np.ones((reach, reach), np.uint8)) * 255, np.uint8)
