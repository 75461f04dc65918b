"""The engine itself: the stages in order, from two pictures to one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc import __version__
from refgc.correspondence import segment
from refgc.correspondence.align import align_object, align_scene
from refgc.correspondence.arrays import Bytes, Floats, Size, luma, shrink, size_of
from refgc.correspondence.fuse import fuse
from refgc.correspondence.match import Placement, find_features, match_features, place
from refgc.correspondence.region import Region, around
from refgc.correspondence.upscale import clean_upscale
from refgc.correspondence.warp import fitted, prefilter, rescaling
from refgc.correspondence.weigh import weigh_object, weigh_scene
from refgc.engines import Progress, RefineRequest, RefineResult, Report, no_progress
from refgc.images import Image

# SIFT sees enough at this size, and costs four times as much at twice of it.
MATCHING_SIDE = 1024
REFERENCE_SIDE = 1280
MATCHING_ENLARGEMENT = 4.0
# The surroundings an object needs to be aligned in, as a share of its longer side.
MARGIN = 0.15


@dataclass
class Stopwatch:
    """Wall-clock seconds by stage, told to the watcher as each stage begins."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, begins_at: float) -> Iterator[None]:
        """Times what runs inside; `begins_at` is the share of the whole run that lies behind."""
        self.progress(name, begins_at)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)


class CorrespondenceEngine:
    """Places, aligns, harmonises and fuses the reference's own pixels; no weights, no GPU, deterministic."""

    def refine(self, request: RefineRequest, progress: Progress = no_progress) -> RefineResult:
        """See `refgc.engines.Engine`."""
        watch = Stopwatch(progress)
        generated, reference = request.generated.pixels, request.reference.pixels
        output = (generated.shape[1] * request.scale, generated.shape[0] * request.scale)
        with watch.stage("upscaling", 0.0):
            upscaled = clean_upscale(generated, output)
        with watch.stage("finding the object", 0.1):
            found = find(request)
        if found is None:
            return RefineResult(Image(upscaled), _report(request, watch), {"upscaled": Image(upscaled)})
        region = found.region
        seen = np.asarray(region.of(generated), np.uint8)
        homography = found.homography @ region.to_frame()
        mask = request.generated_mask
        marked = np.asarray(region.of(mask.values), np.float32) if mask is not None else None
        with watch.stage("aligning", 0.35):
            if found.object_mask is None:
                aligned = align_scene(seen, reference, homography)
            else:
                aligned = align_object(seen, reference, homography, found.object_mask)
        with watch.stage("harmonising", 0.75):
            if found.object_mask is None:
                gain, trust = weigh_scene(seen, reference, aligned)
            else:
                gain, trust = weigh_object(seen, reference, aligned, found.object_mask, marked)
            if marked is not None:
                trust = trust * shrink(marked, size_of(trust))
        with watch.stage("fusing", 0.85):
            part = np.asarray(region.of(upscaled, request.scale), np.uint8)
            sharp = prefilter(reference, aligned.scale * size_of(aligned.mapping)[0] / size_of(part)[0])
            share = np.asarray(trust * request.strength, np.float32)
            fused_part, placed_part = fuse(part, sharp, size_of(reference), aligned.mapping, gain, share)
            fused, placed = upscaled.copy(), np.full_like(upscaled, 255)
            region.of(fused, request.scale)[:] = fused_part
            region.of(placed, request.scale)[:] = placed_part
            trusted = np.zeros(upscaled.shape[:2], np.float32)
            region.of(trusted, request.scale)[:] = cv2.resize(trust, size_of(part), interpolation=cv2.INTER_LINEAR)
        stages = {"upscaled": Image(upscaled), "aligned reference": Image(placed), "trust": Image(_grey(trusted))}
        return RefineResult(Image(fused), _report(request, watch, found.placement, trusted), stages)


@dataclass(frozen=True, slots=True)
class Finding:
    """Where the object is.

    Attributes:
        placement: in the coordinates of the two matching frames.
        homography: 3x3, generated to reference coordinates of the original pictures.
        region: the part of the generated picture to work on.
        object_mask: (height, width) of the original reference, or None where both pictures show one scene.
    """

    placement: Placement
    homography: NDArray[np.float64]
    region: Region
    object_mask: Floats | None


def find(request: RefineRequest) -> Finding | None:
    """Match both pictures and place the reference, or None where chance could explain the matches."""
    generated, reference = request.generated.pixels, request.reference.pixels
    frame = fitted(size_of(generated), MATCHING_SIDE, MATCHING_ENLARGEMENT)
    reference_frame = fitted(size_of(reference), REFERENCE_SIDE)
    enlarged = cv2.resize(generated, frame, interpolation=cv2.INTER_CUBIC)
    smaller = cv2.resize(reference, reference_frame, interpolation=cv2.INTER_AREA)
    mask = _reference_mask(request)
    reference_features = find_features(luma(smaller), _marked(mask, reference_frame))
    generated_mask = request.generated_mask.values if request.generated_mask else None
    generated_features = find_features(luma(enlarged), _marked(generated_mask, frame))
    placement = place(match_features(generated_features, reference_features), reference_frame)
    if placement is None:
        return None
    homography = (
        rescaling(reference_frame, size_of(reference)) @ placement.homography @ rescaling(size_of(generated), frame)
    )
    if mask is None and segment.shows_one_scene(placement.matches, frame, reference_frame):
        return Finding(placement, homography, Region(0, 0, *size_of(generated)), None)
    if mask is None:
        mask = shrink(segment.object_around(smaller, placement.matches.reference), size_of(reference))
    region = around(homography, mask, size_of(generated), MARGIN)
    return Finding(placement, homography, region, mask) if region is not None else None


def _reference_mask(request: RefineRequest) -> Floats | None:
    """The object in the reference: as marked, as cut out, or as it stands on one colour."""
    if request.reference_mask is not None:
        return request.reference_mask.values
    if request.reference.alpha is not None:
        return request.reference.alpha.values
    return segment.object_on_plain_background(request.reference.pixels)


def _marked(mask: Floats | None, size: Size) -> Bytes | None:
    """Where features may lie: the mask, a little wider, since features at the outline are good ones."""
    if mask is None:
        return None
    small = (shrink(mask, size) > 0.25).astype(np.uint8)
    reach = max(3, max(size) // 100)
    return np.asarray(cv2.dilate(small, np.ones((reach, reach), np.uint8)) * 255, np.uint8)


def _grey(values: Floats) -> Bytes:
    """A field in [0, 1] as a grey picture."""
    return np.repeat((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def _report(
    request: RefineRequest, watch: Stopwatch, placement: Placement | None = None, trust: Floats | None = None
) -> Report:
    output = (request.generated.size[0] * request.scale, request.generated.size[1] * request.scale)
    box: tuple[int, int, int, int] | None = None
    coverage = 0.0
    if trust is not None:
        coverage = float((trust > 0.5).mean())
        rows, columns = np.nonzero(trust > 0.5)
        if len(rows):
            box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    placed = placement is not None and box is not None
    return Report(
        engine="correspondence",
        placed=placed,
        message=(
            f"The reference was found in the picture and refined {coverage:.0%} of it."
            if placed
            else "The reference could not be found in the picture with confidence, so the result is a clean upscale."
        ),
        confidence=placement.confidence if placement is not None and placed else 0.0,
        coverage=coverage,
        matches=len(placement.matches) if placement is not None and placed else 0,
        object_box=box,
        scale=request.scale,
        strength=request.strength,
        seed=request.seed,
        reference_size=request.reference.size,
        generated_size=request.generated.size,
        output_size=output,
        seconds=watch.seconds,
        versions={"refgc": __version__, "opencv": cv2.__version__, "numpy": version("numpy")},
    )
