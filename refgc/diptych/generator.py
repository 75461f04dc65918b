"""The diptych generator: the model is loaded once, stays on the GPU, and draws LRGIs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Lock

import torch

from refgc.diptych import controlnets
from refgc.diptych.conditions import Diptych
from refgc.diptych.loading import Folders, fetch, load
from refgc.diptych.pipeline import DipRefGCPipeline, Drawn
from refgc.diptych.prompts import diptych_prompt
from refgc.diptych.settings import DrawingSettings
from refgc.diptych.sources import NO_GPU, Sources
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError
from refgc.flux.memory import LoadedModel, ModelHolder, free_memory
from refgc.flux.placement import Machine, Placement, examine, place
from refgc.flux.progress import StageTimer
from refgc.flux.reading import parameters, prompt_reader
from refgc.flux.sizes import ModelSize
from refgc.flux.speed import Quantization, SpeedOptions
from refgc.model import loading
from refgc.settings import settings as environment

ALTERNATIVE = "let the simulator stand in for the generator"


class DiptychGenerator:
    """DipRefGC behind one method; safe to share among threads, one diptych at a time.

    Attributes:
        sources: of its weights.
        device: as it was asked for.
    """

    def __init__(
        self,
        sources: Sources | None = None,
        *,
        device: str | None = None,
        quantization: Quantization | None = None,
        settings: DrawingSettings | None = None,
        load: Callable[[Folders, Placement], DipRefGCPipeline] = load,
        examine: Callable[[str | None], Machine] = examine,
        place: Callable[..., Placement] = place,
    ) -> None:
        """Loads nothing yet.

        Args:
            sources: base, ControlNets and LoRA; None takes those that the environment names.
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`.
            quantization: of the weights; None decides by the memory that is there.
            settings: steps, scales and the like; its generator is replaced. None takes the defaults.
            load: loads the pipeline, as `refgc.diptych.loading.load`.
            examine: measures a device, as `refgc.flux.placement.examine`.
            place: chooses a placement, as `refgc.flux.placement.place`.

        Raises:
            EngineError: there is no such device, or no ControlNet is named.
        """
        self.device = device
        asked = device or environment().device or "cuda"
        if asked.partition(":")[0] == "cuda" and not torch.cuda.is_available():
            raise EngineError(NO_GPU)
        self.sources = sources or Sources.from_environment()
        self._load_pipeline = load
        self._model = ModelHolder(
            asked,
            self._measure,
            self._load,
            quantization=quantization,
            alternative=ALTERNATIVE,
            examine=examine,
            place=place,
        )
        self._settings = settings or DrawingSettings()
        self._lock = Lock()

    @property
    def loaded(self) -> LoadedModel[DipRefGCPipeline] | None:
        """The model in memory; None until it is loaded."""
        return self._model.loaded

    @property
    def placement(self) -> Placement | None:
        """The placement of the model; None until it is loaded."""
        return None if self._model.loaded is None else self._model.loaded.placement

    def prepare(self, progress: Progress = no_progress) -> None:
        """Loads the model, downloading what is not on this machine; does nothing the second time.

        Raises:
            EngineError: it cannot be had, or there is no room for it.
            InputError: a ControlNet or LoRA is damaged, or they do not go together.
        """
        timer = StageTimer(progress, torch.device(self._model.machine.device))
        with self._lock:
            self._model.run(lambda: self._ready(timer), is_callers=lambda error: error is timer.callers_error)

    def generate(
        self,
        diptych: Diptych,
        object_name: str = "object",
        caption: str | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Drawn:
        """Draws an LRGI.

        Args:
            diptych: the three conditions, from `refgc.diptych.conditions.build`.
            object_name: the object in a few words.
            caption: the object in a longer phrase; None takes a plain one.
            seed: of the noise; the same inputs and seed give the same pixels.
            progress: told of each stage.

        Raises:
            EngineError: as for `prepare`, the memory is not enough whatever is done, or the model's output is no
                picture.
            InputError: as for `prepare`, or the prompt is too long.
        """
        timer = StageTimer(progress, torch.device(self._model.machine.device))

        def draw() -> Drawn:
            loaded = self._ready(timer)
            timer("reading the prompt", 0.01)
            words = loaded.reader.read(diptych_prompt(object_name, caption))
            settings = replace(self._settings, generator=torch.Generator().manual_seed(seed))
            return loaded.pipeline.draw(diptych, words, settings, timer)

        with self._lock:
            drawn = self._model.run(draw, is_callers=lambda error: error is timer.callers_error)
        progress("done", 1.0)
        return drawn

    def _ready(self, timer: StageTimer) -> LoadedModel[DipRefGCPipeline]:
        if self._model.loaded is None:
            timer("loading the model", 0.0)
        return self._model.load()

    def _measure(self) -> ModelSize:
        folders = fetch(self.sources)
        base = loading.measure(loading.Folders(folders.base, None), SpeedOptions())
        nets = (folders.inpainting_controlnet, folders.canny_controlnet)
        configs = [controlnets.ControlNet.load_config(folder) for folder in nets]
        return replace(
            base,
            transformer=base.transformer + sum(map(parameters, nets)),
            blocks=base.blocks + sum(config["num_layers"] + config["num_single_layers"] for config in configs),
        )

    def _load(self, placement: Placement) -> LoadedModel[DipRefGCPipeline]:
        folders = fetch(self.sources)
        pipeline = self._load_pipeline(folders, placement)
        reader = prompt_reader(folders.base, placement)
        return LoadedModel(pipeline, (pipeline.transformer, *pipeline.controlnet.nets), reader, placement)


_shared: DiptychGenerator | None = None
_sharing = Lock()


def shared_generator() -> DiptychGenerator:
    """The process's generator for what the environment names, so that the model is loaded once.

    Where the model or the device that the environment names have changed since the last call, the earlier generator is
    dropped and its memory freed.

    Raises:
        EngineError: as for `DiptychGenerator`.
    """
    global _shared
    with _sharing:
        sources, device = Sources.from_environment(), environment().device
        if _shared is None or (_shared.sources, _shared.device) != (sources, device):
            # First, so that the new model finds the memory of the old one free.
            _shared = None
            free_memory()
            _shared = DiptychGenerator(sources, device=device)
        return _shared
