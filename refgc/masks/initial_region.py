"""The region that GrabCut starts from: of the candidates the one that marks and objectness favour."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from refgc.errors import InputError
from refgc.imaging.arrays import Bools
from refgc.imaging.image import MARKED, Image
from refgc.masks import appearance, candidates, morphology, objectness
from refgc.masks.marks import Marks, click_discs, find_correction, marks_in
from refgc.masks.objectness import EdgeMap
from refgc.masks.outline import find_outline
from refgc.masks.plain_background import object_on_plain_background
from refgc.masks.prompt import Box, Prompt
from refgc.masks.view import View, around, whole

# The constants of this file were chosen by hand, not fitted.
# Longer sides in pixels at which regions are looked for in the whole picture and in a box, and at which the outline is
# found around them.
SURVEY_SIDE, BOX_SIDE, OUTLINE_SIDE = 256, 128, 192
# Candidates are compared by draft outlines: longer side, rounds of GrabCut, components of each mixture, and how many of
# the candidates are drafted, the best first.
DRAFT_SIDE, DRAFT_ROUNDS, DRAFT_COMPONENTS = 112, 3, 6
DRAFTS = 8
# Margins around a box and around a region from which the background is learned, and how far the object may extend
# beyond its region, all in sides of them.
BOX_MARGIN, REGION_MARGIN, REGION_EXTENSION = 0.25, 0.4, 0.2
# A region that contradicts at least so many clicks is another object; each contradicted click lowers the score by this.
CONTRADICTION_LIMIT, CONTRADICTION_PENALTY = 0.5, 0.3
# Weights, against the overlap of outline and candidate, of the outline reaching the sides of its box and of filling it.
BOX_OVERLAP_WEIGHT, BOX_FILL_WEIGHT = 0.5, 0.2

NOTHING_AT_MARKS = "No object was found at the marks; draw a box around it."
NOTHING_PROMINENT = "No object stands out in the picture; mark it by a box or a click."


def initial_region(image: Image, prompt: Prompt) -> tuple[View, Bools]:
    """A view of the object's surroundings, and roughly where the object is in it.

    Raises:
        InputError: nothing was found.
    """
    if prompt.alpha is not None:
        view = around(morphology.bounding_box(prompt.alpha.values >= MARKED), BOX_MARGIN, image.size, OUTLINE_SIDE)
        return view, view.of_values(prompt.alpha.values) >= MARKED
    if prompt.box is not None:
        draft = around(prompt.box, BOX_MARGIN, image.size, BOX_SIDE)
        view = around(prompt.box, BOX_MARGIN, image.size, OUTLINE_SIDE)
        return view, view.of_view(_region_in_box(image, prompt, draft, prompt.box), draft)
    survey = whole(image.size, SURVEY_SIDE)
    region = _region_in_picture(image, prompt, survey)
    view = around(survey.box_back(morphology.bounding_box(region)), REGION_MARGIN, image.size, OUTLINE_SIDE)
    return view, view.of_view(region, survey)


def box_fraction(region: Bools, fraction: float) -> float:
    """A fraction of the side of a region's box, in pixels and at least 1."""
    return max(1.0, fraction * morphology.box_side(region))


def _region_in_box(image: Image, prompt: Prompt, view: View, box: Box) -> Bools:
    """The object in a box: of the candidates the one on which edges, colours and the box agree most."""
    edges = objectness.edge_map(appearance.lab(view.of_picture(image.pixels)))
    marks = marks_in(view, image, prompt)
    rectangle = view.rectangle(box)
    regions = candidates.within(edges, view.of_box(box))
    outlines = [
        find_outline(edges.colours, region, marks.seed, marks.outside, DRAFT_ROUNDS, DRAFT_COMPONENTS)
        for region in regions
    ]
    scores = [
        morphology.overlap(outline, region)
        + BOX_OVERLAP_WEIGHT * morphology.overlap(morphology.bounding_box_mask(outline), rectangle)
        + BOX_FILL_WEIGHT * np.count_nonzero(outline) / np.count_nonzero(rectangle)
        for outline, region in zip(outlines, regions, strict=True)
    ]
    return outlines[int(np.argmax(scores))]


def _region_in_picture(image: Image, prompt: Prompt, survey: View) -> Bools:
    """The object in the whole picture, by clicks, by a scribble or by nothing at all."""
    picture = survey.of_picture(image.pixels)
    edges = objectness.edge_map(appearance.lab(picture))
    marks = marks_in(survey, image, prompt)
    if not marks.seed.any():
        plain = object_on_plain_background(picture)
        excluded = marks.outside | click_discs(picture.shape, marks.negative)
        if plain is not None and not plain[excluded].any():
            return plain > 0
        return _most_prominent(edges, excluded)
    regions = candidates.around_marks(edges, marks.seed) or candidates.of_one_colour(edges, marks.seed)
    if not regions:
        raise InputError(NOTHING_AT_MARKS)
    first = _best(edges, marks.first, regions)
    if marks.contradiction(first) < CONTRADICTION_LIMIT:
        return first
    # Later clicks correct what the first one found, unless they say that it is another object.
    correction = find_correction(first, picture, marks)
    others = candidates.around_marks(edges, marks.seed, click_discs(picture.shape, marks.negative))
    return _best(edges, marks, [*others, first if correction is None else correction.region])


def _best(edges: EdgeMap, marks: Marks, regions: Sequence[Bools]) -> Bools:
    """The draft outline with the highest score, among those of the candidates with the highest scores."""
    scores = np.array([_score(edges, marks, region) for region in regions])
    best = [regions[index] for index in np.argsort(-scores, kind="stable")[:DRAFTS]]
    # OpenCV's minimum cut uses one core.
    with ThreadPoolExecutor(2) as threads:
        drafts = list(threads.map(lambda region: _draft(edges, region, marks), best))
    return max(drafts, key=lambda draft: _score(edges, marks, draft) if draft.any() else -np.inf)


def _score(edges: EdgeMap, marks: Marks, region: Bools) -> float:
    return objectness.objectness(edges, region) - CONTRADICTION_PENALTY * marks.contradiction(region)


def _most_prominent(edges: EdgeMap, excluded: Bools) -> Bools:
    regions = candidates.anywhere(edges, excluded)
    if not regions:
        raise InputError(NOTHING_PROMINENT)
    return max(regions, key=lambda region: objectness.prominence(edges, region))


def _draft(edges: EdgeMap, region: Bools, marks: Marks) -> Bools:
    """The outline around a candidate in less detail."""
    size = (region.shape[1], region.shape[0])
    view = around(morphology.bounding_box(region), REGION_MARGIN, size, DRAFT_SIDE)
    rough = view.of_values(region.astype(np.float32)) > 0.5
    there = marks.within(view)
    outside = there.outside | ~morphology.dilate(rough, box_fraction(rough, REGION_EXTENSION))
    colours = view.of_values(edges.colours)
    outside = outside & ~click_discs(rough.shape, there.positive) | click_discs(rough.shape, there.negative)
    inside = (there.seed | click_discs(rough.shape, there.positive)) & ~outside
    outline = find_outline(colours, rough, inside, outside, DRAFT_ROUNDS, DRAFT_COMPONENTS)
    return view.back(outline, size)
