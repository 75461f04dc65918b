"""The engine itself: the stages in order, from two pictures to one."""

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.correspondence import pictures, report
from refgc.correspondence.align import Alignment, align_object, align_scene
from refgc.correspondence.find import Finding, find
from refgc.correspondence.fuse import fuse
from refgc.correspondence.weigh import Weighing, weigh_object, weigh_scene
from refgc.engine import Progress, RefineResult, Report, Stopwatch, Viewer, no_progress
from refgc.imaging.arrays import Bytes, Floats, resized, size_of, smoothstep
from refgc.imaging.image import Image
from refgc.imaging.upscale import clean_upscale
from refgc.imaging.warp import prefilter, sample
from refgc.request import RefineRequest

# A face takes over where it is trusted more than those before it, without a hard seam.
TAKEOVER = (-0.1, 0.1)


@dataclass(frozen=True, slots=True)
class Layer:
    """One face of the object, laid over the region."""

    aligned: Alignment
    weighed: Weighing


class CorrespondenceEngine:
    """Places, aligns, harmonises and fuses the reference's own pixels; no weights, no GPU, deterministic."""

    def prepare(self, progress: Progress = no_progress) -> None:
        """Nothing has to be loaded."""

    def refine(
        self, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        """See `refgc.engine.Engine`."""
        watch = Stopwatch(progress)
        width, height = request.generated.size
        with watch.stage("upscaling", 0.0):
            upscaled = clean_upscale(request.generated.pixels, (width * request.scale, height * request.scale))
        if viewer is not None:
            viewer("upscaled", Image(upscaled))
        with watch.stage("finding the object", 0.05):
            found = find(request)
        if found is None:
            return _plain(upscaled, report.not_placed(request, watch.seconds))
        with watch.stage("aligning", 0.4):
            layers = [_layer(request, found, 0)]
            # Where the first face is all of the object that is seen, the others are parts of it.
            if not layers[0].weighed.is_whole:
                layers += [_layer(request, found, face) for face in range(1, len(found.homographies))]
        if viewer is not None:
            viewer("aligned reference", _soon_aligned(request, found, layers[0]))
        with watch.stage("fusing", 0.8):
            fused, aligned, taken = _fuse_layers(request, found, layers, upscaled)
        progress("done", 1.0)
        summary = report.placed(request, watch.seconds, found, taken)
        if not summary.placed:
            return _plain(upscaled, summary)
        return RefineResult(Image(fused), summary, _stages(request, found, layers, upscaled, aligned, taken))


def _plain(upscaled: Bytes, summary: Report) -> RefineResult:
    """The result where nothing comes from the reference."""
    picture = Image(upscaled)
    return RefineResult(picture, summary, {"upscaled": picture})


def _layer(request: RefineRequest, found: Finding, face: int) -> Layer:
    seen = np.asarray(found.region.of(request.generated.pixels), np.uint8)
    reference = request.reference.pixels
    here = found.homographies[face] @ found.region.to_frame()
    marked = np.asarray(found.region.of(request.generated_mask.values), np.float32) if request.generated_mask else None
    if found.object_mask is None:
        aligned = align_scene(seen, reference, here)
        return Layer(aligned, weigh_scene(seen, reference, aligned))
    aligned = align_object(seen, reference, here, found.object_mask)
    return Layer(aligned, weigh_object(seen, reference, aligned, found.object_mask, marked, may_be_whole=face == 0))


def _soon_aligned(request: RefineRequest, found: Finding, layer: Layer) -> Image:
    """The placed reference as the flow frame has it, on white, before the time is spent on its full size."""
    reference, scale = request.reference.pixels, min(request.scale, 2)
    small = prefilter(reference, layer.aligned.scale)
    placed = np.asarray(sample(small, layer.aligned.mapping, size_of(reference)), np.uint8)
    width, height = request.generated.size
    frame = np.full((height * scale, width * scale, 3), 255, np.uint8)
    part = found.region.of(frame, scale)
    part[:] = resized(placed, size_of(part))
    return Image(frame)


def _fuse_layers(
    request: RefineRequest, found: Finding, layers: list[Layer], upscaled: Bytes
) -> tuple[Bytes, Bytes, Floats]:
    """The fused picture, the placed reference on white, and the share taken from it; all of the output's size."""
    reference, region, scale = request.reference.pixels, found.region, request.scale
    fused, aligned = upscaled.copy(), np.full_like(upscaled, 255)
    taken = np.zeros(upscaled.shape[:2], np.float32)
    part, part_aligned = region.of(fused, scale), region.of(aligned, scale)
    part_taken = region.of(taken, scale)
    size = size_of(part)
    for position, layer in enumerate(layers):
        trust = np.asarray(cv2.resize(layer.weighed.trust, size, interpolation=cv2.INTER_LINEAR), np.float32)
        if request.generated_mask is not None:
            # What is marked is obeyed to the pixel; trust, on a coarser grid, would reach beyond it.
            marked = np.asarray(region.of(request.generated_mask.values), np.float32)
            trust = np.minimum(trust, cv2.resize(marked, size, interpolation=cv2.INTER_NEAREST))
        share = trust
        if position > 0:
            takeover = smoothstep(np.asarray(trust - part_taken, np.float32), *TAKEOVER)
            share = trust * takeover
        over, placed = fuse(
            np.asarray(part, np.uint8),
            prefilter(reference, layer.aligned.scale * size_of(layer.aligned.mapping)[0] / size[0]),
            size_of(reference),
            layer.aligned.mapping,
            layer.weighed.gain,
            np.asarray(share * request.strength, np.float32),
        )
        part[:] = over
        part_aligned[:] = placed if position == 0 else np.where((takeover > 0.5)[..., None], placed, part_aligned)
        np.maximum(part_taken, trust, out=part_taken)
    return fused, aligned, taken


def _stages(
    request: RefineRequest, found: Finding, layers: list[Layer], upscaled: Bytes, aligned: Bytes, taken: Floats
) -> dict[str, Image]:
    generated, reference, region = request.generated.pixels, request.reference.pixels, found.region
    size = size_of(upscaled)
    outline = np.zeros(generated.shape[:2], np.float32)
    region.of(outline)[:] = cv2.resize(layers[0].weighed.outline, region.size, interpolation=cv2.INTER_LINEAR)
    stages = {
        "upscaled": upscaled,
        "matches": pictures.side_by_side(reference, generated, found.matches),
        "aligned reference": aligned,
        "confidence": pictures.grey(taken, size),
    }
    if found.object_mask is not None:
        stages["object in the reference"] = pictures.marked(reference, found.object_mask)
        stages["object in the picture"] = pictures.marked(upscaled, outline)
    return {name: Image(picture) for name, picture in stages.items()}
