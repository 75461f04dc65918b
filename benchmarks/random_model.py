"""FLUX.1-Kontext or FLUX.2 [klein] with random weights, and the work that one picture takes.

The architecture is the real one, by default at its full size; the weights are drawn on the device itself, so that
nothing is downloaded. What is painted is noise, but it costs what the trained model's pictures cost: time and memory of
these layers do not depend on the values, as long as those are finite.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
)
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from refgc.flux.prompts import PromptEmbeddings
from refgc.flux.quantization import Quantized, quantize
from refgc.model import reference_cache
from refgc.model.backbones.base import Backbone
from refgc.model.backbones.klein import Klein
from refgc.model.backbones.kontext import Kontext
from refgc.model.freqmole import FreqMoLE, inject
from refgc.model.loading import AnyRefGCPipeline
from refgc.model.pipeline import RefGCSR2KleinPipeline, RefGCSR2Pipeline
from refgc.model.reference_keys import ReferenceKeys
from refgc.model.tokens import NOISE, PATCH, Conditions, unpack

Architecture = Literal["kontext", "klein"]
HEAD_WIDTH = 128
POOLED_WIDTH, PIXELS_PER_LATENT = 768, 8
TEXT_WIDTHS: dict[Architecture, int] = {"kontext": 4096, "klein": 7680}
LATENT_CHANNELS: dict[Architecture, int] = {"kontext": 16, "klein": 32}
BACKBONES: dict[Architecture, Backbone] = {"kontext": Kontext(), "klein": Klein()}
# Of Kontext, whose guidance costs nothing. The distilled klein is not guided.
GUIDANCE = 2.5
QUANTIZATIONS: tuple[Quantized, ...] = ("fp8", "int8", "nf4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the model and its work are; the defaults are the real ones.

    Attributes:
        architecture: of the model.
        double_blocks: blocks that keep text and pictures apart.
        single_blocks: blocks that do not.
        heads: attention heads of 128; the width of the transformer is 128 times this.
        text_tokens: length of the prompt's embeddings.
        height: of the noise and of both pictures, in pixels, a multiple of 32.
        width: the same.
        steps: of the whole picture.
        rank: of each FreqMoLE expert.
        vae_channels: of the VAE's first level; the others have twice and four times as many.
    """

    architecture: Architecture = "kontext"
    double_blocks: int = 19
    single_blocks: int = 38
    heads: int = 24
    text_tokens: int = 512
    height: int = 1024
    width: int = 1024
    steps: int = 28
    rank: int = 16
    vae_channels: int = 128

    @property
    def latents(self) -> tuple[int, int]:
        """Height and width of a picture's latents."""
        return self.height // PIXELS_PER_LATENT, self.width // PIXELS_PER_LATENT

    @property
    def picture_tokens(self) -> int:
        """Tokens of one picture."""
        return math.prod(self.latents) // PATCH**2

    @property
    def backbone(self) -> Backbone:
        """The architecture."""
        return BACKBONES[self.architecture]


FULL = Sizes()
KLEIN_FULL = Sizes(architecture="klein", double_blocks=5, single_blocks=20, steps=4)
FULLS: dict[Architecture, Sizes] = {"kontext": FULL, "klein": KLEIN_FULL}
# Width and tokens an eighth of the full size, so that attention, projections, text and experts have the shares of the
# work that they have there; and few blocks.
SMALL = Sizes(
    double_blocks=2, single_blocks=4, heads=3, text_tokens=64, height=512, width=256, steps=4, rank=2, vae_channels=16
)


SMALLS: dict[Architecture, Sizes] = {
    "kontext": SMALL,
    "klein": dataclasses.replace(SMALL, architecture="klein", double_blocks=1, single_blocks=4),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a picture is made of.

    Attributes:
        reference: the HRRI, (1, 3, height, width) in [-1, 1].
        generated: the LRGI at the output's size, likewise.
        words: embeddings of a prompt.
        noise: (1, picture tokens, 4 * latent channels).
    """

    reference: Tensor
    generated: Tensor
    words: PromptEmbeddings
    noise: Tensor


def build(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> AnyRefGCPipeline:
    """Transformer and VAE, drawn on `device` in `dtype` as their layers draw themselves; activations stay finite."""
    common = {
        "num_layers": sizes.double_blocks,
        "num_single_layers": sizes.single_blocks,
        "num_attention_heads": sizes.heads,
        "attention_head_dim": HEAD_WIDTH,
        "joint_attention_dim": TEXT_WIDTHS[sizes.architecture],
    }
    of_vae = {
        "block_out_channels": tuple(times * sizes.vae_channels for times in (1, 2, 4, 4)),
        "layers_per_block": 2,
        "latent_channels": LATENT_CHANNELS[sizes.architecture],
        "norm_num_groups": min(32, sizes.vae_channels),
        "sample_size": 1024,
    }
    with _default_dtype(dtype), device:
        if sizes.architecture == "klein":
            transformer = Flux2Transformer2DModel(**common, guidance_embeds=False)
            vae = AutoencoderKLFlux2(**of_vae)
        else:
            transformer = FluxTransformer2DModel(**common, pooled_projection_dim=POOLED_WIDTH, guidance_embeds=True)
            vae = AutoencoderKL(
                **of_vae,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                scaling_factor=0.3611,
                shift_factor=0.1159,
                use_quant_conv=False,
                use_post_quant_conv=False,
            )
    return _pipeline(transformer.eval().requires_grad_(False), vae.eval().requires_grad_(False))


def copy_of(pipeline: AnyRefGCPipeline) -> AnyRefGCPipeline:
    """A pipeline whose transformer may be changed; the VAE is shared."""
    return _pipeline(copy.deepcopy(pipeline.transformer), pipeline.vae)


def _pipeline(transformer: Any, vae: Any) -> AnyRefGCPipeline:
    parts = {"scheduler": FlowMatchEulerDiscreteScheduler(), "vae": vae, "transformer": transformer}
    if isinstance(transformer, Flux2Transformer2DModel):
        return RefGCSR2KleinPipeline(**parts, **dict.fromkeys(Klein.text_parts), is_distilled=True)
    return RefGCSR2Pipeline(**parts, **dict.fromkeys(Kontext.text_parts))


def draw_inputs(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Random pictures, prompt and noise."""

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    return Inputs(
        drawn(1, 3, sizes.height, sizes.width).clamp(-1, 1),
        drawn(1, 3, sizes.height, sizes.width).clamp(-1, 1),
        PromptEmbeddings(
            drawn(1, sizes.text_tokens, TEXT_WIDTHS[sizes.architecture]),
            drawn(1, POOLED_WIDTH) if sizes.architecture == "kontext" else None,
        ),
        drawn(1, sizes.picture_tokens, 4 * LATENT_CHANNELS[sizes.architecture]),
    )


def inject_random(pipeline: AnyRefGCPipeline, rank: int) -> FreqMoLE:
    """Experts on every projection, as if they had learnt something: what they add is small, but not zero."""
    freqmole = inject(pipeline.transformer, pipeline.backbone.adapter_config(rank=rank, lora_alpha=rank))
    for name, parameter in freqmole.named_parameters():
        if name.endswith("_B"):
            nn.init.normal_(parameter, std=0.01)
    return freqmole


@dataclass(slots=True)
class Painter:
    """Paints one picture: encodes both pictures, fills the cache if there is one, runs the steps, decodes.

    Attributes:
        transformer: what it paints with.
        vae: the same.
        inputs: what it is given.
        sizes: how large they are.
        cached: whether the condition tokens' keys and values are computed once, instead of beside the noise each step.
        compact: whether the LRGI is given at half the size.
        skips: which steps the first-block cache skips, over and over; empty without one.
    """

    transformer: Any
    vae: Any
    inputs: Inputs
    sizes: Sizes
    cached: bool = False
    compact: bool = False
    skips: tuple[bool, ...] = ()
    _given: Conditions | None = field(default=None, init=False)

    @torch.no_grad()
    def encode(self) -> None:
        """Both pictures to condition tokens, and those through the transformer where it caches."""
        generated = self.inputs.generated
        if self.compact:
            generated = nn.functional.interpolate(generated, scale_factor=0.5, mode="area")
        backbone = self.sizes.backbone
        hrri, lrgi = (backbone.encode(self.vae, picture) for picture in (self.inputs.reference, generated))
        self._given = backbone.conditions(hrri, lrgi, over=self.sizes.latents)
        if self.cached:
            backbone.fill(self.transformer, self._given, self.inputs.words, GUIDANCE)

    def forget(self) -> None:
        """Free what `encode` made."""
        self._given = None
        reference_cache.clear(self.transformer)
        self._begin()

    def _begin(self) -> None:
        """A cache from step to step remembers nothing, and counts its steps from the first one."""
        if self.transformer.is_cache_enabled:
            self.transformer._reset_stateful_cache()

    @torch.no_grad()
    def step(self, number: int, latents: Tensor, sigma: float) -> Tensor:
        """The velocity at `latents`, as the pipelines of diffusers compute it."""
        assert self._given is not None
        if self.skips:
            skip_blocks(self.transformer, skipped=self.skips[number % len(self.skips)])
        backbone = self.sizes.backbone
        ids = backbone.positions(self.sizes.latents, NOISE, device=latents.device)
        given = None if self.cached else self._given
        at = torch.full((1,), sigma, device=latents.device, dtype=latents.dtype)
        return backbone.velocity(self.transformer, latents, ids, given, self.inputs.words, at, GUIDANCE)

    def steps(self, count: int) -> None:
        """Steps for their time alone, as of a picture that begins."""
        self._begin()
        for number in range(count):
            self.step(number, self.inputs.noise, 0.5)

    def warm_up(self, steps: int) -> None:
        """Everything once, and steps twice: what compiles, compiles anew when it meets a second shape."""
        self.encode()
        self.steps(2 * steps)
        self.decode(self.inputs.noise)

    def seconds(self, count: int, clock: Callable[[], float]) -> float:
        """The time that `count` steps take."""
        started = clock()
        self.steps(count)
        return clock() - started

    @torch.no_grad()
    def paint(self) -> Tensor:
        """The whole picture, (1, 3, height, width)."""
        self.encode()
        self._begin()
        latents = self.inputs.noise
        for number in range(self.sizes.steps):
            velocity = self.step(number, latents, 1 - number / self.sizes.steps)
            latents = latents - velocity / self.sizes.steps
        return self.decode(latents)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Noise tokens that are none any more to a picture, (1, 3, height, width)."""
        latents = self.sizes.backbone.to_vae(self.vae, unpack(latents, *self.sizes.latents))
        picture: Tensor = self.vae.decode(latents, return_dict=False)[0]
        return picture


def skip_blocks(transformer: Any, *, skipped: bool) -> None:
    """Decide for the first-block cache, by its threshold, whether it skips the other blocks at the next step.

    The first step after its cache is emptied is computed in any case.
    """
    registry: Any = transformer.transformer_blocks[0]._diffusers_hook
    registry.get_hook("fbc_leader_block_hook").threshold = math.inf if skipped else -1.0


def count_operations(sizes: Sizes, *, cached: bool, compact: bool) -> dict[str, float]:
    """Floating-point operations, in units of 10^12, of the matrix products and convolutions; nothing is computed.

    Returns:
        "step", one step, and "picture", all steps with encoding, filling and decoding.
    """
    meta, dtype = torch.device("meta"), torch.bfloat16
    with meta:
        pipeline, inputs = build(sizes, meta, dtype), draw_inputs(sizes, meta, dtype)
        painter = Painter(pipeline.transformer, pipeline.vae, inputs, sizes, cached=cached, compact=compact)
        with FlopCounterMode(display=False) as once:
            painter.encode()
            painter.decode(inputs.noise)
        with FlopCounterMode(display=False) as each:
            painter.steps(1)
    step = each.get_total_flops() / 1e12
    return {"step": step, "picture": once.get_total_flops() / 1e12 + sizes.steps * step}


def count_resident_bytes(sizes: Sizes, quantization: Quantized | None, device: torch.device) -> dict[str, int]:
    """Bytes that transformer and VAE take in bfloat16 or quantised, and the reference cache beside them.

    One block of each kind is quantised and counted as often as the model has it, because all blocks of a kind are
    alike; without values where torchao does that, for fp8 on `device`.

    Returns:
        "weights", "cache", and "layer": what the largest quantised layer takes beside them while it computes, since
        kernels that have no 8- or 4-bit product widen its weights to 16 bits; 0 where nothing is quantised.

    Raises:
        EngineError: there is no such quantisation here.
    """
    one_each = dataclasses.replace(sizes, double_blocks=1, single_blocks=1)
    meta, dtype = torch.device("meta"), torch.bfloat16
    pipeline = build(one_each, meta, dtype)
    with meta:
        inputs = draw_inputs(one_each, meta, dtype)
        Painter(pipeline.transformer, pipeline.vae, inputs, one_each, cached=True).encode()
    cache = cache_bytes(pipeline.transformer) // 2 * (sizes.double_blocks + sizes.single_blocks)
    transformer = build(one_each, meta, dtype).transformer
    layer = 0
    if quantization is not None:
        blocks = (transformer.transformer_blocks, transformer.single_transformer_blocks)
        layer = max(_bytes(one.weight) for kind in blocks for one in kind.modules() if isinstance(one, nn.Linear))
        place = device if quantization == "fp8" else meta
        transformer.to_empty(device=place)
        for parameter in transformer.parameters():
            nn.init.constant_(parameter, 0.01)
        quantize(transformer, quantization, place)
    double, single = (
        weight_bytes(kind) for kind in (transformer.transformer_blocks, transformer.single_transformer_blocks)
    )
    once = weight_bytes(transformer, pipeline.vae) - double - single
    weights = once + sizes.double_blocks * double + sizes.single_blocks * single
    return {"weights": weights, "cache": cache, "layer": layer}


def weight_bytes(*models: nn.Module) -> int:
    """Bytes that parameters and buffers take, quantised ones as they are stored."""
    return sum(_bytes(tensor) for model in models for tensor in (*model.parameters(), *model.buffers()))


def cache_bytes(transformer: Any) -> int:
    """Bytes of the reference cache."""
    processors = (getattr(module, "processor", None) for module in transformer.modules())
    caching = (one for one in processors if isinstance(one, ReferenceKeys))
    return sum(_bytes(kept) for one in caching for kept in (one.key, one.value) if kept is not None)


def _bytes(tensor: Tensor) -> int:
    if hasattr(tensor, "__tensor_flatten__"):
        parts, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, part)) for part in parts)
    return tensor.numel() * tensor.element_size()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
