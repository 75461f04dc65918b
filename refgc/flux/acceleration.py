"""Applies speed options to a loaded pipeline: fusing, quantising, compiling, step cache, attention backend."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, Flux2Transformer2DModel, attention_backend

from refgc.errors import EngineError
from refgc.flux.quantization import quantize
from refgc.flux.speed import SpeedOptions

# Compiled graphs per kind of block, whose code all blocks of the kind share. Beyond the limit torch runs a block
# uncompiled without saying so. Its default of 8 is soon reached, since each size of picture may need one, with and
# without the reference cache. Chosen by hand.
GRAPHS = 64


def apply(pipeline: Any, options: SpeedOptions, device: torch.device | None = None) -> None:
    """Applies speed options in the order that they need: fuse, quantise, attention, compile, step cache.

    `reference_cache` and `compact_generated` belong to a run: they are given to `RefGCSR2Pipeline.refine`. A step cache
    of an earlier call is replaced; what was fused, quantised or compiled stays so.

    Args:
        pipeline: its transformer is changed in place.
        options: `quantization=None` leaves the weights as they are.
        device: that layers are quantised on and the transformer then lies on; None keeps its device.

    Raises:
        EngineError: an option cannot be had on this machine.
    """
    options.check()
    transformer = pipeline.transformer
    if options.step_cache is not None and isinstance(transformer, Flux2Transformer2DModel):
        # First Block Cache of diffusers 0.42 subtracts the first block's pair of outputs from the last one's tensor.
        raise EngineError("The step cache does not work with FLUX.2, whose distilled model has 4 steps; leave it out.")
    if options.fuse and pipeline.freqmole is not None:
        pipeline.freqmole.fuse(keep_base=False)
    if options.quantization is not None and options.quantization != "none":
        quantize(transformer, options.quantization, device or transformer.device)
    if options.attention_backend is not None:
        _use_attention(transformer, options.attention_backend)
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    if options.compile:
        compile_blocks(transformer)
    if options.step_cache is not None:
        transformer.enable_cache(FirstBlockCacheConfig(threshold=options.step_cache))


def compile_blocks(transformer: Any, *, dynamic: bool | None = None) -> None:
    """Compiles each block beneath the hooks of a step cache or of offloading.

    `compile_repeated_blocks` of diffusers traces the hooks as well, so that each block would need a graph of its own.

    Args:
        transformer: is changed in place.
        dynamic: False makes graphs for one size each. With None, which the speed option takes, the first size has one
            of its own, and the second brings one for any size.
    """
    # The process's setting, since the argument of torch.compile exists from torch 2.13 on only.
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, GRAPHS)
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        block.forward = torch.compile(block.forward, dynamic=dynamic)


def _use_attention(transformer: Any, backend: str) -> None:
    try:
        # The context restores the process-wide default, which set_attention_backend also changes for other models.
        with attention_backend(backend):
            transformer.set_attention_backend(backend)
    except (ValueError, ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise EngineError(
            f"The attention backend {backend!r} cannot be had here ({reason}); choose another, or none."
        ) from error
