"""Automatic object masks: by the segmenter, in the scene with the help of matches with the reference."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.correspondence.find import Finding, find
from refgc.correspondence.placement import sureness
from refgc.diptych.conditions import checked_object_mask
from refgc.errors import InputError
from refgc.imaging.arrays import Floats
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.region import Region
from refgc.masks import Prompt, Segmenter, choose_segmenter
from refgc.request import RefineRequest

# A request's object name when nobody gave one. No segmenter can look for it.
NAMELESS = "object"
# From this confidence on, matches with the reference mark the object in the scene. Chosen by hand, not fitted.
MINIMUM_CONFIDENCE = 0.9
# The convex hull of the matches is eroded by so many pixels, since features lie on both sides of an outline. Chosen by
# hand, not fitted.
HULL_EROSION = 4


def find_in_reference(reference: Image, object_name: str) -> Mask:
    """The object in the reference: the most prominent one, or the one that its name describes.

    Args:
        reference: the HRRI.
        object_name: in words, for segmenters that understand them.

    Raises:
        InputError: no object was found.
        EngineError: the segmenter failed.
    """
    segmenter = choose_segmenter()
    # Transparency that marks the object has become the request's mask before; other transparency must not count.
    opaque = Image(reference.pixels)
    return _segmented(segmenter, opaque, _prompt_by_name(segmenter, opaque, object_name), "reference")


def find_in_scene(scene: Image, reference: Image, reference_mask: Mask, object_name: str) -> Mask:
    """The reference's object in the scene: where it matches, else as in `find_in_reference`.

    Args:
        scene: the HRGT, or another scene.
        reference: the HRRI.
        reference_mask: the object in it.
        object_name: in words, for segmenters that understand them.

    Raises:
        InputError: no object was found.
        EngineError: the segmenter failed.
    """
    segmenter = choose_segmenter()
    finding = find(RefineRequest(reference, scene, reference_mask=reference_mask))
    if finding is None or sureness(finding.log_false_alarms) < MINIMUM_CONFIDENCE:
        prompt = _prompt_by_name(segmenter, scene, object_name)
    else:
        prompt = _prompt_by_matches(finding, reference_mask, scene)
    return _segmented(segmenter, scene, prompt, "scene")


def _segmented(segmenter: Segmenter, picture: Image, prompt: Prompt, name: str) -> Mask:
    try:
        return checked_object_mask(segmenter.segment(picture, prompt), f"{name} mask")
    except InputError as error:
        raise InputError(f"No object was found in the {name}; give a mask of the {name} that marks it.") from error


def _prompt_by_name(segmenter: Segmenter, picture: Image, object_name: str) -> Prompt:
    has_words = segmenter.reads_text and object_name != NAMELESS
    return Prompt(picture.size, text=object_name if has_words else None)


def _prompt_by_matches(finding: Finding, reference_mask: Mask, scene: Image) -> Prompt:
    """A scribble over the convex hull of the matches, without gaps that the warped reference mask shows."""
    places = np.clip(np.rint(finding.matches.generated), 0, np.array(scene.size) - 1).astype(np.int32)
    hull = np.zeros((scene.size[1], scene.size[0]), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(places), 1)
    between = cv2.erode(hull, np.ones((2 * HULL_EROSION + 1, 2 * HULL_EROSION + 1), np.uint8)) > 0
    placed = finding.maps[0].placed(reference_mask.values, Region(0, 0, *scene.size), scene.size)
    scribble: Floats = (between & (placed >= MARKED)).astype(np.float32)
    if not scribble.any():
        return Prompt(scene.size, positive=tuple((int(x), int(y)) for x, y in places))
    return Prompt(scene.size, scribble=Mask(scribble))
