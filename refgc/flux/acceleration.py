"""Speed options done to a loaded pipeline: fusing, quantising, compiling, step cache, attention backend."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, attention_backend

from refgc.errors import EngineError
from refgc.flux.quantization import quantize
from refgc.flux.speed import SpeedOptions

# Graphs of a kind of block before torch runs it uncompiled without a word: its 8 are soon taken by sizes, each with and
# without reference cache.
GRAPHS = 64


def apply(pipeline: Any, options: SpeedOptions, device: torch.device | None = None) -> None:
    """Prepares a loaded pipeline, in the order that the options need: fuse, quantise, attention, compile, step cache.

    `reference_cache` and `compact_generated` belong to a run: they are given to `RefGCSR2Pipeline.refine`. A step cache
    of an earlier call is replaced; what was fused, quantised or compiled stays so.

    Args:
        pipeline: its transformer is changed in place.
        options: `quantization=None` leaves the weights as they are.
        device: where layers are quantised, and the transformer then is; None is where it is now.

    Raises:
        EngineError: an option cannot be had on this machine.
    """
    transformer = pipeline.transformer
    if options.fuse and pipeline.freqmole is not None:
        pipeline.freqmole.fuse(keep_base=False)
    if options.quantization is not None and options.quantization != "none":
        quantize(transformer, options.quantization, device or transformer.device)
    if options.attention_backend is not None:
        _use_attention(transformer, options.attention_backend)
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    if options.compile:
        _compile(transformer)
    if options.step_cache is not None:
        transformer.enable_cache(FirstBlockCacheConfig(threshold=options.step_cache))


def _compile(transformer: Any) -> None:
    """What `compile_repeated_blocks` of diffusers does, but beneath the hooks of a step cache or of offloading.

    Traced along with its hooks each block would need a graph of its own.
    """
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        # Torch's own declarations lack this argument of it.
        block.forward = torch.compile(block.forward, recompile_limit=GRAPHS)  # type: ignore[call-overload]


def _use_attention(transformer: Any, backend: str) -> None:
    try:
        # Inside this context, because otherwise the choice would stand for all other models in the process as well.
        with attention_backend(backend):
            transformer.set_attention_backend(backend)
    except (ValueError, ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise EngineError(
            f"The attention backend {backend!r} cannot be had here ({reason}); choose another, or none."
        ) from error
