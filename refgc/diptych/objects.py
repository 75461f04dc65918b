"""Masks that nobody gave: found by the segmenter, in the scene with the help of the reference."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.correspondence.find import Finding, find
from refgc.diptych.conditions import checked_object_mask
from refgc.errors import InputError
from refgc.imaging.arrays import Floats
from refgc.imaging.image import MARKED, Image, Mask
from refgc.masks import Prompt, Segmenter, choose_segmenter
from refgc.request import RefineRequest

# A request's object name when nobody gave one: no word that a segmenter could look for.
NAMELESS = "object"
# From this confidence on, matches with the reference say where the object is in the scene.
SURE = 0.9
# What lies between the matches is object, this many pixels less, since features lie beside outlines too.
RIM = 4


def find_in_reference(reference: Image, object_name: str) -> Mask:
    """The object in the reference: what stands out, or what its name says.

    Args:
        reference: the HRRI.
        object_name: in words, for segmenters that read.

    Raises:
        InputError: no object was found.
        EngineError: the segmenter failed.
    """
    segmenter = choose_segmenter()
    # A transparency that told the object from its background would have been its mask.
    opaque = Image(reference.pixels)
    return _segmented(segmenter, opaque, _named(segmenter, opaque, object_name), "reference")


def find_in_scene(scene: Image, reference: Image, reference_mask: Mask, object_name: str) -> Mask:
    """The reference's object in the scene: where it matches, else what stands out, or what its name says.

    Args:
        scene: the HRGT, or another scene.
        reference: the HRRI.
        reference_mask: the object in it.
        object_name: in words, for segmenters that read.

    Raises:
        InputError: no object was found.
        EngineError: the segmenter failed.
    """
    segmenter = choose_segmenter()
    finding = find(RefineRequest(reference, scene, reference_mask=reference_mask))
    if finding is None or finding.confidence < SURE:
        prompt = _named(segmenter, scene, object_name)
    else:
        prompt = _matched(finding, reference_mask, scene)
    return _segmented(segmenter, scene, prompt, "scene")


def _segmented(segmenter: Segmenter, picture: Image, prompt: Prompt, name: str) -> Mask:
    try:
        return checked_object_mask(segmenter.segment(picture, prompt), f"{name} mask")
    except InputError as error:
        raise InputError(f"No object was found in the {name}; give a mask of the {name} that marks it.") from error


def _named(segmenter: Segmenter, picture: Image, object_name: str) -> Prompt:
    says_something = segmenter.reads_text and object_name != NAMELESS
    return Prompt(picture.size, text=object_name if says_something else None)


def _matched(finding: Finding, reference_mask: Mask, scene: Image) -> Prompt:
    """The object is what lies between the matches, less gaps that the placed reference shows."""
    places = np.clip(np.rint(finding.matches.generated), 0, np.array(scene.size) - 1).astype(np.int32)
    hull = np.zeros((scene.size[1], scene.size[0]), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(places), 1)
    between = cv2.erode(hull, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)) > 0
    placed = cv2.warpPerspective(
        reference_mask.values, finding.homographies[0], scene.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    scribble: Floats = (between & (placed >= MARKED)).astype(np.float32)
    if not scribble.any():
        return Prompt(scene.size, positive=tuple((int(x), int(y)) for x, y in places))
    return Prompt(scene.size, scribble=Mask(scribble))
