"""The diptych generator: loads once, stays on the GPU, and draws LRGIs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import torch
from diffusers import FluxControlNetPipeline

from refgc import hub
from refgc.diptych import controlnets, loras
from refgc.diptych.conditions import Diptych
from refgc.diptych.pipeline import DipRefGCPipeline, Drawn, Settings
from refgc.diptych.prompts import diptych_prompt
from refgc.diptych.sources import (
    BASE,
    CANNY_CONTROLNET,
    CONTROLNET_FILES,
    FLUX_DEV,
    INPAINTING_CONTROLNET,
    LORAS,
    NO_GPU,
    PIPELINES,
    ControlNetName,
    Sources,
    find_loras,
)
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError
from refgc.flux.memory import Resident, Room
from refgc.flux.placement import ModelSize, Placement
from refgc.flux.progress import Watch
from refgc.flux.quantization import quantize
from refgc.flux.reading import load_transformer, parameters, prompt_reader, reading, stream
from refgc.flux.speed import Quantization, SpeedOptions
from refgc.model import loading
from refgc.settings import settings as environment

OTHERWISE = "let the simulator stand in for the generator"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where `Sources` lie on this machine, complete."""

    base: Path
    inpainting_controlnet: Path
    canny_controlnet: Path
    loras: dict[ControlNetName, Path]


class DiptychGenerator:
    """DipRefGC behind one method; safe to share among threads, one diptych at a time.

    Attributes:
        sources: what it is made of.
    """

    def __init__(
        self,
        sources: Sources | None = None,
        *,
        device: str | None = None,
        quantization: Quantization | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Loads nothing yet.

        Args:
            sources: base, ControlNets and LoRA; None takes those that the environment names.
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`.
            quantization: of the weights; None decides by the memory that is there.
            settings: steps, scales and the like; its generator is replaced. None takes the defaults.

        Raises:
            EngineError: there is no such device, or no ControlNet is named.
        """
        asked = device or environment().device or "cuda"
        if asked.partition(":")[0] == "cuda" and not torch.cuda.is_available():
            raise EngineError(NO_GPU)
        self.sources = sources or Sources.from_environment()
        self._room = Room(asked, self._measure, self._load, quantization=quantization, otherwise=OTHERWISE)
        self._settings = settings or Settings()
        self._lock = Lock()

    @property
    def placement(self) -> Placement | None:
        """Where it lies; None until it is loaded."""
        return None if self._room.resident is None else self._room.resident.placement

    def prepare(self, progress: Progress = no_progress) -> None:
        """Loads the model, downloading what is not on this machine; does nothing the second time.

        Raises:
            EngineError: it cannot be had, or there is no room for it.
            InputError: a ControlNet or LoRA is damaged, or they do not go together.
        """
        watch = Watch(progress, torch.device(self._room.machine.device))
        with self._lock:
            self._room.work(lambda: self._ready(watch), is_callers=lambda error: error is watch.stopped)

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
        watch = Watch(progress, torch.device(self._room.machine.device))

        def draw() -> Drawn:
            loaded = self._ready(watch)
            watch("reading the prompt", 0.01)
            words = loaded.reader.read(diptych_prompt(object_name, caption))
            settings = replace(self._settings, generator=torch.Generator().manual_seed(seed))
            return loaded.pipeline.draw(diptych, words, settings, watch)

        with self._lock:
            drawn = self._room.work(draw, is_callers=lambda error: error is watch.stopped)
        progress("done", 1.0)
        return drawn

    def _ready(self, watch: Watch) -> Resident[DipRefGCPipeline]:
        if self._room.resident is None:
            watch("loading the model", 0.0)
        return self._room.enter()

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

    def _load(self, placement: Placement) -> Resident[DipRefGCPipeline]:
        folders = fetch(self.sources)
        pipeline = load(folders, placement)
        reader = prompt_reader(folders.base, placement)
        return Resident(pipeline, (pipeline.transformer, *pipeline.controlnet.nets), reader, placement)


def fetch(sources: Sources) -> Folders:
    """Finds the weights, or downloads them: about 34 GB for the base and 8 GB for published ControlNets.

    Raises:
        EngineError: they cannot be had, or the base is no FLUX.1-dev.
    """
    # The base last, because it is the largest; and of it the index, which tells whether the rest is worth having.
    files = {} if sources.loras is None else find_loras(sources.loras, LORAS)
    inpainting = hub.fetch(sources.inpainting_controlnet, INPAINTING_CONTROLNET, CONTROLNET_FILES)
    canny = hub.fetch(sources.canny_controlnet, CANNY_CONTROLNET, CONTROLNET_FILES)
    index = hub.fetch(sources.base, BASE, (hub.INDEX,))
    name = FluxControlNetPipeline.load_config(index)["_class_name"]
    if name not in PIPELINES:
        raise EngineError(
            f"{BASE} is {sources.base!r}, which holds a {name} and no {PIPELINES[0]}; name {FLUX_DEV} or a finetuned "
            "one."
        )
    return Folders(hub.fetch(sources.base, BASE, hub.PIPELINE_FILES), inpainting, canny, files)


def load(folders: Folders, placement: Placement) -> DipRefGCPipeline:
    """The pipeline without its text encoders, on its device, LoRA folded into the ControlNets.

    Raises:
        EngineError: the base or a ControlNet does not load.
        InputError: a LoRA is damaged, or the parts do not go together.
    """
    inpainting = controlnets.load(folders.inpainting_controlnet, INPAINTING_CONTROLNET, dtype=placement.dtype)
    canny = controlnets.load(folders.canny_controlnet, CANNY_CONTROLNET, dtype=placement.dtype)
    transformer = load_transformer(folders.base, placement, quantizes=placement.quantization != "none")
    with reading(folders.base):
        pipeline = DipRefGCPipeline.from_pretrained(
            folders.base,
            inpainting,
            canny,
            loras=folders.loras,
            transformer=transformer,
            dtype=placement.dtype,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
        )
    for controlnet in pipeline.controlnet.nets:
        loras.fuse(controlnet)
        if placement.quantization != "none":
            quantize(controlnet, placement.quantization, placement.device)
    for network in (pipeline.transformer, *pipeline.controlnet.nets):
        if placement.offload == "group":
            stream(network, placement.device)
        else:
            network.to(placement.device)
    pipeline.vae.to(placement.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


_shared: DiptychGenerator | None = None
_sharing = Lock()


def shared_generator() -> DiptychGenerator:
    """The process's generator for what the environment names, so that the model is loaded once.

    Raises:
        EngineError: as for `DiptychGenerator`.
    """
    global _shared
    with _sharing:
        asked = DiptychGenerator()
        if _shared is None or _shared.sources != asked.sources:
            _shared = asked
        return _shared
