"""The correspondence engine: find, align, harmonise and fuse, from a picture and its references to one picture."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from refgc.correspondence import report
from refgc.correspondence.align import SILHOUETTE_PRIOR, align_object, align_scene
from refgc.correspondence.blend_weights import object_weights, scene_weights, silhouette_weights
from refgc.correspondence.exposure import ExposedPair, expose
from refgc.correspondence.find import Finding, search
from refgc.correspondence.fuse import Layer
from refgc.correspondence.references import View, fuse_views, unplaced, worth_blending
from refgc.engine import (
    DRAWING,
    Progress,
    RefineResult,
    Report,
    Stopwatch,
    Viewer,
    no_progress,
    output_alpha,
    output_on_white,
)
from refgc.imaging.arrays import Bytes, Floats, enlarge, resized, size_of, smoothstep
from refgc.imaging.draw import dim_outside, draw_field, draw_matches
from refgc.imaging.image import Image, Mask
from refgc.imaging.levels import Words, to_bytes, to_words
from refgc.imaging.upscale import clean_upscale, deep_upscale
from refgc.imaging.warp import prefilter, sample
from refgc.machine import BLAS_THREADS
from refgc.request import MAX_REFERENCES, RefineRequest
from refgc.surroundings.enlarge import draw_surroundings, mix_with_object, object_alpha
from refgc.surroundings.weights import check_weights

# How many of the matches, the least ambiguous ones, the stage picture shows.
MATCHES_SHOWN = 200
# The shares of the run that are done when the search and the alignment begin.
FINDING_BEGINS, ALIGNING_BEGINS = 0.05, 0.4
# The share of the run that is done when a network begins to draw the surroundings.
DRAWING_BEGINS = 0.85
# Range of trust over which the reference, on the plain enlargement, takes the place of the drawn surroundings. Chosen
# by hand, not fitted.
TRUST_SHOWN = (0.0, 0.5)
# Width of the transition from the object to its surroundings, in pixels of the generated picture. Chosen by hand, not
# fitted.
SOFTNESS = 2.0


class CorrespondenceEngine:
    """Brings the reference's own pixels into the generated picture; no weights, no GPU, deterministic."""

    def prepare(self, progress: Progress = no_progress) -> None:
        """Nothing has to be loaded."""

    def refine(
        self, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        """See `refgc.engine.Engine`."""
        check_weights(request.surroundings)
        with BLAS_THREADS.one():
            return self._refine(request, progress, viewer)

    def _refine(self, request: RefineRequest, progress: Progress, viewer: Viewer | None) -> RefineResult:
        watch = Stopwatch(progress)
        with watch.stage("upscaling", 0.0):
            base, alpha = _enlarged(request), output_alpha(request)
            upscaled = to_bytes(base)
        if viewer is not None:
            viewer("upscaled", Image(upscaled))
        with watch.stage("finding the object", FINDING_BEGINS):
            views = [_view(number, one, progress) for number, one in enumerate(request.by_reference(), 1)]
        placed = [view for view in views if view.found.findings]
        if not placed:

            def enlarged(request: RefineRequest, surroundings: Bytes | Words) -> RefineResult:
                summary = report.none_placed(request, watch.seconds, unplaced(views, placed))
                return _upscale_only(base, surroundings, alpha, summary)

            return _in_surroundings(request, base, enlarged, watch, viewer)
        with watch.stage("aligning", ALIGNING_BEGINS):
            for view in placed:
                view.layers.extend(_layers(view.request, view.pair, one) for one in view.found.findings)
            placed = worth_blending(placed)
        if viewer is not None:
            viewer("aligned reference", _aligned_preview(placed[0]))
        with watch.stage("fusing", 0.8):
            fused, aligned = base.copy(), np.full_like(upscaled, 255)
            objects, sources = fuse_views(placed, fused, aligned)
        stages = _stages(placed[0].request, objects, _image(base, None), aligned)
        trust = np.maximum.reduce([one.trust for one in objects])

        def refined(request: RefineRequest, surroundings: Bytes | Words) -> RefineResult:
            summary = report.placed(request, watch.seconds, objects, sources, unplaced(views, placed))
            if not summary.placed:
                return _upscale_only(base, surroundings, alpha, summary)
            if surroundings is base:
                return RefineResult(_image(output_on_white(base, fused, alpha), alpha), summary, stages, trust)
            mixed = mix_with_object(surroundings, fused, _object_area(request, objects))
            drawn = {"surroundings": _image(output_on_white(base, surroundings, alpha), None)}
            return RefineResult(_image(output_on_white(base, mixed, alpha), alpha), summary, stages | drawn, trust)

        result = _in_surroundings(request, base, refined, watch, viewer)
        progress("done", 1.0)
        return result


def _view(number: int, request: RefineRequest, progress: Progress) -> View:
    """What is found of one reference, whose number is from 1; the request has no other."""
    if number > 1:
        progress(
            "finding the object", FINDING_BEGINS + (ALIGNING_BEGINS - FINDING_BEGINS) * (number - 1) / MAX_REFERENCES
        )
    pair = expose(request.reference, request.generated)
    return View(number, request, pair, search(request, pair))


def _enlarged(request: RefineRequest) -> Bytes | Words:
    """The generated picture, seen on white, at the output's size and with its bits."""
    width, height = request.generated.size
    size = width * request.scale, height * request.scale
    return (deep_upscale if request.bits == 16 else clean_upscale)(request.generated.pixels, size)


def _image(levels: Bytes | Words, alpha: Mask | None) -> Image:
    """A result of 8 or 16 bits."""
    return Image(to_bytes(levels), alpha, deep=to_words(levels) if levels.dtype == np.uint16 else None)


def _in_surroundings(
    request: RefineRequest,
    base: Bytes | Words,
    result_of: Callable[[RefineRequest, Bytes | Words], RefineResult],
    watch: Stopwatch,
    viewer: Viewer | None,
) -> RefineResult:
    """The result in the surroundings that were asked for; a viewer sees it in plain ones while others are drawn.

    Args:
        request: what was asked for.
        base: the whole picture, plainly enlarged.
        result_of: makes a result for a request, of the whole picture enlarged as its surroundings are to be.
        watch: times the drawing.
        viewer: looks on.
    """
    if request.surroundings == "plain":
        return result_of(request, base)
    if viewer is not None:
        viewer(DRAWING, result_of(replace(request, surroundings="plain"), base))
    with watch.stage(DRAWING, DRAWING_BEGINS):
        surroundings = draw_surroundings(
            request.generated.pixels,
            base,
            request.surroundings,
            advance=lambda done: watch.progress(DRAWING, DRAWING_BEGINS + (1.0 - DRAWING_BEGINS) * done),
        )
    return result_of(request, surroundings)


def _object_area(request: RefineRequest, objects: list[report.PlacedObject]) -> Floats:
    """Where the plain enlargement with the reference is shown, (height, width) of the output in [0, 1].

    What a network draws makes wrong print sharp, so nothing of it is shown on an object or a copy of it. Of a scene all
    is shown that comes from the reference.
    """
    area = np.zeros_like(objects[0].trust)
    outline = np.zeros((request.generated.size[1], request.generated.size[0]), np.float32)
    for one in objects:
        np.maximum(area, smoothstep(one.trust, *TRUST_SHOWN), out=area)
        if one.found.object_mask is not None:
            part = one.found.region.of(outline)
            part[:] = np.maximum(part, enlarge(one.layers[0].weights.outline, one.found.region.size))
    np.maximum(area, enlarge(outline, size_of(area)), out=area)
    return object_alpha(area, SOFTNESS * request.scale)


def _upscale_only(
    base: Bytes | Words, surroundings: Bytes | Words, alpha: Mask | None, summary: Report
) -> RefineResult:
    """The result where nothing is taken from the reference."""
    picture = _image(output_on_white(base, surroundings, alpha), alpha)
    return RefineResult(picture, summary, {"upscaled": _image(base, None)})


def _layers(request: RefineRequest, pair: ExposedPair, found: Finding) -> list[Layer]:
    """The object's faces, the surest first."""
    layers = [_layer(request, pair, found, 0)]
    # Where the first face already is the whole visible object, the others are parts of it.
    if not layers[0].weights.is_whole:
        layers += [_layer(request, pair, found, face) for face in range(1, len(found.maps))]
    return layers


def _layer(request: RefineRequest, pair: ExposedPair, found: Finding, face: int) -> Layer:
    seen = np.asarray(found.region.of(pair.generated), np.uint8)
    reference = pair.reference
    start = found.maps[face]
    marked = np.asarray(found.region.of(request.generated_mask.values), np.float32) if request.generated_mask else None
    if found.object_mask is None:
        alignment = align_scene(seen, reference, start, found.region)
        return Layer(alignment, scene_weights(seen, reference, alignment))
    if found.silhouette is not None:
        alignment = align_object(seen, reference, start, found.region, found.object_mask, SILHOUETTE_PRIOR)
        outline = np.asarray(found.region.of(found.silhouette.outline), np.float32)
        outline = outline if marked is None else np.minimum(outline, marked)
        probability = found.silhouette.probability
        return Layer(alignment, silhouette_weights(seen, reference, alignment, found.object_mask, outline, probability))
    alignment = align_object(seen, reference, start, found.region, found.object_mask)
    weights = object_weights(seen, reference, alignment, found.object_mask, marked, found.log_false_alarms)
    return Layer(alignment, weights)


def _aligned_preview(view: View) -> Image:
    """The placed reference on white at the flow frame's detail, shown before the full size is computed."""
    request, found, layer = view.request, view.found.findings[0], view.layers[0][0]
    reference, scale = view.pair.reference, min(request.scale, 2)
    small = prefilter(reference, layer.alignment.scale)
    placed = np.asarray(sample(small, layer.alignment.mapping, size_of(reference)), np.uint8)
    width, height = request.generated.size
    frame = np.full((height * scale, width * scale, 3), 255, np.uint8)
    part = found.region.of(frame, scale)
    part[:] = resized(placed, size_of(part))
    return Image(frame)


def _stages(
    request: RefineRequest, objects: list[report.PlacedObject], upscaled: Image, aligned: Bytes
) -> dict[str, Image]:
    generated, reference, found = request.generated.pixels, request.reference.pixels, objects[0].found
    outline, trust = np.zeros(generated.shape[:2], np.float32), np.zeros(upscaled.pixels.shape[:2], np.float32)
    for one in objects:
        region = one.found.region
        part = region.of(outline)
        part[:] = np.maximum(part, enlarge(one.layers[0].weights.outline, region.size))
        np.maximum(trust, one.trust, out=trust)
    clearest = np.argsort(found.matches.ambiguity, kind="stable")[:MATCHES_SHOWN]
    reference_points, generated_points = found.matches.reference[clearest], found.matches.generated[clearest]
    stages = {
        "matches": draw_matches(reference, generated, reference_points, generated_points),
        "aligned reference": aligned,
        "confidence": draw_field(trust, upscaled.size),
    }
    if found.object_mask is not None:
        stages["object in the reference"] = dim_outside(reference, found.object_mask)
        stages["object in the picture"] = dim_outside(upscaled.pixels, outline)
    return {"upscaled": upscaled} | {name: Image(picture) for name, picture in stages.items()}
