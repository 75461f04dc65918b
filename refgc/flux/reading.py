"""Loads a base's networks onto the device that a placement names; library errors become one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel, ModelMixin
from diffusers.utils import logging as of_diffusers
from safetensors import SafetensorError
from transformers.utils import logging as of_transformers

from refgc.errors import EngineError
from refgc.flux.checks import check_network, check_pipeline
from refgc.flux.placement import Placement
from refgc.flux.prompts import Embed, PromptReader, embed_flux
from refgc.flux.quantization import config_for
from refgc.machine import on_zero_gpu
from refgc.weight_files import WeightFileError, read_header


def load_transformer(
    base: Path, placement: Placement, *, quantizes: bool, network: Any = FluxTransformer2DModel
) -> Any:
    """A base's transformer.

    Args:
        base: the folder of the whole pipeline.
        placement: where it goes.
        quantizes: whether its weights are quantised while they are read; the placement says how.
        network: class of the transformer.

    Raises:
        EngineError: it does not load.
    """
    # Weights go directly to the GPU, not through main memory, unless they have to be fused and quantised first.
    straight = quantizes or placement.quantization == "none"
    with reading(base):
        check_network(base / "transformer", network)
        return network.from_pretrained(
            base,
            subfolder="transformer",
            use_safetensors=True,
            dtype=placement.dtype,
            quantization_config=_quantization(placement) if quantizes else None,
            device_map=_device_map(placement) if straight else None,
        )


def stream(network: ModelMixin, device: torch.device) -> None:
    """Keeps the blocks of a transformer or ControlNet in main memory and moves each to the device while it runs."""
    network.to("cpu")
    network.enable_group_offload(
        onload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        # Pinned copies of all blocks would take main memory twice.
        low_cpu_mem_usage=True,
    )


def prompt_reader(
    base: Path, placement: Placement, *, pipeline: Any = FluxKontextPipeline, embed: Embed = embed_flux
) -> PromptReader:
    """A reader of prompts with the text encoders of the base, which are loaded for the first prompt.

    Args:
        base: the folder of the whole pipeline.
        placement: where the encoders read.
        pipeline: class of the pipeline, of diffusers.
        embed: turns a prompt into embeddings by such a pipeline.
    """

    def load_encoders() -> Any:
        parts = {"transformer": None, "vae": None}
        with reading(base):
            check_pipeline(base, given=parts)
            return pipeline.from_pretrained(base, use_safetensors=True, dtype=placement.dtype, **parts)

    return PromptReader(load_encoders, placement.text_device, keep=placement.keeps_text_encoders, embed=embed)


def _quantization(placement: Placement) -> object:
    if placement.quantization == "none":
        return None
    return config_for(placement.quantization, placement.device)


def _device_map(placement: Placement) -> dict[str, torch.device] | None:
    if on_zero_gpu():
        return None  # ZeroGPU lends the GPU later, and moves then what was moved to it before
    return {"": placement.device} if placement.device.type == "cuda" and placement.offload == "none" else None


def parameters(folder: Path) -> int:
    """How many parameters the files in a folder hold, from their headers alone.

    Raises:
        EngineError: a file is damaged.
    """
    count = 0
    for file in folder.glob("*.safetensors"):
        try:
            count += sum(entry.size for entry in read_header(file).tensors.values())
        except (WeightFileError, OSError) as error:
            raise damaged(file) from error
    return count


@contextmanager
def reading(source: str | Path, what: str = "base") -> Iterator[None]:
    """Hides the progress bars of diffusers and transformers, and turns their errors about files into one sentence.

    Args:
        source: name of the files in the error sentence.
        what: the subject of the error sentence.

    Raises:
        EngineError: they cannot be loaded.
    """
    silenced = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled()]
    for library in silenced:
        library.disable_progress_bar()
    try:
        yield
    except SafetensorError as error:
        raise damaged(source) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        # The libraries' first sentence tells the reason; the rest is advice for programmers.
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise EngineError(
            f"The {what} {str(source)!r} cannot be loaded ({reason}); fetch it again, or name another."
        ) from error
    finally:
        for library in silenced:
            library.enable_progress_bar()


def damaged(file: str | Path) -> EngineError:
    """The error for a file that cannot be read as weights."""
    return EngineError(f"{str(file)!r} is damaged or cut off; delete it and fetch it again.")
