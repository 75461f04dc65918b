"""The preview: from a reference and a scene to the three conditions, the diptych and an LRGI with known ground truth.

Where no diptych generator can run, the LRGI is simulated: the four artifacts are drawn onto the true picture. The
report, and the metadata of the pictures that are written, say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from refgc.diptych import composition as compose
from refgc.diptych import sources
from refgc.diptych.comparison import fidelity
from refgc.diptych.conditions import Diptych, build, in_scene, panel_size
from refgc.diptych.objects import find_in_reference, find_in_scene
from refgc.diptych.outlines import fit_outlines
from refgc.diptych.preview_report import (
    MaskRecord,
    ModelRecord,
    PreviewReport,
    coverage,
    drawn_message,
    simulated_message,
)
from refgc.diptych.preview_request import STRENGTHS, PreviewRequest, make_preview_request, parse_artifacts
from refgc.diptych.prompts import diptych_prompt
from refgc.engine import Progress, Stopwatch, no_progress, versions_of
from refgc.errors import EngineError
from refgc.imaging.arrays import Bytes, Size, resized
from refgc.imaging.draw import dim_outside
from refgc.imaging.image import Image, Mask, grey_image
from refgc.imaging.upscale import clean_upscale
from refgc.machine import DEVICE, silence_libraries
from refgc.settings import settings
from refgc.simulator.artifacts import ArtifactRecord, simulate

if TYPE_CHECKING:
    from refgc.diptych.generator import DiptychGenerator

__all__ = [
    "STRENGTHS",
    "GeneratorChoice",
    "PreviewRequest",
    "PreviewResult",
    "choose_generator",
    "make_preview_request",
    "parse_artifacts",
    "preview",
]

GeneratorChoice = Literal["auto", "simulated", "diffusion"]

LIGHT_LIBRARIES = ("opencv", "numpy", "scipy", "pillow")
HEAVY_LIBRARIES = ("torch", "diffusers", "transformers", "peft")
ON_A_PROCESSOR = f"{DEVICE} is cpu, where the diptych generator takes hours; ask for it by its name to wait so long."


@dataclass(frozen=True, slots=True, eq=False)
class PreviewResult:
    """What a preview made.

    Attributes:
        conditions: the diptych's picture, mask and edges.
        diptych: both panels as they were drawn, of the conditions' size.
        generated: the LRGI.
        truth: what the LRGI should show: `report.factor` times its size.
        reference_mask: the object in the reference.
        mask: the object in the truth.
        report: what happened; `report.artifacts` is the simulator's record.
        stages: pictures that explain the result, by name, in the order they were made.
    """

    conditions: Diptych
    diptych: Image
    generated: Image
    truth: Image
    reference_mask: Mask
    mask: Mask
    report: PreviewReport
    stages: Mapping[str, Image] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """The diptych's two panels, drawn, and the LRGI out of them."""

    diptych: Bytes
    generated: Bytes
    message: str
    artifacts: ArtifactRecord | None = None
    model: ModelRecord | None = None


def preview(
    request: PreviewRequest,
    *,
    generator: GeneratorChoice | DiptychGenerator = "auto",
    progress: Progress = no_progress,
) -> PreviewResult:
    """Build the conditions and draw the LRGI.

    Args:
        request: from `make_preview_request`.
        generator: "diffusion" is DipRefGC on FLUX.1-dev; "simulated" draws the artifacts onto the truth; "auto" takes
            the first where a GPU and all its weights are here. A `DiptychGenerator` draws itself.
        progress: told of each stage.

    Raises:
        InputError: an object was not found; a mask has to be given.
        EngineError: the diffusion generator was asked for and cannot run here, or it failed.
    """
    watch = Stopwatch(progress)
    with watch.stage("choosing the generator", 0.0):
        model, obstacle = choose_generator(generator, progress) if isinstance(generator, str) else (generator, "")
    with watch.stage("finding the object in the reference", 0.02):
        reference_mask = request.reference_mask or find_in_reference(request.reference, request.object_name)
    with watch.stage("finding the object in the scene", 0.15):
        scene_mask = request.scene_mask or find_in_scene(
            request.scene, request.reference, reference_mask, request.object_name
        )
    with watch.stage("comparing both", 0.4):
        truth = compose.ideal_picture(request.reference, reference_mask, request.scene, scene_mask)
        both_given = request.reference_mask is not None and request.scene_mask is not None
        confidence = None if both_given else _confidence(reference_mask, scene_mask, truth)
    with watch.stage("building the conditions", 0.5):
        panel = panel_size(truth.picture.size)
        conditions = build(request.reference, reference_mask, truth.picture, truth.mask, panel=panel)
    if model is None:
        with watch.stage("simulating", 0.6):
            drawing = _simulate(request, conditions, truth, obstacle)
    else:
        with watch.stage("drawing", 0.6):
            drawing = _draw(request, conditions, truth, model, lambda stage, part: progress(stage, 0.6 + 0.35 * part))
    with watch.stage("comparing", 0.95):
        upscaled = Image(clean_upscale(drawing.generated, truth.picture.size))
        is_truth = model is None or truth.origin == "scene"
        upscaled_fidelity = fidelity(truth.picture, upscaled, truth.mask) if is_truth else None
    progress("done", 1.0)
    report = PreviewReport(
        message=drawing.message,
        generator="simulated" if model is None else "diffusion",
        simulated=model is None,
        obstacle=obstacle,
        truth=truth.origin,
        object_name=request.object_name,
        caption=request.caption,
        prompt=diptych_prompt(request.object_name, request.caption),
        seed=request.seed,
        factor=request.factor,
        reference_size=request.reference.size,
        scene_size=request.scene_size,
        truth_size=truth.picture.size,
        panel_size=panel,
        generated_size=_generated_size(request),
        reference_mask=_mask_record(request.reference_mask, reference_mask, request.reference.alpha, confidence),
        scene_mask=_mask_record(request.scene_mask, scene_mask, None, confidence),
        artifacts=drawing.artifacts,
        upscaled=upscaled_fidelity,
        model=drawing.model,
        seconds=watch.seconds,
        versions=versions_of(*LIGHT_LIBRARIES, *(() if model is None else HEAVY_LIBRARIES)),
    )
    return _result(request, reference_mask, truth, conditions, drawing, report)


def open_generator() -> DiptychGenerator:
    """The process's generator for what the environment names; weights are fetched and loaded when it is used.

    Raises:
        EngineError: it cannot run here.
    """
    sources.check_can_run()
    silence_libraries()
    from refgc.diptych.generator import shared_generator

    return shared_generator()


def choose_generator(
    name: GeneratorChoice,
    progress: Progress = no_progress,
    *,
    find_obstacle: Callable[[], str] = sources.obstacle,
    open_generator: Callable[[], DiptychGenerator] = open_generator,
) -> tuple[DiptychGenerator | None, str]:
    """The generator of that name, loaded where "auto" took it, or None for the simulator.

    Args:
        name: see `preview`.
        progress: told of each stage of loading.
        find_obstacle: tells why the diffusion generator cannot run here, or "".
        open_generator: gives the diffusion generator.

    Returns:
        The generator, and why the simulator stands in for it; "" where it does not, or was asked for.

    Raises:
        EngineError: the diffusion generator was asked for and cannot run here, or there is none of that name.
    """
    match name:
        case "simulated":
            return None, ""
        case "diffusion":
            return open_generator(), ""
        case "auto":
            obstacle = find_obstacle() or (ON_A_PROCESSOR if settings().device == "cpu" else "")
            if obstacle:
                return None, obstacle
            try:
                generator = open_generator()
                generator.prepare(progress)
            except EngineError as error:  # a driver too old for this torch, or too little memory
                return None, str(error)
            return generator, ""
    raise EngineError(f"There is no generator called {name!r}; use auto, simulated or diffusion.")


def _simulate(request: PreviewRequest, conditions: Diptych, truth: compose.IdealPicture, obstacle: str) -> _Drawing:
    """The truth with the artifacts, at the LRGI's size; and beside the left panel, as a generator draws both."""
    simulated = simulate(
        truth.picture, truth.mask, size=_generated_size(request), strengths=request.strengths, seed=request.seed
    )
    panels = conditions.panels
    whole = conditions.picture.copy()
    panels.scene_target.of(whole[:, panels.size[0] :])[:] = resized(simulated.full.pixels, panels.scene_target.size)
    message = simulated_message(simulated.record, truth.origin, obstacle)
    return _Drawing(whole, simulated.image.pixels, message, artifacts=simulated.record)


def _draw(
    request: PreviewRequest,
    conditions: Diptych,
    truth: compose.IdealPicture,
    model: DiptychGenerator,
    progress: Progress,
) -> _Drawing:
    drawn = model.generate(conditions, request.object_name, request.caption, request.seed, progress)
    record = ModelRecord(
        base=model.sources.base,
        inpainting_controlnet=model.sources.inpainting_controlnet,
        canny_controlnet=model.sources.canny_controlnet,
        loras=model.sources.loras,
        placement="" if model.placement is None else model.placement.reason,
    )
    return _Drawing(
        drawn.diptych,
        in_scene(drawn.diptych, conditions.panels, _generated_size(request)),
        drawn_message(request.object_name, truth.origin),
        model=record,
    )


def _result(
    request: PreviewRequest,
    reference_mask: Mask,
    truth: compose.IdealPicture,
    conditions: Diptych,
    drawing: _Drawing,
    report: PreviewReport,
) -> PreviewResult:
    whole, generated = Image(drawing.diptych), Image(drawing.generated)
    stages = {
        "object in the reference": Image(dim_outside(request.reference.pixels, reference_mask.values)),
        "object in the scene": Image(dim_outside(truth.picture.pixels, truth.mask.values)),
        "condition picture": Image(conditions.picture),
        "condition mask": grey_image(conditions.mask),
        "condition edges": grey_image(conditions.edges),
        "diptych": whole,
        "generated": generated,
    }
    return PreviewResult(conditions, whole, generated, truth.picture, reference_mask, truth.mask, report, stages)


def _generated_size(request: PreviewRequest) -> Size:
    return request.scene.size[0] // request.factor, request.scene.size[1] // request.factor


def _confidence(reference_mask: Mask, scene_mask: Mask, truth: compose.IdealPicture) -> float:
    """How sure it is that both masks mark one object; see `MaskRecord`."""
    overlap = fit_outlines(reference_mask.values, scene_mask.values).overlap
    return round(overlap if truth.origin == "scene" else 0.5 * overlap, 3)


def _mask_record(given: Mask | None, mask: Mask, transparency: Mask | None, confidence: float | None) -> MaskRecord:
    if given is None:
        return MaskRecord(source="found", confidence=confidence, coverage=coverage(mask))
    source: Literal["given", "transparency"] = "transparency" if given is transparency else "given"
    return MaskRecord(source=source, confidence=None, coverage=coverage(mask))
