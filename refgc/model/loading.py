"""Loads the model: from the names of base and adapter to a pipeline on the device of its placement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from diffusers import FluxTransformer2DModel
from pydantic import ValidationError

from refgc import hub
from refgc.flux.acceleration import apply
from refgc.flux.placement import Placement
from refgc.flux.reading import load_transformer, parameters, reading, stream
from refgc.flux.sizes import ModelSize
from refgc.flux.speed import SpeedOptions
from refgc.model import weights
from refgc.model.backbones.catalogue import chosen_source
from refgc.model.freqmole import FreqMoLEConfig
from refgc.model.pipeline import PIPELINES, RefGCSR2KleinPipeline, RefGCSR2Pipeline
from refgc.settings import settings

AnyRefGCPipeline = RefGCSR2Pipeline | RefGCSR2KleinPipeline


@dataclass(frozen=True, slots=True)
class Sources:
    """Where base and adapter come from, each a folder or a Hub repository.

    Attributes:
        base: a pipeline of FLUX.1-Kontext or FLUX.2 [klein].
        adapter: FreqMoLE's weights, or a LoRA for the stock model; None for the stock model alone.
    """

    base: str = hub.FLUX_KLEIN
    adapter: str | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """The sources that `REFGC_BASE` and `REFGC_ADAPTER` name."""
        given = settings()
        return cls(chosen_source(given.base, given.adapter), given.adapter)


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders on this machine that hold all files of `Sources`; of an adapter that is a LoRA the file itself."""

    base: Path
    adapter: Path | None


def fetch(sources: Sources) -> Folders:
    """Finds the weights, or downloads them: 16 GB for FLUX.2 [klein], 34 for FLUX.1-Kontext.

    Raises:
        EngineError: they cannot be had, or the base is of another architecture.
    """
    # The small files first: the adapter, then the base's index, which tells whether the base is of the right kind.
    adapter = sources.adapter and hub.fetch_adapter(sources.adapter)
    hub.check_pipeline(hub.fetch(sources.base, hub.BASE, (hub.INDEX,)), sources.base)
    return Folders(hub.fetch(sources.base, hub.BASE, hub.PIPELINE_FILES), adapter or None)


def measure(folders: Folders, options: SpeedOptions) -> ModelSize:
    """The sizes of a model, from the headers of its files alone.

    Raises:
        EngineError: a file of the base is damaged.
    """
    with reading(folders.base):
        # Only the file is read, which has these names for every architecture.
        network = FluxTransformer2DModel.load_config(folders.base, subfolder="transformer")
        width = network["num_attention_heads"] * network["attention_head_dim"]
        blocks = network["num_layers"] + network["num_single_layers"]
    cached = options.reference_cache
    if cached is None:
        cached = folders.adapter is not None and _is_trained_with_cache(folders.adapter)
    return ModelSize(
        transformer=parameters(folders.base / "transformer"),
        text_encoders=sum(parameters(folder) for folder in folders.base.glob("text_encoder*")),
        vae=parameters(folders.base / "vae"),
        width=width,
        blocks=blocks,
        reference_cache=cached,
    )


def pipeline_class(base: Path) -> type[RefGCSR2Pipeline] | type[RefGCSR2KleinPipeline]:
    """The pipeline for the architecture of a base.

    Raises:
        EngineError: it is of another architecture, or its index cannot be read.
    """
    hub.check_pipeline(base, str(base))
    return PIPELINES[str(hub.index_of(base)["_class_name"])]


def load(folders: Folders, placement: Placement, options: SpeedOptions) -> AnyRefGCPipeline:
    """The pipeline without its text encoders, on its device, with all speed options applied.

    Args:
        folders: from `fetch`.
        placement: from `refgc.flux.placement.place`; its quantisation is used, not that of `options`.
        options: what else is done for speed.

    Raises:
        EngineError: the base does not load, or a speed option cannot be had.
        InputError: the adapter is damaged or belongs to another base.
    """
    quantized = placement.quantization != "none"
    fuses = options.fuse and folders.adapter is not None
    # Weights are quantised while they are read, unless experts have to be fused first and main memory is large enough.
    quantizes_first = quantized and not (fuses and placement.fuses_before_quantizing)
    made_of = pipeline_class(folders.base)
    transformer = load_transformer(folders.base, placement, quantizes=quantizes_first, network=made_of.backbone.network)
    with reading(folders.base):
        pipeline = made_of.from_pretrained(
            folders.base,
            transformer=transformer,
            dtype=placement.dtype,
            **dict.fromkeys(made_of.backbone.text_parts),
        )
    if folders.adapter is not None:
        _load_adapter(pipeline, folders.adapter, fuses=fuses and not quantizes_first)
    apply(
        pipeline,
        options.model_copy(
            update={
                "fuse": fuses and not quantizes_first,
                "quantization": placement.quantization if quantized and not quantizes_first else None,
            }
        ),
        placement.device,
    )
    pipeline.vae.to(placement.device)
    if placement.offload == "group":
        stream(pipeline.transformer, placement.device)
    else:
        pipeline.transformer.to(placement.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_adapter(pipeline: AnyRefGCPipeline, adapter: Path, *, fuses: bool) -> None:
    """Puts FreqMoLE's experts on the transformer, or a LoRA, which is folded into the weights at once if `fuses`."""
    if adapter.is_dir():
        pipeline.freqmole = weights.load(pipeline.transformer, adapter)
        return
    pipeline.load_lora(adapter, str(adapter))
    if fuses:
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()


def _is_trained_with_cache(adapter: Path) -> bool:
    if adapter.is_file():
        return False  # a LoRA, of which nothing is known
    try:
        return FreqMoLEConfig.model_validate_json((adapter / weights.CONFIG_FILE).read_bytes()).reference_cache
    except ValidationError:
        return False  # the error is reported when the adapter is loaded
