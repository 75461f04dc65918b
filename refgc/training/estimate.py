"""What a run takes of memory and time, from the base's config alone: no weights are loaded, no GPU is needed.

Everything is counted from the network on torch's meta device, whose tensors have shapes and no values. The time is the
count of operations over what a GPU is assumed to reach; it was compared with no measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refgc import hub
from refgc.errors import EngineError
from refgc.flux.prompts import LONGEST_PROMPT
from refgc.flux.reading import reading
from refgc.flux.sizes import BLOCK_ACTIVATIONS, GIB, QUANTIZED_BYTES, SPARE_BYTES
from refgc.imaging.arrays import Size
from refgc.machine import find_gpus
from refgc.model.attention import QUERIES_AT_ONCE
from refgc.model.backbones.base import Backbone
from refgc.model.freqmole import weight_shapes
from refgc.model.loading import pipeline_class
from refgc.training.refiner import adapter_config
from refgc.training.settings import OptimisationSettings, OptimiserName, RefinerRun

CONFIG = "transformer/config.json"
# Where no working size is set; all Kontext sizes have about as many pixels.
USUAL_SIZE: Size = (1024, 1024)
# Pixels of a token's side.
TOKEN = 16
# Bytes of each trained value: parameter, gradient and DDP's copy of it in single precision.
TRAINED_BYTES = 12
# What an optimiser keeps of each trained value.
OPTIMISER_BYTES: dict[OptimiserName, int] = {"adamw": 8, "adamw-8bit": 2, "prodigy": 16}
AVERAGE_BYTES = 4
# A backward pass holds the activations of a block and their gradients.
BACKWARD = 2
# Copies of a chunk of the attention that is recorded for L_aal, forward and backward. Estimated by counting.
CHUNK_COPIES = 4
# Operations of a backward pass over those of a forward: of a frozen layer the gradient of its input alone, of
# FlashAttention 2.5 (Dao, 2023).
LINEAR_BACKWARD, ATTENTION_BACKWARD = 1.0, 2.5
# The share of a GPU's peak that a run reaches. Chosen by hand.
REACHED = 0.4


@dataclass(frozen=True, slots=True)
class Speed:
    """Peak of a GPU in 10^12 operations a second, dense, by its data sheet.

    Attributes:
        half: of bfloat16 matrices.
        single: of single precision without tensor cores.
        memory: GiB that such a GPU has.
    """

    half: float
    single: float
    memory: float


# By a part of the name that nvidia-smi prints.
SPEEDS = {
    "H200": Speed(989, 67, 141),
    "H100": Speed(989, 67, 80),
    "A100": Speed(312, 19.5, 80),
    "L40S": Speed(362, 91.6, 48),
    "4090": Speed(165, 82.6, 24),
    "3090": Speed(71, 35.6, 24),
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes.

    Attributes:
        title: of the base's architecture.
        base: its parameters.
        base_bytes: of its weights.
        trained: parameters that are trained.
        trained_bytes: of them, their gradients, and what optimiser and average keep.
        working_bytes: of activations, for the samples of one forward.
        tokens: of one sample.
        half: operations of one sample in half precision.
        single: operations of one sample in single precision.
        cached_bytes: of one sample in the cache, its prompt included.
        steps: optimiser steps.
        batch_size: samples of each.
        gpus: how many train.
    """

    title: str
    base: int
    base_bytes: int
    trained: int
    trained_bytes: int
    working_bytes: int
    tokens: int
    half: float
    single: float
    cached_bytes: int
    steps: int
    batch_size: int
    gpus: int

    @property
    def memory(self) -> int:
        """Bytes on each GPU, where each holds everything."""
        return self.base_bytes + self.trained_bytes + self.working_bytes + SPARE_BYTES

    @property
    def sharded_memory(self) -> int:
        """Bytes on each GPU under FSDP2, which shards all but activations."""
        return (self.base_bytes + self.trained_bytes) // self.gpus + self.working_bytes + SPARE_BYTES

    def hours(self, speed: Speed) -> float:
        """Of the whole run, on GPUs of this speed."""
        seconds = (self.half / speed.half + self.single / speed.single) / (1e12 * REACHED)
        return seconds * self.steps * self.batch_size / self.gpus / 3600

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"base: {self.title}, {self.base / 1e9:.2f} billion parameters, {_gib(self.base_bytes)}"
        trained = _gib(self.trained_bytes)
        yield f"trained: {self.trained / 1e6:.0f} million parameters, {trained} with gradients and optimiser"
        yield f"activations: {_gib(self.working_bytes)} for one pass, {self.tokens} tokens a sample"
        yield f"memory: {_gib(self.memory)} on each GPU" + (
            f", with FSDP2 {_gib(self.sharded_memory)}" if self.gpus > 1 else ""
        )
        yield f"cache: {self.cached_bytes / 1e6:.1f} MB a sample"
        found = {gpu.name for gpu in find_gpus()}
        known = {name: speed for name, speed in SPEEDS.items() if any(name in gpu for gpu in found)} or SPEEDS
        for name, speed in known.items():
            need = self.memory if self.gpus == 1 else min(self.memory, self.sharded_memory)
            fits = "" if need <= speed.memory * GIB else ", which does not fit"
            yield f"time: about {self.hours(speed):.0f} hours on {self.gpus} x {name} of {speed.memory:.0f} GB{fits}"


def estimate_run(settings: RefinerRun, *, gpus: int = 1) -> Estimate:
    """Count what a run takes.

    Args:
        settings: of the run.
        gpus: how many would train.

    Raises:
        EngineError: the base's config cannot be had.
    """
    base = hub.fetch(settings.model.base, "model.base", (hub.INDEX, CONFIG))
    backbone = pipeline_class(base).backbone
    transformer = _on_meta(base, backbone)
    trained = sum(prod(shape) for shape in weight_shapes(transformer, adapter_config(settings, base)).values())
    parameters = count_parameters(transformer)
    sizes = _token_counts(settings)
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    doubles, singles = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
    channels = config.in_channels
    words = config.joint_attention_dim * LONGEST_PROMPT
    half, single = _operations(transformer, settings, sizes, width)
    return Estimate(
        title=backbone.title,
        base=parameters,
        base_bytes=int(parameters * QUANTIZED_BYTES.get(settings.model.quantization, 2.0)),
        trained=trained,
        trained_bytes=trained * bytes_per_trained(settings.optimisation),
        working_bytes=settings.run.samples_at_once
        * _working_bytes(settings, sizes, width, doubles + singles, config.num_attention_heads),
        tokens=sizes.all,
        half=half,
        single=single,
        cached_bytes=2 * (channels * (sizes.noise + sizes.conditions) + words),
        steps=settings.run.steps,
        batch_size=settings.run.batch_size,
        gpus=gpus,
    )


def count_parameters(network: nn.Module) -> int:
    """How many parameters a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


def bytes_per_trained(optimisation: OptimisationSettings) -> int:
    """Bytes that each trained value takes, with its gradient and what optimiser and average keep of it."""
    average = AVERAGE_BYTES if optimisation.average else 0
    return TRAINED_BYTES + OPTIMISER_BYTES[optimisation.optimiser] + average


def activation_bytes(values: int, blocks: int, *, gradient_checkpointing: bool) -> int:
    """Bytes that blocks keep for the backward pass, and those of one block in its backward pass.

    Args:
        values: tokens times channels of the hidden states.
        blocks: how many.
        gradient_checkpointing: whether each block is computed again from its input.
    """
    of_each = 1 if gradient_checkpointing else BLOCK_ACTIVATIONS
    return 2 * values * (blocks * of_each + BACKWARD * BLOCK_ACTIVATIONS)


def linear_operations(network: nn.Module, image: int) -> float:
    """Of all linear layers in one forward pass over one sample.

    Args:
        network: a FLUX transformer or ControlNet.
        image: tokens of its pictures.
    """
    return sum(
        2.0 * module.in_features * module.out_features * _rows(name, image)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    )


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of one sample."""

    noise: int
    conditions: int

    @property
    def all(self) -> int:
        """Text included."""
        return self.noise + self.conditions + LONGEST_PROMPT


def _token_counts(settings: RefinerRun) -> _Tokens:
    width, height = settings.data.working_size or USUAL_SIZE
    noise = (width // TOKEN) * (height // TOKEN)
    return _Tokens(noise, noise + (noise // 4 if settings.data.compact_generated else noise))


def _on_meta(base: Path, backbone: Backbone) -> Any:
    """The transformer without weights.

    Raises:
        EngineError: its config cannot be read.
    """
    with reading(base), torch.device("meta"):
        transformer: Any = backbone.network.from_config(backbone.network.load_config(base, subfolder="transformer"))
    if not transformer.transformer_blocks:
        raise EngineError(f"The config of {str(base)!r} describes no blocks; fetch the base again.")
    return transformer


def _working_bytes(settings: RefinerRun, sizes: _Tokens, width: int, blocks: int, heads: int) -> int:
    """Of one sample: what is kept of each block, one block in its backward pass, and the recorded attention."""
    checkpointing = settings.model.gradient_checkpointing
    kept = activation_bytes(sizes.all * width, blocks, gradient_checkpointing=checkpointing)
    if settings.model.reference_cache:
        kept += 2 * blocks * sizes.conditions * width * 2
    if settings.objective.attention_alignment:
        kept += CHUNK_COPIES * QUERIES_AT_ONCE * heads * sizes.all * 4
    return kept


def _operations(transformer: Any, settings: RefinerRun, sizes: _Tokens, width: int) -> tuple[float, float]:
    """Of one sample, forward and backward: in half precision, and in single precision for the recorded attention."""
    linear = linear_operations(transformer, sizes.noise + sizes.conditions)
    doubles, singles = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
    if settings.model.reference_cache:
        pairs = sizes.conditions**2 + (sizes.all - sizes.conditions) * sizes.all
    else:
        pairs = sizes.all**2
    attention = 4.0 * pairs * width * (doubles + singles)
    again = 1 + settings.model.gradient_checkpointing
    half = linear * (again + LINEAR_BACKWARD) + attention * (again + ATTENTION_BACKWARD)
    if not settings.objective.attention_alignment:
        return half, 0.0
    queries = sizes.noise if settings.model.reference_cache else sizes.conditions
    # The products of queries and keys; computed again in the backward pass, whose own are twice as many.
    return half, 2.0 * queries * sizes.all * width * doubles * (again + 1 + 2)


def _rows(name: str, image: int) -> int:
    """How many tokens pass through a layer, of a sample with so many of its pictures."""
    if "norm" in name or "modulation" in name or "embed" in name:
        return 1  # once a sample, or too few to count
    if name.startswith("single_"):
        return image + LONGEST_PROMPT
    is_of_text = "context" in name or "add_" in name
    return LONGEST_PROMPT if is_of_text else image


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
