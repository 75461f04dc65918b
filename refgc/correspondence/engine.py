"""The correspondence engine: find, align, harmonise and fuse, from two pictures to one."""

import numpy as np

from refgc.correspondence import report
from refgc.correspondence.align import align_object, align_scene
from refgc.correspondence.blend_weights import object_weights, scene_weights
from refgc.correspondence.find import Finding, find
from refgc.correspondence.fuse import Layer, fuse_layers
from refgc.engine import Progress, RefineResult, Report, Stopwatch, Viewer, no_progress
from refgc.imaging.arrays import Bytes, Floats, enlarge, resized, size_of, smoothstep
from refgc.imaging.draw import dim_outside, draw_field, draw_matches
from refgc.imaging.image import Image
from refgc.imaging.upscale import clean_upscale
from refgc.imaging.warp import prefilter, sample
from refgc.request import RefineRequest
from refgc.surroundings.enlarge import draw_surroundings, mix_with_object, object_alpha
from refgc.surroundings.weights import check_weights

# How many of the matches, the least ambiguous ones, the stage picture shows.
MATCHES_SHOWN = 200
# The stage in which the surroundings are drawn by a network, and the share of the run that is done when it begins.
DRAWING, DRAWING_BEGINS = "drawing the surroundings", 0.85
# Range of trust over which the reference, on the plain enlargement, takes the place of the drawn surroundings. Chosen
# by hand, not fitted.
TRUST_SHOWN = (0.0, 0.5)
# Width of the transition from the object to its surroundings, in pixels of the generated picture. Chosen by hand.
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
        watch = Stopwatch(progress)
        width, height = request.generated.size
        with watch.stage("upscaling", 0.0):
            upscaled = clean_upscale(request.generated.pixels, (width * request.scale, height * request.scale))
        if viewer is not None:
            viewer("upscaled", Image(upscaled))
        with watch.stage("finding the object", 0.05):
            found = find(request)
        if found is None:
            surroundings = _surroundings(request, upscaled, watch)
            return _upscale_only(upscaled, surroundings, report.not_placed(request, watch.seconds))
        with watch.stage("aligning", 0.4):
            layers = [_layer(request, found, 0)]
            # Where the first face already is the whole visible object, the others are parts of it.
            if not layers[0].weights.is_whole:
                layers += [_layer(request, found, face) for face in range(1, len(found.homographies))]
        if viewer is not None:
            viewer("aligned reference", _aligned_preview(request, found, layers[0]))
        with watch.stage("fusing", 0.8):
            fused, aligned, trust = fuse_layers(request, found, layers, upscaled)
        surroundings = _surroundings(request, upscaled, watch)
        progress("done", 1.0)
        summary = report.placed(request, watch.seconds, found, trust)
        if not summary.placed:
            return _upscale_only(upscaled, surroundings, summary)
        stages = _stages(request, found, layers, upscaled, aligned, trust)
        if surroundings is not upscaled:
            fused = mix_with_object(surroundings, fused, _object_area(request, found, layers, trust))
            stages["surroundings"] = Image(surroundings)
        return RefineResult(Image(fused), summary, stages)


def _surroundings(request: RefineRequest, upscaled: Bytes, watch: Stopwatch) -> Bytes:
    """The whole picture enlarged as the surroundings are to be; `upscaled` itself where they are plain."""
    if request.surroundings == "plain":
        return upscaled
    with watch.stage(DRAWING, DRAWING_BEGINS):
        return draw_surroundings(
            request.generated.pixels,
            upscaled,
            request.surroundings,
            advance=lambda done: watch.progress(DRAWING, DRAWING_BEGINS + (1.0 - DRAWING_BEGINS) * done),
        )


def _object_area(request: RefineRequest, found: Finding, layers: list[Layer], trust: Floats) -> Floats:
    """Where the plain enlargement with the reference is shown, (height, width) of the output in [0, 1].

    What a network draws makes wrong print sharp, so nothing of it is shown on the object. Of a scene all is shown that
    comes from the reference.
    """
    area = smoothstep(trust, *TRUST_SHOWN)
    if found.object_mask is not None:
        outline = np.zeros((request.generated.size[1], request.generated.size[0]), np.float32)
        found.region.of(outline)[:] = enlarge(layers[0].weights.outline, found.region.size)
        area = np.maximum(area, enlarge(outline, size_of(trust)))
    return object_alpha(np.asarray(area, np.float32), SOFTNESS * request.scale)


def _upscale_only(upscaled: Bytes, surroundings: Bytes, summary: Report) -> RefineResult:
    """The result where nothing is taken from the reference."""
    picture = Image(surroundings)
    return RefineResult(picture, summary, {"upscaled": picture if surroundings is upscaled else Image(upscaled)})


def _layer(request: RefineRequest, found: Finding, face: int) -> Layer:
    seen = np.asarray(found.region.of(request.generated.pixels), np.uint8)
    reference = request.reference.pixels
    homography = found.homographies[face] @ found.region.to_picture()
    marked = np.asarray(found.region.of(request.generated_mask.values), np.float32) if request.generated_mask else None
    if found.object_mask is None:
        alignment = align_scene(seen, reference, homography)
        return Layer(alignment, scene_weights(seen, reference, alignment))
    alignment = align_object(seen, reference, homography, found.object_mask)
    weights = object_weights(seen, reference, alignment, found.object_mask, marked, may_be_whole=face == 0)
    return Layer(alignment, weights)


def _aligned_preview(request: RefineRequest, found: Finding, layer: Layer) -> Image:
    """The placed reference on white at the flow frame's detail, shown before the full size is computed."""
    reference, scale = request.reference.pixels, min(request.scale, 2)
    small = prefilter(reference, layer.alignment.scale)
    placed = np.asarray(sample(small, layer.alignment.mapping, size_of(reference)), np.uint8)
    width, height = request.generated.size
    frame = np.full((height * scale, width * scale, 3), 255, np.uint8)
    part = found.region.of(frame, scale)
    part[:] = resized(placed, size_of(part))
    return Image(frame)


def _stages(
    request: RefineRequest, found: Finding, layers: list[Layer], upscaled: Bytes, aligned: Bytes, trust: Floats
) -> dict[str, Image]:
    generated, reference, region = request.generated.pixels, request.reference.pixels, found.region
    outline = np.zeros(generated.shape[:2], np.float32)
    region.of(outline)[:] = enlarge(layers[0].weights.outline, region.size)
    clearest = np.argsort(found.matches.ambiguity, kind="stable")[:MATCHES_SHOWN]
    reference_points, generated_points = found.matches.reference[clearest], found.matches.generated[clearest]
    stages = {
        "upscaled": upscaled,
        "matches": draw_matches(reference, generated, reference_points, generated_points),
        "aligned reference": aligned,
        "confidence": draw_field(trust, size_of(upscaled)),
    }
    if found.object_mask is not None:
        stages["object in the reference"] = dim_outside(reference, found.object_mask)
        stages["object in the picture"] = dim_outside(upscaled, outline)
    return {name: Image(picture) for name, picture in stages.items()}
