"""The engine itself: the stages in order, from two pictures to one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

import cv2
import numpy as np

from refgc import __version__
from refgc.correspondence import segment
from refgc.correspondence.arrays import Bytes, Floats, Size, blur, luma, shrink, size_of
from refgc.correspondence.epipolar import straighten
from refgc.correspondence.flow import register
from refgc.correspondence.fuse import fuse
from refgc.correspondence.harmonize import light
from refgc.correspondence.match import Placement, find_features, match_features, place
from refgc.correspondence.rigidity import regularise
from refgc.correspondence.trust import gather, judge
from refgc.correspondence.upscale import clean_upscale
from refgc.correspondence.warp import (
    fitted,
    homography_map,
    inside,
    magnification,
    prefilter,
    rescaling,
    resize_field,
    sample,
)
from refgc.engines import Progress, RefineRequest, RefineResult, Report, no_progress
from refgc.images import Image

# SIFT sees enough at this size, and costs four times as much at twice of it.
MATCHING_SIDE = 1024
REFERENCE_SIDE = 1280
MATCHING_ENLARGEMENT = 4.0
# Flow is estimated at twice the generated picture's size: finer than its pixels, as fine as its content.
FLOW_ENLARGEMENT = 2.0
FLOW_SIDE = 1024
PASSES = 2
# Flow forth and back that meet within this many pixels of the flow frame are believed.
BELIEF = 0.5
# Reach of the light estimate, as a share of the frame's longer side.
LIGHT_REACH = 0.05


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


@dataclass(frozen=True, slots=True)
class Alignment:
    """The reference laid over the generated picture, on the flow frame's grid.

    Attributes:
        mapping: (height, width, 2), into the original reference.
        scale: reference pixels per pixel of the flow frame.
        base: the map of the placement alone.
        flow: the map before regularisation.
        believed: (height, width), 1 where flow forth and back agree.
    """

    mapping: Floats
    scale: float
    base: Floats
    flow: Floats
    believed: Floats


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
        with watch.stage("aligning", 0.35):
            aligned = align(request, found)
        with watch.stage("harmonising", 0.75):
            gain, veil, trust = weigh(request, found, aligned)
        with watch.stage("fusing", 0.85):
            sharp = prefilter(reference, aligned.scale * size_of(aligned.mapping)[0] / output[0])
            fused, placed = fuse(upscaled, sharp, size_of(reference), aligned.mapping, gain, veil, trust * request.strength)
        stages = {"upscaled": Image(upscaled), "aligned reference": Image(placed), "trust": Image(_grey(trust, output))}
        return RefineResult(Image(fused), _report(request, watch, found.placement, trust), stages)


@dataclass(frozen=True, slots=True)
class Finding:
    """Where the object is.

    Attributes:
        placement: in the coordinates of the two matching frames.
        frame: size of the generated picture's matching frame.
        reference_frame: size of the reference's.
        object_mask: (height, width) of the original reference, or None where both pictures show one scene.
    """

    placement: Placement
    frame: Size
    reference_frame: Size
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
    if mask is None and not segment.shows_one_scene(placement.matches, frame, reference_frame):
        mask = shrink(segment.object_around(smaller, placement.matches.reference), size_of(reference))
    return Finding(placement, frame, reference_frame, mask)


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


def align(request: RefineRequest, found: Finding) -> Alignment:
    """Dense, regularised correspondence, from the placement inwards."""
    generated, reference = request.generated.pixels, request.reference.pixels
    size = fitted(size_of(generated), FLOW_SIDE, FLOW_ENLARGEMENT)
    picture = np.asarray(cv2.resize(generated, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    homography = (
        rescaling(found.reference_frame, size_of(reference))
        @ found.placement.homography
        @ rescaling(size, found.frame)
    )
    base = homography_map(homography, size)
    scale = magnification(base)
    sharpness = min(1.0, generated.shape[1] / size[0])
    mapping = flow = base
    believed = np.ones(base.shape[:2], np.float32)
    for _ in range(PASSES):
        registration = register(picture, reference, mapping, sharpness, scale)
        believed = (registration.inconsistency < BELIEF).astype(np.float32) * inside(registration.mapping, size_of(reference))
        if found.object_mask is not None:
            believed = believed * object_in_place(found.object_mask, registration.mapping)
        flow = registration.mapping
        straight = straighten(flow, believed, scale)
        mapping = regularise(straight, base, believed, picture, scale)
    return Alignment(mapping, scale, base, flow, believed)


def object_in_place(mask: Floats, mapping: Floats) -> Floats:
    """The reference's mask seen through a map, 0 where the map points outside."""
    return np.asarray(sample(mask, mapping, size_of(mask), cv2.INTER_LINEAR), np.float32) * inside(mapping, size_of(mask))


def weigh(request: RefineRequest, found: Finding, aligned: Alignment) -> tuple[Floats, Floats, Floats]:
    """Light and trust on the trust grid: gain (h, w, 3), veil (3,), trust (h, w)."""
    generated, reference = request.generated.pixels, request.reference.pixels
    flow_size = size_of(aligned.mapping)
    grid = fitted(flow_size, 1e9, 0.5)
    fine = prefilter(reference, aligned.scale / 2)
    mapping_fine = resize_field(aligned.mapping, fitted(flow_size, 1e9, 2.0))
    placed_fine = np.asarray(sample(fine, mapping_fine, size_of(reference)), np.float32)
    placed = shrink(placed_fine, grid)
    seen = shrink(generated.astype(np.float32), grid)
    believed = shrink(aligned.believed, grid)
    weight = np.asarray(believed + 1e-3, np.float32)
    gain, veil = light(placed, seen, weight, LIGHT_REACH * max(grid))
    detail_fine = ((placed_fine - blur(placed_fine, 2.0)) ** 2).mean(axis=2)
    evidence = gather(
        np.asarray(np.clip(placed * gain + veil, 0, 255), np.float32),
        seen,
        np.sqrt(shrink(np.asarray(detail_fine, np.float32), grid)),
        believed,
        np.asarray(shrink(aligned.mapping, grid) / (2 * aligned.scale), np.float32),
        shrink(np.asarray(np.linalg.norm(aligned.flow - aligned.mapping, axis=2).clip(0, 20 * aligned.scale), np.float32), grid) / np.float32(2 * aligned.scale),
    )
    trust = blur(judge(evidence), 1.0) * shrink(inside(aligned.mapping, size_of(reference)), grid)
    if found.object_mask is not None:
        trust = trust * shrink(object_in_place(found.object_mask, aligned.mapping), grid)
    if request.generated_mask is not None:
        trust = trust * shrink(request.generated_mask.values, grid)
    return gain, veil, np.asarray(trust, np.float32)


def _grey(values: Floats, size: Size) -> Bytes:
    """A field in [0, 1] as a grey picture."""
    enlarged = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    return np.repeat((np.clip(enlarged, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


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
            x, y = output[0] / trust.shape[1], output[1] / trust.shape[0]
            box = (
                int(columns.min() * x), int(rows.min() * y),
                min(output[0], int(np.ceil((columns.max() + 1) * x))), min(output[1], int(np.ceil((rows.max() + 1) * y))),
            )
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
