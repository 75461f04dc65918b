"""The weight-free segmenter: regions sheltered by edges, then GrabCut, then a soft edge."""

from __future__ import annotations

from typing import Literal

import numpy as np

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes
from refgc.imaging.image import MARKED, Image, Mask
from refgc.masks import appearance, shapes
from refgc.masks.graph_cut import Bools
from refgc.masks.marks import Marks, correct, marks_in
from refgc.masks.openings import openings
from refgc.masks.outline import find_outline
from refgc.masks.prompt import Prompt, require_same_picture
from refgc.masks.region import NOTHING_THERE, REGION_REACH, reach_of, rough_region
from refgc.masks.soft_edge import soften

ROUNDS = 4
# Of a whole object that was given roughly only the edge is in doubt, so far in sizes of it.
ALPHA_REACH = 0.06

NO_WORDS = (
    "The weight-free segmenter cannot read; mark the object by a box or a click, or set REFGC_SAM to the weights of a "
    "SAM 3."
)


class GrabCutSegmenter:
    """Finds objects by their edges, colours and places, without any weights; torch is not needed."""

    name: Literal["grabcut"] = "grabcut"
    reads_text = False

    def segment(self, image: Image, prompt: Prompt) -> Mask:
        """The mask of the object; see `Segmenter.segment`.

        Without any mark it is the picture's own transparency, what stands on a plain background, or the most prominent
        thing near the middle.

        Raises:
            InputError: words were given, the marks are of another picture, or nothing was found.
        """
        require_same_picture(image, prompt)
        if prompt.text is not None:
            raise InputError(NO_WORDS)
        if prompt.is_empty and image.alpha is not None:
            return image.alpha
        view, rough = rough_region(image, prompt)
        picture = view.of_picture(image.pixels)
        found = _outline(picture, rough, marks_in(view, image, prompt), prompt)
        soft = soften(image.pixels, found, view)
        if image.alpha is not None:
            soft = np.minimum(soft, image.alpha.values)
        if soft.max() < MARKED:
            raise InputError(NOTHING_THERE)
        return Mask(soft)


def _outline(picture: Bytes, rough: Bools, marks: Marks, prompt: Prompt) -> Bools:
    """The object in a view, from what was marked first; then put right where later clicks contradict it."""
    colours = appearance.lab(picture)
    inside, outside = _bounds(rough, marks, prompt)
    found = find_outline(colours, rough, inside, outside, ROUNDS)
    seen_through = openings(colours, found) & ~inside
    if seen_through.any():
        found = find_outline(colours, found & ~seen_through, inside, outside | seen_through, ROUNDS)
    correction = correct(found, picture, marks)
    if correction is None:
        return found
    inside, outside = _bounds(correction.region, marks, prompt)
    outside = (outside | correction.less) & ~correction.more
    inside = (inside | correction.more) & ~outside
    better = find_outline(colours, correction.region, inside, outside, ROUNDS)
    # A click changes what joins it, and nothing else.
    added = shapes.parts_with(better & ~found, correction.more)
    removed = shapes.parts_with(found & ~better, correction.less)
    return (found | added) & ~removed


def _bounds(region: Bools, marks: Marks, prompt: Prompt) -> tuple[Bools, Bools]:
    """What surely is object and what surely is not, around a region."""
    inside, outside = marks.seed, marks.outside
    if prompt.alpha is not None:
        reach = reach_of(region, ALPHA_REACH)
        inside, outside = inside | shapes.shrunken(region, reach), outside | ~shapes.grown(region, reach)
    elif prompt.box is None:
        outside = outside | ~shapes.grown(region, reach_of(region, REGION_REACH))
    return inside & ~outside, outside
