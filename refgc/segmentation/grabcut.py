"""The weight-free segmenter: regions sheltered by edges, then GrabCut, then a soft edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from refgc.correspondence.arrays import Bytes
from refgc.correspondence.segment import object_on_plain_background
from refgc.errors import InputError
from refgc.images import MARKED, Image, Mask
from refgc.segmentation import appearance, candidates, scene, shapes
from refgc.segmentation.graph_cut import Bools
from refgc.segmentation.marks import Marks, correct, marks_in, near
from refgc.segmentation.openings import openings
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
# A region that is wrong about so many clicks is another thing; each makes a region so much less likely the object.
CONTRADICTED, DOUBT = 0.5, 0.3
# What it counts, beside that edges and colours agree on a region, that it reaches the sides of its box, and fills it.
FIT, FILL = 0.5, 0.2

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
        reach = _reach(region, ALPHA_REACH)
        inside, outside = inside | shapes.shrunken(region, reach), outside | ~shapes.grown(region, reach)
    elif prompt.box is None:
        outside = outside | ~shapes.grown(region, _reach(region, REGION_REACH))
    return inside & ~outside, outside


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
    outside = there.outside | ~shapes.grown(rough, _reach(rough, REGION_REACH))
    colours = view.of_values(surveyed.colours)
    outside = outside & ~near(rough.shape, there.positive) | near(rough.shape, there.negative)
    inside = (there.seed | near(rough.shape, there.positive)) & ~outside
    outline = find_outline(colours, rough, inside, outside, DRAFT_ROUNDS, DRAFT_GROUPS)
    return view.back(outline, size)


def _reach(region: Bools, share: float) -> float:
    """So many sizes of a region, in pixels."""
    left, top, right, bottom = shapes.box_of(region)
    return max(1.0, share * float(np.sqrt((right - left) * (bottom - top))))
