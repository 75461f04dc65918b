"""The engine "diffusion": the model is loaded once and stays on the GPU; every failure ends in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch

from refgc.engine import (
    DRAWING,
    NOT_WANTED,
    DiffusionDetails,
    Progress,
    RefineResult,
    Report,
    Viewer,
    make_report,
    no_progress,
    output_alpha,
    output_on_white,
)
from refgc.errors import EngineError, RefGCError
from refgc.flux.memory import LoadedModel, ModelHolder, free_memory
from refgc.flux.placement import Machine, Placement, examine
from refgc.flux.progress import StageTimer
from refgc.flux.reading import prompt_reader
from refgc.flux.sizes import GIB, ModelSize
from refgc.flux.speed import SpeedOptions
from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.image import Image
from refgc.imaging.upscale import clean_upscale
from refgc.model import loading
from refgc.model.loading import AnyRefGCPipeline, Folders, Sources
from refgc.model.pipeline import Refined
from refgc.model.settings import DenoisingSettings
from refgc.request import RefineRequest
from refgc.settings import settings as environment
from refgc.surroundings.enlarge import draw_surroundings, mix_with_object
from refgc.surroundings.weights import check_weights

# A pixel counts as the model's work above this share of the strength. Chosen by hand, not fitted.
DRAWN = 0.25
# The warning where more references were given, and its code.
FIRST_REFERENCE = "first_reference"
# The warning where a redrawing was refused.
DRIFTED = "drifted"
ONLY_FIRST = "The diffusion engine takes one reference, so only the first was used."
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "numpy")

PipelineLoader = Callable[[Folders, Placement, SpeedOptions], AnyRefGCPipeline]


class DiffusionEngine:
    """The paper's model behind the interface of all engines; safe to share among threads, one picture at a time.

    With FreqMoLE's weights it redraws the object from pure noise, as the paper does. Without them a stock model
    refines the correspondence engine's result from partial noise, and the report says so.
    """

    def __init__(
        self,
        sources: Sources | None = None,
        options: SpeedOptions | None = None,
        *,
        device: str | None = None,
        settings: DenoisingSettings | None = None,
        load: PipelineLoader = loading.load,
        examine: Callable[[str | None], Machine] = examine,
    ) -> None:
        """Loads nothing yet.

        Args:
            sources: base and adapter; None reads `REFGC_BASE` and `REFGC_ADAPTER`.
            options: what is done for speed; None reads `REFGC_SPEED`.
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`, and without it takes the first GPU.
            settings: steps, guidance, size and the like; None takes the defaults. Where `together` is open,
                `REFGC_TOGETHER` is read at each picture. What depends on request, adapter or speed options is replaced:
                the embeddings, `init` ("correspondence" without an adapter, else "generated"), `reference_cache` and
                `compact_generated`.
            load: loads the pipeline, as `refgc.model.loading.load`.
            examine: measures a device, as `refgc.flux.placement.examine`.

        Raises:
            EngineError: there is no such device, or it cannot do what is asked for speed.
            InputError: `REFGC_SPEED` cannot be read.
        """
        self.sources = sources or Sources.from_environment()
        self.options = options or SpeedOptions.parse(environment().speed)
        self.options.check()
        self.device = device
        self._settings = settings or DenoisingSettings()
        self._load_pipeline = load
        self._model = ModelHolder(
            device, self._measure, self._load, quantization=self.options.quantization, examine=examine
        )
        self._lock = Lock()

    @property
    def loaded(self) -> LoadedModel[AnyRefGCPipeline] | None:
        """The model in memory; None until it is loaded."""
        return self._model.loaded

    def plan(self) -> Placement:
        """Where the model is, or would go now; weights that are not on this machine are downloaded.

        Raises:
            EngineError: the weights cannot be had, or there is no room for them.
        """
        return self._model.plan()

    def prepare(self, progress: Progress = no_progress) -> None:
        """See `refgc.engine.Engine`."""
        timer = StageTimer(progress, torch.device(self._model.machine.device))
        with self._lock:
            self._in_one_sentence(lambda: self._ready(timer).reader.prepare(), timer)

    def refine(
        self, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        """See `refgc.engine.Engine`; of several references the first is taken, and the report says so."""
        check_weights(request.surroundings)
        if viewer is not None:
            viewer("upscaled", _upscaled(request))
        if request.strength == 0.0:
            return _plain(request)
        timer = StageTimer(progress, torch.device(self._model.machine.device), viewer)
        with self._lock:
            result: RefineResult = self._in_one_sentence(lambda: self._refine(request, timer), timer)
        progress("done", 1.0)
        return result

    def _in_one_sentence(self, work: Callable[[], Any], timer: StageTimer) -> Any:
        """What `work` returns; every failure but one of the caller's own functions becomes an `EngineError`."""
        try:
            return self._model.run(work, is_callers=lambda error: error is timer.callers_error)
        except RefGCError:
            raise
        except MemoryError:
            raise
        except Exception as error:
            if error is timer.callers_error:
                raise
            raise EngineError(
                f"The model failed with {type(error).__name__} ({error}); run this again with --debug to see where."
            ) from error

    def _ready(self, timer: StageTimer) -> LoadedModel[AnyRefGCPipeline]:
        if self._model.loaded is None:
            timer("loading the model", 0.0)
        return self._model.load()

    def _measure(self) -> ModelSize:
        return loading.measure(loading.fetch(self.sources), self.options)

    def _load(self, placement: Placement) -> LoadedModel[AnyRefGCPipeline]:
        folders = loading.fetch(self.sources)
        pipeline = self._load_pipeline(folders, placement, self.options)
        backbone = pipeline.backbone
        reader = prompt_reader(folders.base, placement, pipeline=backbone.pipeline, embed=backbone.embed)
        return LoadedModel(pipeline, (pipeline.transformer,), reader, placement)

    def _refine(self, request: RefineRequest, timer: StageTimer) -> RefineResult:
        loaded = self._ready(timer)
        if loaded.placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(loaded.placement.device)
        timer("reading the prompt", 0.01)
        prompt = self._settings.prompt or loaded.pipeline.prompt_for(request.object_name)
        embeddings = loaded.reader.read(prompt).to(loaded.placement.device)
        steps = 0

        def count(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal steps
            steps = step + 1
            callback = self._settings.callback_on_step_end
            return callback(pipeline, step, timestep, tensors) if callback else tensors

        settings = replace(
            self._settings,
            prompt=None,
            prompt_embeds=embeddings.tokens,
            pooled_prompt_embeds=embeddings.pooled,
            negative_prompt_embeds=embeddings.negative,
            init="correspondence" if loaded.pipeline.freqmole is None else "generated",
            together=environment().together if self._settings.together is None else self._settings.together,
            reference_cache=self.options.reference_cache,
            compact_generated=self.options.compact_generated,
            callback_on_step_end=count,
        )
        refined = loaded.pipeline.refine(request, settings, timer, timer.viewer)
        alpha, upscaled = output_alpha(request), refined.stages["upscaled"]
        stages = {name: Image(pixels) for name, pixels in refined.stages.items()}

        def result(request: RefineRequest, picture: Bytes) -> RefineResult:
            report = self._report(request, loaded, refined, steps, timer.seconds)
            return RefineResult(Image(output_on_white(upscaled, picture, alpha), alpha), report, stages)

        picture = refined.picture
        if request.surroundings != "plain":
            if timer.viewer is not None:
                timer.viewer(DRAWING, result(replace(request, surroundings="plain"), picture))
            timer(DRAWING, 0.98)
            drawn = draw_surroundings(request.generated.pixels, upscaled, request.surroundings)
            picture = mix_with_object(drawn, picture, _of_object(refined, request.strength))
            stages = stages | {"surroundings": Image(output_on_white(upscaled, drawn, alpha))}
        timer.end()
        return result(request, picture)

    def _report(
        self,
        request: RefineRequest,
        loaded: LoadedModel[AnyRefGCPipeline],
        refined: Refined,
        steps: int,
        seconds: dict[str, float],
    ) -> Report:
        placement = loaded.placement
        taken = _of_object(refined, request.strength) > DRAWN
        drawn = float((refined.share > DRAWN * request.strength).mean())
        on_gpu = placement.device.type == "cuda"
        message = _message(loaded.pipeline, refined, drawn)
        warnings = (FIRST_REFERENCE,) if request.further_references else ()
        refused = refined.drift is not None and refined.drift.is_refused
        return make_report(
            "diffusion",
            request,
            f"{message} {ONLY_FIRST}" if request.further_references else message,
            taken=taken,
            confidence=refined.windows.confidence,
            matches=refined.windows.matches,
            seconds=seconds,
            libraries=LIBRARIES,
            diffusion=DiffusionDetails(
                base=self.sources.base,
                adapter=self.sources.adapter,
                device=self._model.machine.name,
                placement=placement.reason,
                speed=str(self.options),
                steps=steps,
                peak_memory_gib=torch.cuda.max_memory_allocated(placement.device) / GIB if on_gpu else None,
            ),
            warnings=(*warnings, DRIFTED) if refused else warnings,
        )


_shared: DiffusionEngine | None = None
_sharing = Lock()


def shared_engine(options: SpeedOptions) -> DiffusionEngine:
    """The process's engine for what the environment names: a model is loaded once, however often it is asked for.

    Args:
        options: what is done for speed. Where these, or the model or device that the environment names, have changed
            since the last call, the earlier engine is dropped.

    Raises:
        EngineError: as for `DiffusionEngine`.
    """
    global _shared
    with _sharing:
        sources, device = Sources.from_environment(), environment().device
        if _shared is None or (_shared.sources, _shared.options, _shared.device) != (sources, options, device):
            _shared = None
            free_memory()
            _shared = DiffusionEngine(sources, options, device=device)
        return _shared


def _of_object(refined: Refined, strength: float) -> Floats:
    """(height, width) in [0, 1], how far each pixel is the model's or the correspondence engine's."""
    share = np.asarray(refined.share / strength, np.float32)
    return share if refined.trust is None else np.maximum(share, refined.trust)


def _message(pipeline: AnyRefGCPipeline, refined: Refined, drawn: float) -> str:
    """One sentence on what the model did; `drawn` is the share of the result that is its work."""
    title = pipeline.backbone.title if pipeline.lora is None else f"{pipeline.backbone.title} with a LoRA"
    share = f"{drawn:.0%} of the result is its work"
    drift = refined.drift
    if drift is not None and drift.is_refused:
        what = "turned the object or changed its size" if drift.verdict == "turned" else "drew something else"
        stays = "the correspondence engine's result stays" if "correspondence" in refined.stages else "nothing changes"
        return f"{title} {what}, so its redrawing was refused and {stays}."
    moved = "; it had moved the object, which was undone" if drift is not None and drift.verdict == "shifted" else ""
    if pipeline.freqmole is None:
        model = f"Stock {title}" if pipeline.lora is None else title
        return f"{model} (no FreqMoLE weights) went over the correspondence engine's result; {share}{moved}."
    if not refined.windows.found:
        return f"The object was not found in the picture, so the model redrew all of it; {share}{moved}."
    return f"The model redrew the object after the reference; {share}{moved}."


def _upscaled(request: RefineRequest) -> Image:
    width, height = request.generated.size
    return Image(clean_upscale(request.generated.pixels, (width * request.scale, height * request.scale)))


def _plain(request: RefineRequest) -> RefineResult:
    upscaled = _upscaled(request)
    report = make_report("diffusion", request, NOT_WANTED, seconds={}, libraries=LIBRARIES)
    picture = draw_surroundings(request.generated.pixels, upscaled.pixels, request.surroundings)
    alpha = output_alpha(request)
    return RefineResult(Image(output_on_white(upscaled.pixels, picture, alpha), alpha), report, {"upscaled": upscaled})
