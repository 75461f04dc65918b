"""The two ControlNets of FLUX.1-dev that act at the same time: one for inpainting, one for Canny edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import ceil
from operator import add
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxControlNetModel, FluxMultiControlNetModel, FluxTransformer2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.controlnets.controlnet import zero_module
from torch import Tensor, nn

from refgc import hub
from refgc.diptych.sources import CONTROLNET_FILES, ControlNetName
from refgc.errors import InputError
from refgc.flux.checks import check_network
from refgc.flux.reading import reading
from refgc.imaging.arrays import Bytes
from refgc.model.tokens import PATCH, pack

# Config entries that must equal the transformer's, so that a ControlNet's outputs can be added to those of its blocks.
SHARED_SIZES = (
    "in_channels",
    "num_attention_heads",
    "attention_head_dim",
    "joint_attention_dim",
    "pooled_projection_dim",
    "axes_dims_rope",
)
# The mode for edges in all published union ControlNets of FLUX.1-dev that tell modes apart.
UNION_CANNY = 0


class ControlNet(FluxControlNetModel):
    """A FLUX ControlNet whose condition may have more channels than the latents, such as a mask's.

    The inpainting ControlNets of alimama-creative need this; the class of diffusers does not have it.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        patch_size: int = 1,
        in_channels: int = 64,
        num_layers: int = 19,
        num_single_layers: int = 38,
        attention_head_dim: int = 128,
        num_attention_heads: int = 24,
        joint_attention_dim: int = 4096,
        pooled_projection_dim: int = 768,
        guidance_embeds: bool = False,
        axes_dims_rope: Sequence[int] = (16, 56, 56),
        num_mode: int | None = None,
        conditioning_embedding_channels: int | None = None,
        extra_condition_channels: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            in_channels=in_channels,
            num_layers=num_layers,
            num_single_layers=num_single_layers,
            attention_head_dim=attention_head_dim,
            num_attention_heads=num_attention_heads,
            joint_attention_dim=joint_attention_dim,
            pooled_projection_dim=pooled_projection_dim,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=axes_dims_rope,
            num_mode=num_mode,
            conditioning_embedding_channels=conditioning_embedding_channels,
        )
        if extra_condition_channels:
            self.controlnet_x_embedder = zero_module(nn.Linear(in_channels + extra_condition_channels, self.inner_dim))


@dataclass(frozen=True, slots=True)
class Given:
    """Inputs of the ControlNets that diffusers' pipeline does not pass on.

    Attributes:
        mask_tokens: (batch, tokens, channels), from `mask_tokens`, appended to the inpainting condition's latents.
        guidance: (batch,) or (1,), the scale of the distilled guidance.
    """

    mask_tokens: Tensor
    guidance: Tensor


class ControlNets(FluxMultiControlNetModel):
    """Both ControlNets: the sum of what they add after each of the transformer's blocks.

    FluxMultiControlNetModel adds their outputs by position in the list. Where the two have different numbers of blocks,
    outputs are then added at the wrong blocks or lost. It also assumes that both or neither embed the guidance.

    Attributes:
        given: inputs of one diptych; it has to be set before a forward pass.
    """

    given: Given | None = None

    def __init__(
        self, inpainting: FluxControlNetModel, canny: FluxControlNetModel, transformer: FluxTransformer2DModel
    ) -> None:
        """Checks that the three go together.

        Raises:
            InputError: a ControlNet belongs to another base or to another kind of condition.
        """
        _check(inpainting, "inpainting", transformer)
        _check(canny, "canny", transformer)
        super().__init__([inpainting, canny])
        self._double_blocks = transformer.config.num_layers
        self._single_blocks = transformer.config.num_single_layers

    @property
    def inpainting(self) -> FluxControlNetModel:
        """The ControlNet for the content."""
        return self.nets[0]

    @property
    def canny(self) -> FluxControlNetModel:
        """The ControlNet for the pose."""
        return self.nets[1]

    @property
    def modes(self) -> list[int | None]:
        """The mode of each; None for one that takes a single kind of condition."""
        return [None, None if self.canny.config.num_mode is None else UNION_CANNY]

    def acting_blocks(self, controlnet: FluxControlNetModel) -> tuple[int, int]:
        """How many double and how many single blocks of a ControlNet change what the transformer does.

        Diffusers spreads a ControlNet's outputs over the transformer's blocks evenly, so that the last ones may serve
        none: of 6 outputs for 19 blocks each serves 4, and the sixth is left over.
        """
        config = controlnet.config
        single = _served(config.num_single_layers, self._single_blocks)
        # Single blocks come after all double ones, and change with any of them.
        return config.num_layers if single else _served(config.num_layers, self._double_blocks), single

    def forward(
        self,
        hidden_states: Tensor,
        controlnet_cond: Sequence[Tensor],
        controlnet_mode: Sequence[Tensor],
        conditioning_scale: Sequence[float],
        **options: Any,
    ) -> tuple[list[Tensor] | None, list[Tensor] | None]:
        """As diffusers' pipeline calls it at each step.

        Args:
            hidden_states: (batch, tokens, channels), the noisy latents; the pipeline has a batch of 1.
            controlnet_cond: for each ControlNet (batch, tokens, channels), the condition's latents.
            controlnet_mode: for each ControlNet (batch,).
            conditioning_scale: for each ControlNet; at 0 it does not run at all.
            options: passed on to both, but for the guidance, which the pipeline has for both or for neither.

        Returns:
            What to add after each double and after each single block of the transformer; None for nothing.
        """
        given = self.given
        assert given is not None
        conditions = (torch.cat([controlnet_cond[0], given.mask_tokens], dim=-1), controlnet_cond[1])
        outputs = [
            net(
                hidden_states=hidden_states,
                controlnet_cond=condition.to(hidden_states.dtype),
                controlnet_mode=mode[:, None],
                conditioning_scale=scale,
                **(options | {"guidance": given.guidance if net.config.guidance_embeds else None}),
            )
            for net, condition, mode, scale in zip(
                self.nets, conditions, controlnet_mode, conditioning_scale, strict=True
            )
            if scale != 0
        ]
        return (
            _at_each_block([double for double, _ in outputs], self._double_blocks),
            _at_each_block([single for _, single in outputs], self._single_blocks),
        )


def known_latents(mask: Bytes, latents: tuple[int, int]) -> Tensor:
    """Where a picture is known: 1, and where it is to be drawn: 0, sampled at every eighth pixel.

    This is how alimama-creative's FLUX.1-dev-Controlnet-Inpainting was trained.

    Args:
        mask: uint8 (height, width), from 128 on to be drawn.
        latents: height and width of the latents, of which those of the mask are a multiple.

    Returns:
        (1, height, width) of the latents, float32.
    """
    step = mask.shape[0] // latents[0]
    return torch.from_numpy(mask[::step, ::step] < 128).float()[None]


def mask_tokens(known: Tensor, controlnet: FluxControlNetModel) -> Tensor:
    """A mask as extra channels of an inpainting ControlNet's condition, packed like the latents.

    Args:
        known: (batch, 1, height, width), from `known_latents`.
        controlnet: its config says whether it takes a mask.

    Returns:
        (batch, tokens, channels); of 0 channels where the ControlNet takes none.
    """
    return pack(known)[..., : _mask_channels(controlnet)]


def load(source: str | Path, label: str, *, dtype: torch.dtype | None = None) -> ControlNet:
    """A ControlNet from a folder or a Hub repository.

    Args:
        source: the folder or repository.
        label: what names the source, for error sentences, such as an environment variable.
        dtype: of the weights; None takes float32.

    Raises:
        EngineError: it cannot be had, is damaged, or its weights do not fit its config.
    """
    folder = hub.fetch(str(source), label, CONTROLNET_FILES)
    with reading(folder, label):
        check_network(folder, ControlNet)
        loaded: ControlNet = ControlNet.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return loaded


def _at_each_block(outputs: Sequence[Sequence[Tensor] | None], blocks: int) -> list[Tensor] | None:
    """The sum of several ControlNets' outputs after each of the transformer's blocks.

    Each of a ControlNet's outputs serves several blocks in a row, as FluxTransformer2DModel spreads those of one.
    """
    given = [own for own in outputs if own]
    if not given:
        return None
    sums: dict[tuple[int, ...], Tensor] = {}
    at_blocks = []
    for block in range(blocks):
        turns = tuple(block // ceil(blocks / len(own)) for own in given)
        if turns not in sums:
            sums[turns] = reduce(add, (own[turn] for own, turn in zip(given, turns, strict=True)))
        at_blocks.append(sums[turns])
    return at_blocks


def _served(outputs: int, blocks: int) -> int:
    """How many of a ControlNet's outputs serve a block of the transformer."""
    return (blocks - 1) // ceil(blocks / outputs) + 1 if outputs and blocks else 0


def _check(controlnet: Any, name: ControlNetName, transformer: FluxTransformer2DModel) -> None:
    config = controlnet.config
    for size in SHARED_SIZES:
        own, other = (_plain(part.config[size]) for part in (controlnet, transformer))
        if own != other:
            raise InputError(
                f"The {name} ControlNet belongs to another base: its {size} is {own}, that of the transformer {other}."
            )
    if config.conditioning_embedding_channels is not None:
        raise InputError(
            f"The {name} ControlNet takes a picture where this pipeline gives latents; take one that was trained on "
            "latents, as those of InstantX, Shakker-Labs or alimama-creative."
        )
    channels = _mask_channels(controlnet)
    if name == "canny" and channels:
        raise InputError(
            f"The canny ControlNet has {channels} channels for a mask, as one for inpainting has; are the two swapped?"
        )
    if channels not in (0, PATCH**2):
        raise InputError(
            f"The inpainting ControlNet has {channels} channels for the mask; take one with {PATCH**2}, a value for "
            "each latent, or with none."
        )
    if name == "inpainting" and config.num_mode is not None:
        raise InputError(
            "The inpainting ControlNet is one for several kinds of condition, none of which is inpainting; take one "
            "for inpainting alone, as that of alimama-creative."
        )


def _mask_channels(controlnet: FluxControlNetModel) -> int:
    channels: int = controlnet.config.get("extra_condition_channels", 0)
    return channels


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value
