"""Object localisation: where the generated picture shows the reference's object, and from which side."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.exposure import ExposedPair, expose
from refgc.correspondence.match import Matches, find_features, match_features, middle_plane, place_all
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
        homographies: 3x3 each, from generated to reference coordinates, one for each face of the object, the surest
            first.
        matches: the matches that agree with any of them.
        confidence: of the surest placement, in [0, 1].
        region: the part of the generated picture to work on.
        object_mask: (height, width) of the reference in [0, 1], or None where both pictures show one scene.
    """

    homographies: tuple[NDArray[np.float64], ...]
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
    matches = match_features(
        find_features(luma(enlarged), _search_mask(generated_mask, frame)),
        find_features(luma(smaller), _search_mask(mask, reference_frame)),
    )
    placements = place_all(matches, reference_frame, FACES)
    if not placements:
        return None
    best = placements[0]
    one_scene = mask is None and shows_one_scene(best.matches, frame, reference_frame)
    faces = placements[:1] if one_scene else placements
    planes = [middle_plane(matches, best)] if one_scene else [face.homography for face in faces]
    to_frame, from_frame = rescaling(size_of(generated), frame), rescaling(reference_frame, size_of(reference))
    homographies = tuple(from_frame @ plane @ to_frame for plane in planes)
    agreeing = Matches.joined([face.matches for face in faces])
    located = agreeing.at(
        rescale_points(agreeing.generated, frame, size_of(generated)),
        rescale_points(agreeing.reference, reference_frame, size_of(reference)),
    )
    if one_scene:
        return Finding(homographies, located, best.confidence, Region(0, 0, *size_of(generated)), None)
    if mask is None:
        mask = object_at_matches(reference, located.reference)
    region = object_region(homographies[0], mask, size_of(generated), MARGIN)
    return Finding(homographies, located, best.confidence, region, mask) if region is not None else None


def _search_mask(mask: Floats | None, size: Size) -> Bytes | None:
    """Where features are looked for: the mask, dilated since those beside the outline are good ones too."""
    if mask is None:
        return None
    marked = (shrink(mask, size) > 0.25).astype(np.uint8)
    reach = max(3, max(size) // 100)
    return np.asarray(cv2.dilate(marked, np.ones((reach, reach), np.uint8)) * 255, np.uint8)
