"""FLUX.1-Kontext, the paper's model."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift
from torch import Tensor

from refgc.errors import InputError
from refgc.flux.prompts import PromptEmbeddings, embed_flux
from refgc.model import reference_cache as caching
from refgc.model.backbones.base import Guidance, Schedule, denoising_pass
from refgc.model.freqmole import GUIDANCE, FreqMoLEConfig
from refgc.model.sharding import unwrapped
from refgc.model.tokens import Conditions, conditions, position_ids


class Kontext:
    """See `refgc.model.backbones.base.Backbone`. Guidance is distilled: its scale is an input of the transformer."""

    title = "FLUX.1-Kontext"
    network: Any = FluxTransformer2DModel
    pipeline: Any = FluxKontextPipeline
    text_parts: tuple[str, ...] = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")

    def schedule(self, pipeline: Any) -> Schedule:
        """28 steps, guided by 2.5."""
        return Schedule(28, GUIDANCE)

    def adapter_config(self, **options: Any) -> FreqMoLEConfig:
        """The paper's: every projection of every block."""
        return FreqMoLEConfig(**options)

    def embed(self, pipeline: Any, prompt: str, device: torch.device) -> PromptEmbeddings:
        """T5's embedding of each token, and CLIP's pooled one."""
        return embed_flux(pipeline, prompt, device)

    def check_embeddings(self, embeddings: PromptEmbeddings, guidance: float) -> None:
        """The pooled embedding has to be there."""
        if embeddings.pooled is None:
            raise InputError("Give either a prompt, or both prompt_embeds and pooled_prompt_embeds.")

    def encode(self, vae: Any, picture: Tensor) -> Tensor:
        """The mode of the VAE's distribution, shifted and scaled."""
        mode: Tensor = vae.encode(picture).latent_dist.mode()
        return torch.mul(mode - vae.config.shift_factor, vae.config.scaling_factor)

    def to_vae(self, vae: Any, latents: Tensor) -> Tensor:
        """The inverse of scaling and shift."""
        return torch.add(latents / vae.config.scaling_factor, vae.config.shift_factor)

    def positions(
        self, size: tuple[int, int], picture: int, *, over: tuple[int, int] | None = None, device: torch.device
    ) -> Tensor:
        """(tokens, 3): picture, row and column."""
        return position_ids(size, picture, over=over, device=device)

    def conditions(self, hrri: Tensor, lrgi: Tensor, *, over: tuple[int, int]) -> Conditions:
        """HRRI before LRGI."""
        return conditions(hrri, lrgi, over=over)

    def set_timesteps(
        self, scheduler: Any, sigmas: list[float], *, steps: int, tokens: int, device: torch.device
    ) -> None:
        """The shift depends on the number of tokens alone."""
        config = scheduler.config
        shift = calculate_shift(
            tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        scheduler.set_timesteps(sigmas=sigmas, mu=shift, device=device)

    def inputs(
        self,
        transformer: Any,
        tokens: Tensor,
        ids: Tensor,
        embeddings: PromptEmbeddings,
        sigma: Tensor,
        guidance: Guidance,
    ) -> dict[str, Any]:
        """With CLIP's embedding, and with the guidance where it is distilled."""
        return {
            "hidden_states": tokens,
            "encoder_hidden_states": embeddings.tokens,
            "pooled_projections": embeddings.pooled,
            "timestep": sigma,
            "img_ids": ids,
            "txt_ids": ids.new_zeros(embeddings.tokens.shape[1], ids.shape[1]),
            "guidance": _guidance(transformer, guidance, tokens),
        }

    def fill(self, transformer: Any, given: Conditions, embeddings: PromptEmbeddings, guidance: Guidance) -> Tensor:
        """One pass at timestep 0."""
        assert embeddings.pooled is not None
        scale = _guidance(transformer, guidance, given.tokens)
        return caching.fill(transformer, given.tokens, given.ids, embeddings.pooled, scale)

    def velocity(
        self,
        transformer: Any,
        tokens: Tensor,
        ids: Tensor,
        given: Conditions | None,
        embeddings: PromptEmbeddings,
        sigma: Tensor,
        guidance: float,
    ) -> Tensor:
        """One pass over text, noise and, without the cache, both pictures."""
        return denoising_pass(self, transformer, tokens, ids, given, embeddings, sigma, guidance)

    def plain(self, pipeline: Any) -> FluxKontextPipeline:
        """As any tool loads it."""
        return FluxKontextPipeline(**pipeline.components)


def _guidance(transformer: Any, scale: Guidance, tokens: Tensor) -> Tensor | None:
    if not unwrapped(transformer).config.guidance_embeds:
        return None
    if isinstance(scale, Tensor):
        return scale
    return torch.full((len(tokens),), GUIDANCE if scale is None else scale, device=tokens.device, dtype=torch.float32)
