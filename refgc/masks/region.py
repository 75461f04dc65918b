"""Roughly where the object is: of the candidates the one that the marks and the looks of objects speak for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refgc.errors import InputError
from refgc.imaging.image import MARKED, Image
from refgc.masks import appearance, candidates, scene, shapes
from refgc.masks.graph_cut import Bools
from refgc.masks.marks import Marks, correct, marks_in, near
from refgc.masks.outline import find_outline
from refgc.masks.plain_background import object_on_plain_background
from refgc.masks.prompt import Box, Prompt
from refgc.masks.scene import Scene
from refgc.masks.view import View, around, whole

# Regions are looked for in the whole picture at this size, or in a box at that; the outline in its surroundings.
SURVEY_SIDE, BOX_SIDE, OUTLINE_SIDE = 256, 128, 192
# Candidates are compared by outlines of less detail, and only the best of them.
DRAFT_SIDE, DRAFT_ROUNDS, DRAFT_GROUPS = 112, 3, 6
DRAFTS = 8
# How much around a box or a region its background is learned from, and how far beyond a region the object may reach, in
# sizes of it.
BOX_MARGIN, REGION_MARGIN, REGION_REACH = 0.25, 0.4, 0.2
# A region that is wrong about so many clicks is another thing; each makes a region so much less likely the object.
CONTRADICTED, DOUBT = 0.5, 0.3
# What it counts, beside that edges and colours agree on a region, that it reaches the sides of its box, and fills it.
FIT, FILL = 0.5, 0.2

NOTHING_THERE = "No object was found at the marks; draw a box around it."
NOTHING_STANDS_OUT = "No object stands out in the picture; mark it by a box or a click."


def rough_region(image: Image, prompt: Prompt) -> tuple[View, Bools]:
    """A view of the object's surroundings, and roughly where it is in it.

    Raises:
        InputError: nothing was found.
    """
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
    """The object in a box, roughly: of the candidates the one on which edges, colours and the box agree most."""
    picture = view.of_picture(image.pixels)
    surveyed = scene.survey(appearance.lab(picture))
    marks = marks_in(view, image, prompt)
    rectangle = view.rectangle(box)
    regions = candidates.within(surveyed, view.of_box(box))
    outlines = [
        find_outline(surveyed.colours, region, marks.seed, marks.outside, DRAFT_ROUNDS, DRAFT_GROUPS)
        for region in regions
    ]
    ratings = [
        shapes.overlap(outline, region)
        + FIT * shapes.overlap(shapes.bounding(outline), rectangle)
        + FILL * np.count_nonzero(outline) / np.count_nonzero(rectangle)
        for outline, region in zip(outlines, regions, strict=True)
    ]
    return outlines[int(np.argmax(ratings))]


def _region(image: Image, prompt: Prompt, survey: View) -> Bools:
    """The object in the whole picture, roughly."""
    picture = survey.of_picture(image.pixels)
    surveyed = scene.survey(appearance.lab(picture))
    marks = marks_in(survey, image, prompt)
    if not marks.seed.any():
        plain = object_on_plain_background(picture)
        barred = marks.outside | near(picture.shape, marks.negative)
        return plain > 0 if plain is not None and not plain[barred].any() else _most_prominent(surveyed, barred)
    around = candidates.around_marks(surveyed, marks.seed) or candidates.of_one_colour(surveyed, marks.seed)
    if not around:
        raise InputError(NOTHING_THERE)
    first = _likeliest(surveyed, marks.first, around)
    if marks.contradiction(first) < CONTRADICTED:
        return first
    # Later clicks only put right what came of the seed, unless they say that it is another thing.
    correction = correct(first, picture, marks)
    others = candidates.around_marks(surveyed, marks.seed, near(picture.shape, marks.negative))
    return _likeliest(surveyed, marks, [*others, first if correction is None else correction.region])


def _likeliest(surveyed: Scene, marks: Marks, regions: Sequence[Bools]) -> Bools:
    """Of the regions the one whose outline looks most like an object and agrees with the clicks."""
    promise = np.array([_rating(surveyed, marks, region) for region in regions])
    drafts = [_draft(surveyed, regions[index], marks) for index in np.argsort(-promise, kind="stable")[:DRAFTS]]
    return max(drafts, key=lambda draft: _rating(surveyed, marks, draft) if draft.any() else -np.inf)


def _rating(surveyed: Scene, marks: Marks, region: Bools) -> float:
    return scene.objectness(surveyed, region) - DOUBT * marks.contradiction(region)


def _most_prominent(surveyed: Scene, barred: Bools) -> Bools:
    regions = candidates.anywhere(surveyed, barred)
    if not regions:
        raise InputError(NOTHING_STANDS_OUT)
    return max(regions, key=lambda region: scene.prominence(surveyed, region))


def _draft(surveyed: Scene, region: Bools, marks: Marks) -> Bools:
    """The outline around a region, in less detail."""
    size = (region.shape[1], region.shape[0])
    view = around(shapes.box_of(region), REGION_MARGIN, size, DRAFT_SIDE)
    rough = view.of_values(region.astype(np.float32)) > 0.5
    there = marks.within(view)
    outside = there.outside | ~shapes.grown(rough, reach_of(rough, REGION_REACH))
    colours = view.of_values(surveyed.colours)
    outside = outside & ~near(rough.shape, there.positive) | near(rough.shape, there.negative)
    inside = (there.seed | near(rough.shape, there.positive)) & ~outside
    outline = find_outline(colours, rough, inside, outside, DRAFT_ROUNDS, DRAFT_GROUPS)
    return view.back(outline, size)


def reach_of(region: Bools, share: float) -> float:
    """So many sizes of a region, in pixels."""
    left, top, right, bottom = shapes.box_of(region)
    return max(1.0, share * float(np.sqrt((right - left) * (bottom - top))))
