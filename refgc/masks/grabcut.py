"""The weight-free segmenter: an initial region enclosed by edges, then GrabCut, then a soft edge."""

from __future__ import annotations

from typing import Literal

import numpy as np

from refgc.errors import InputError
from refgc.imaging.arrays import Bools, Bytes
from refgc.imaging.image import MARKED, Image, Mask
from refgc.masks import appearance, morphology
from refgc.masks.initial_region import NOTHING_AT_MARKS, REGION_EXTENSION, box_fraction, initial_region
from refgc.masks.marks import Marks, find_correction, marks_in
from refgc.masks.outline import find_openings, find_outline
from refgc.masks.prompt import Prompt, require_same_picture
from refgc.masks.soft_edge import soften

# Rounds of GrabCut, and width of the uncertain band on each side of a rough mask's edge in sides of its box. Chosen by
# hand, not fitted.
ROUNDS = 4
ROUGH_MASK_BAND = 0.06

NO_WORDS = (
    "The weight-free segmenter cannot read; mark the object by a box or a click, or set REFGC_SAM to the weights of a "
    "SAM 3."
)


class GrabCutSegmenter:
    """Segments by edges, colours and positions, without weights; torch is not needed."""

    name: Literal["grabcut"] = "grabcut"
    reads_text = False

    def segment(self, image: Image, prompt: Prompt) -> Mask:
        """The mask of the object; see `Segmenter.segment`.

        Without any mark it is the picture's own transparency, or an object on a plain background, or the most prominent
        object near the centre.

        Raises:
            InputError: words were given, the marks are of another picture, or nothing was found.
        """
        require_same_picture(image, prompt)
        if prompt.text is not None:
            raise InputError(NO_WORDS)
        if prompt.is_empty and image.alpha is not None:
            return image.alpha
        view, rough = initial_region(image, prompt)
        picture = view.of_picture(image.pixels)
        found = _outline(picture, rough, marks_in(view, image, prompt), prompt)
        soft = soften(image.pixels, found, view)
        if image.alpha is not None:
            soft = np.minimum(soft, image.alpha.values)
        if soft.max() < MARKED:
            raise InputError(NOTHING_AT_MARKS)
        return Mask(soft)


def _outline(picture: Bytes, rough: Bools, marks: Marks, prompt: Prompt) -> Bools:
    """The object in a view, first without the later clicks, then corrected where they contradict it."""
    colours = appearance.lab(picture)
    inside, outside = _certain(rough, marks, prompt)
    found = find_outline(colours, rough, inside, outside, ROUNDS)
    openings = find_openings(colours, found) & ~inside
    if openings.any():
        found = find_outline(colours, found & ~openings, inside, outside | openings, ROUNDS)
    correction = find_correction(found, picture, marks)
    if correction is None:
        return found
    inside, outside = _certain(correction.region, marks, prompt)
    outside = (outside | correction.removed) & ~correction.added
    inside = (inside | correction.added) & ~outside
    better = find_outline(colours, correction.region, inside, outside, ROUNDS)
    # A click changes what is connected to it and nothing else.
    added = morphology.components_touching(better & ~found, correction.added)
    removed = morphology.components_touching(found & ~better, correction.removed)
    return (found | added) & ~removed


def _certain(region: Bools, marks: Marks, prompt: Prompt) -> tuple[Bools, Bools]:
    """What is certainly object and what certainly is not, around a region."""
    inside, outside = marks.seed, marks.outside
    if prompt.alpha is not None:
        band = box_fraction(region, ROUGH_MASK_BAND)
        inside, outside = inside | morphology.erode(region, band), outside | ~morphology.dilate(region, band)
    elif prompt.box is None:
        outside = outside | ~morphology.dilate(region, box_fraction(region, REGION_EXTENSION))
    return inside & ~outside, outside
