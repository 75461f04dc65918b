"""Loading: from the names of base and adapter to a pipeline that lies where its placement says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Self

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel, ModelMixin
from diffusers.utils import logging as of_diffusers
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as of_transformers

from refgc.errors import EngineError
from refgc.machine import on_zero_gpu
from refgc.model import hub, weights
from refgc.model.freqmole import FreqMoLEConfig
from refgc.model.pipeline import RefGCSR2Pipeline
from refgc.model.placement import ModelSize, Placement
from refgc.model.prompts import PromptReader
from refgc.model.quantization import config_for
from refgc.model.speed import SpeedOptions, apply


@dataclass(frozen=True, slots=True)
class Sources:
    """What the model is made of, each a folder or a Hub repository.

    Attributes:
        base: a FLUX.1-Kontext pipeline.
        adapter: FreqMoLE's weights; None for the stock model.
    """

    base: str = hub.FLUX_KONTEXT
    adapter: str | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """As `REFGC_BASE` and `REFGC_ADAPTER` say."""
        return cls(os.environ.get(hub.BASE) or hub.FLUX_KONTEXT, os.environ.get(hub.ADAPTER) or None)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where `Sources` lie on this machine, complete."""

    base: Path
    adapter: Path | None


def fetch(sources: Sources) -> Folders:
    """Finds the weights, or downloads them: about 34 GB for the default base.

    Raises:
        EngineError: they cannot be had, or the base is no FLUX.1-Kontext.
    """
    # The adapter first, because it is small; and of the base the index, which tells whether the rest is worth having.
    adapter = sources.adapter and hub.fetch(sources.adapter, hub.ADAPTER, hub.ADAPTER_FILES)
    hub.check_pipeline(hub.fetch(sources.base, hub.BASE, (hub.INDEX,)), sources.base)
    return Folders(hub.fetch(sources.base, hub.BASE, hub.PIPELINE_FILES), adapter or None)


def measure(folders: Folders, options: SpeedOptions) -> ModelSize:
    """The sizes of a model, from the headers of its files alone.

    Raises:
        EngineError: a file of the base is damaged.
    """
    with reading(folders.base):
        network = FluxTransformer2DModel.load_config(folders.base, subfolder="transformer")
        width = network["num_attention_heads"] * network["attention_head_dim"]
        blocks = network["num_layers"] + network["num_single_layers"]
    cached = options.reference_cache
    if cached is None:
        cached = folders.adapter is not None and _is_trained_with_cache(folders.adapter)
    return ModelSize(
        transformer=parameters(folders.base / "transformer"),
        text_encoders=parameters(folders.base / "text_encoder") + parameters(folders.base / "text_encoder_2"),
        vae=parameters(folders.base / "vae"),
        width=width,
        blocks=blocks,
        reference_cache=cached,
    )


def load(folders: Folders, placement: Placement, options: SpeedOptions) -> RefGCSR2Pipeline:
    """The pipeline without its text encoders, on its device, with all speed options applied.

    Args:
        folders: from `fetch`.
        placement: from `refgc.model.placement.place`; its quantisation is used, not that of `options`.
        options: what else is done for speed.

    Raises:
        EngineError: the base does not load, or a speed option cannot be had.
        InputError: the adapter is damaged or belongs to another base.
    """
    quantized = placement.quantization != "none"
    fuses = options.fuse and folders.adapter is not None
    # Quantised while it is read, unless experts have to be fused first and main memory holds what they are fused into.
    quantizes_first = quantized and not (fuses and placement.fuses_before_quantizing)
    transformer = load_transformer(folders.base, placement, quantizes=quantizes_first)
    with reading(folders.base):
        pipeline = RefGCSR2Pipeline.from_pretrained(
            folders.base,
            transformer=transformer,
            dtype=placement.dtype,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
        )
    if folders.adapter is not None:
        pipeline.freqmole = weights.load(pipeline.transformer, folders.adapter)
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


def load_transformer(base: Path, placement: Placement, *, quantizes: bool) -> FluxTransformer2DModel:
    """A base's transformer.

    Args:
        base: the folder of the whole pipeline.
        placement: where it goes.
        quantizes: whether its weights are quantised, as the placement says, while they are read.

    Raises:
        EngineError: it does not load.
    """
    # Straight to the GPU, past main memory, where nothing has to be done before.
    straight = quantizes or placement.quantization == "none"
    with reading(base):
        return FluxTransformer2DModel.from_pretrained(
            base,
            subfolder="transformer",
            dtype=placement.dtype,
            quantization_config=_quantization(placement) if quantizes else None,
            device_map=_device_map(placement) if straight else None,
        )


def stream(network: ModelMixin, device: torch.device) -> None:
    """Lets the blocks of a transformer or ControlNet wait in main memory, and come to the device one by one."""
    network.to("cpu")
    network.enable_group_offload(
        onload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        # Pinned copies of all blocks would take main memory twice.
        low_cpu_mem_usage=True,
    )


def prompt_reader(folders: Folders, placement: Placement) -> PromptReader:
    """Reads prompts with the base's text encoders, which are loaded at the first one."""

    def load_encoders() -> FluxKontextPipeline:
        with reading(folders.base):
            return FluxKontextPipeline.from_pretrained(folders.base, transformer=None, vae=None, dtype=placement.dtype)

    return PromptReader(load_encoders, placement.text_device, keep=placement.keeps_text_encoders)


def _is_trained_with_cache(adapter: Path) -> bool:
    try:
        return FreqMoLEConfig.model_validate_json((adapter / weights.CONFIG_FILE).read_bytes()).reference_cache
    except ValidationError:
        return False  # what is wrong with it is told when the adapter is loaded


def _quantization(placement: Placement) -> object:
    if placement.quantization == "none":
        return None
    return config_for(placement.quantization, placement.device)


def _device_map(placement: Placement) -> dict[str, torch.device] | None:
    if on_zero_gpu():
        return None  # the GPU is not there yet; what is moved to it later goes when it is lent
    return {"": placement.device} if placement.device.type == "cuda" and placement.offload == "none" else None


def parameters(folder: Path) -> int:
    """How many parameters the files in a folder hold, from their headers alone.

    Raises:
        EngineError: a file is damaged.
    """
    count = 0
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="pt") as tensors:
                count += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _damaged(file) from error
    return count


@contextmanager
def reading(source: str | Path, what: str = "base") -> Iterator[None]:
    """Without the progress bars of diffusers and transformers; what they say about bad files becomes one sentence.

    Args:
        source: the files, as the sentence is to name them.
        what: they hold, for the sentence.

    Raises:
        EngineError: they cannot be loaded.
    """
    silenced = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled()]
    for library in silenced:
        library.disable_progress_bar()
    try:
        yield
    except SafetensorError as error:
        raise _damaged(source) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        # What follows the first sentence is advice for programmers.
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise EngineError(
            f"The {what} {str(source)!r} cannot be loaded ({reason}); fetch it again, or name another."
        ) from error
    finally:
        for library in silenced:
            library.enable_progress_bar()


def _damaged(file: str | Path) -> EngineError:
    return EngineError(f"{str(file)!r} is damaged or cut off; delete it and fetch it again.")
