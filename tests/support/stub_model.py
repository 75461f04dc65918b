"""Pipelines whose model leads where a test says: a VAE that keeps every pixel, and a transformer that is led."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from torch.nn import functional

from refgc.model.pipeline import RefGCSR2KleinPipeline, RefGCSR2Pipeline

PIXELS = 8
CHANNELS = 3 * PIXELS**2
Target = Callable[[Tensor], Tensor]


class LosslessVAE(nn.Module):
    """Latents are the pixels themselves, rearranged; for either architecture."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            scaling_factor=0.5,
            shift_factor=0.25,
            batch_norm_eps=1e-4,
            block_out_channels=(1, 1, 1, 1),
            latent_channels=4,
        )
        self.bn = nn.BatchNorm2d(4 * CHANNELS, affine=False)
        self.bn.running_mean = torch.linspace(-0.5, 0.5, 4 * CHANNELS)
        self.bn.running_var = torch.linspace(0.5, 2, 4 * CHANNELS)

    def encode(self, picture: Tensor) -> Any:
        latents = functional.pixel_unshuffle(picture, PIXELS)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents: Tensor, **_: Any) -> tuple[Tensor]:
        return (functional.pixel_shuffle(latents, PIXELS),)


class LeadingTransformer(nn.Module):
    """Its velocity leads to what `target` makes of the LRGI's tokens, which come last."""

    is_cache_enabled = False
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, target: Target = lambda tokens: tokens) -> None:
        super().__init__()
        self.config = SimpleNamespace(guidance_embeds=False, in_channels=4 * CHANNELS, joint_attention_dim=8)
        self.target = target

    @contextmanager
    def cache_context(self, _name: str) -> Iterator[None]:
        yield

    def forward(self, hidden_states: Tensor, img_ids: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        noise = int((img_ids[:, 0] == 0).sum())
        end = self.target(hidden_states[:, -noise:])
        velocity = torch.zeros_like(hidden_states)
        velocity[:, :noise] = (hidden_states[:, :noise] - end) / timestep[:, None, None]
        return (velocity,)


def leading_pipeline(kind: str, target: Target = lambda tokens: tokens) -> Any:
    """A pipeline of either architecture ("kontext" or "klein") whose model leads to `target` of the LRGI's tokens."""
    parts: dict[str, Any] = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        "text_encoder": None,
        "tokenizer": None,
    }
    pipeline = (
        RefGCSR2KleinPipeline(**parts, vae=None, transformer=None, is_distilled=True)
        if kind == "klein"
        else RefGCSR2Pipeline(**parts, text_encoder_2=None, tokenizer_2=None, vae=None, transformer=None)
    )
    pipeline.vae, pipeline.transformer = LosslessVAE(), LeadingTransformer(target)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def words() -> dict[str, Any]:
    """Embeddings that such a model does not read."""
    return {"prompt_embeds": torch.zeros(1, 4, 8), "pooled_prompt_embeds": torch.zeros(1, 8)}
