"""The weight-free segmenter: regions sheltered by edges, then GrabCut, then a soft edge."""

from __future__ import annotations

from typing import Literal

import numpy as np

from refgc.correspondence.segment import object_on_plain_background
from refgc.errors import InputError
from refgc.images import MARKED, Image, Mask
from refgc.segmentation import appearance, candidates, scene, shapes
from refgc.segmentation.graph_cut import Bools
from refgc.segmentation.marks import Marks, correct, marks_in
from refgc.segmentation.outline import find_outline
from refgc.segmentation.prompt import Box, Prompt, require_same_picture
from refgc.segmentation.scene import Scene
from refgc.segmentation.soft_edge import soften
from refgc.segmentation.view import View, around, whole

# Regions are looked for in the whole picture at this size, or in a box at that; the outline in its surroundings.
SURVEY_SIDE, BOX_SIDE, OUTLINE_SIDE = 256, 128, 192
ROUNDS = 4
# Candidates are compared by outlines of less detail, and only the best of them.
DRAFT_SIDE, DRAFT_ROUNDS, DRAFT_GROUPS = 112, 3, 6
DRAFTS = 8
# How much around a box or a region its background is learned from, and how far beyond a region the object may reach, in
# sizes of it. Of a whole object that was given roughly only the edge is in doubt.
BOX_MARGIN, REGION_MARGIN, REGION_REACH, ALPHA_REACH = 0.25, 0.4, 0.2, 0.06
# A region that is wrong about a click is so much less likely the object.
CONTRADICTED = 0.3
# An object fills its box about as well as any candidate does.
LOOSER = 0.1

NO_WORDS = (
    "The weight-free segmenter cannot read; mark the object by a box or a click, or set REFGC_SAM to the weights of a "
    "SAM 3."
)
NOTHING_THERE = "No object was found at the marks; draw a box around it."
NOTHING_STANDS_OUT = "No object stands out in the picture; mark it by a box or a click."


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
        view, rough = _rough_region(image, prompt)
        picture = view.of_picture(image.pixels)
        marks = marks_in(view, picture, image, prompt)
        rough, marks = correct(rough, picture, marks)
        reach = ALPHA_REACH if prompt.alpha is not None else REGION_REACH
        if prompt.box is None:
            marks = _around(rough, marks, reach, sure_within=prompt.alpha is not None)
        found = find_outline(appearance.lab(picture), rough, marks.inside, marks.outside, ROUNDS)
        soft = soften(image.pixels, found, view)
        if image.alpha is not None:
            soft = np.minimum(soft, image.alpha.values)
        if soft.max() < MARKED:
            raise InputError(NOTHING_THERE)
        return Mask(soft)


def _rough_region(image: Image, prompt: Prompt) -> tuple[View, Bools]:
    """A view of the object's surroundings, and roughly where it is in it."""
    if prompt.alpha is not None:
        view = around(shapes.box_of(prompt.alpha.values >= MARKED), BOX_MARGIN, image.size, OUTLINE_SIDE)
        return view, view.of_values(prompt.alpha.values) >= MARKED
    if prompt.box is not None:
        draft = around(prompt.box, BOX_MARGIN, image.size, BOX_SIDE)
        view = around(prompt.box, BOX_MARGIN, image.size, OUTLINE_SIDE)
        return view, view.of_view(_region_in_box(image, prompt, draft, prompt.box), draft)
    survey = whole(image.size, SURVEY_SIDE)
    region = _region(image, prompt, survey)
    view = around(survey.box_back(shapes.box_of(region)), REGION_MARGIN, image.size, OUTLINE_SIDE)
    return view, view.of_view(region, survey)


def _region_in_box(image: Image, prompt: Prompt, view: View, box: Box) -> Bools:
    """Of the candidates in a box that fill it well, the one on which edges and colours agree most."""
    picture = view.of_picture(image.pixels)
    surveyed = scene.survey(appearance.lab(picture))
    marks = marks_in(view, picture, image, prompt)
    rectangle = view.rectangle(box)
    regions = candidates.within(surveyed, view.of_box(box))
    outlines = [
        find_outline(surveyed.colours, region, marks.inside, marks.outside, DRAFT_ROUNDS, DRAFT_GROUPS)
        for region in regions
    ]
    fits = [shapes.overlap(shapes.bounding(outline), rectangle) for outline in outlines]
    agreement = [
        shapes.overlap(outline, region) if fit >= max(fits) - LOOSER else 0.0
        for outline, region, fit in zip(outlines, regions, fits, strict=True)
    ]
    return outlines[int(np.argmax(agreement))]


def _region(image: Image, prompt: Prompt, survey: View) -> Bools:
    """The object in the whole picture, roughly."""
    picture = survey.of_picture(image.pixels)
    surveyed = scene.survey(appearance.lab(picture))
    marks = marks_in(survey, picture, image, prompt)
    if not marks.inside.any():
        plain = object_on_plain_background(picture)
        if plain is not None and not (plain[marks.outside] > 0).any():
            return plain > 0
        return _most_prominent(surveyed, marks)
    regions = candidates.around_marks(surveyed, marks.seed) or candidates.of_one_colour(surveyed, marks.seed)
    if not regions:
        raise InputError(NOTHING_THERE)
    doubts = np.array([CONTRADICTED * marks.contradiction(region) for region in regions])
    promise = np.array([scene.objectness(surveyed, region) for region in regions]) - doubts
    likely = np.argsort(-promise, kind="stable")[:DRAFTS]
    drafts = [_draft(surveyed, regions[index], marks) for index in likely]
    ratings = [scene.objectness(surveyed, draft) if draft.any() else -np.inf for draft in drafts]
    return drafts[int(np.argmax(np.array(ratings) - doubts[likely]))]


def _most_prominent(surveyed: Scene, marks: Marks) -> Bools:
    regions = candidates.anywhere(surveyed, marks.outside)
    if not regions:
        raise InputError(NOTHING_STANDS_OUT)
    return max(regions, key=lambda region: scene.prominence(surveyed, region))


def _draft(surveyed: Scene, region: Bools, marks: Marks) -> Bools:
    """The outline around a region, in less detail."""
    size = (region.shape[1], region.shape[0])
    view = around(shapes.box_of(region), REGION_MARGIN, size, DRAFT_SIDE)
    rough = view.of_values(region.astype(np.float32)) > 0.5
    near = marks.within(view)
    inside, outside = _around(rough, near, REGION_REACH)[:2]
    colours = view.of_values(surveyed.colours)
    return view.back(find_outline(colours, rough, inside, outside, DRAFT_ROUNDS, DRAFT_GROUPS), size)


def _around(rough: Bools, marks: Marks, reach: float, *, sure_within: bool = False) -> Marks:
    """The marks, and that the object reaches no farther than so many sizes beyond its rough region."""
    left, top, right, bottom = shapes.box_of(rough)
    pixels = max(1.0, reach * float(np.sqrt((right - left) * (bottom - top))))
    outside = marks.outside | ~shapes.grown(rough | marks.inside, pixels)
    inside = marks.inside | shapes.shrunken(rough, pixels) if sure_within else marks.inside
    return marks._replace(inside=inside & ~outside, outside=outside)
