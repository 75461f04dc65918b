"""Loading the diptych generator: from the names of base, ControlNets and LoRA to a pipeline on its device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusers import FluxControlNetPipeline

from refgc import hub
from refgc.diptych import controlnets, loras
from refgc.diptych.pipeline import DipRefGCPipeline
from refgc.diptych.sources import (
    BASE,
    CANNY_CONTROLNET,
    CONTROLNET_FILES,
    FLUX_DEV,
    INPAINTING_CONTROLNET,
    LORAS,
    PIPELINES,
    ControlNetName,
    Sources,
    find_loras,
)
from refgc.errors import EngineError
from refgc.flux.placement import Placement
from refgc.flux.quantization import quantize
from refgc.flux.reading import load_transformer, reading, stream


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders on this machine that hold all files of `Sources`."""

    base: Path
    inpainting_controlnet: Path
    canny_controlnet: Path
    loras: dict[ControlNetName, Path]


def fetch(sources: Sources) -> Folders:
    """Finds the weights, or downloads them: about 34 GB for the base and 8 GB for published ControlNets.

    Raises:
        EngineError: they cannot be had, or the base is no FLUX.1-dev.
    """
    # The small files first; of the base the index, which tells whether the base is of the right kind.
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
