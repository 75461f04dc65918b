"""The forward pass of training: the velocity of the noise tokens, given text and condition tokens."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from refgc.model import reference_cache as caching
from refgc.model.attention import AttentionRecorder
from refgc.model.sharding import unwrapped


def predict_velocity(
    transformer: FluxTransformer2DModel,
    noisy_tokens: Tensor,
    noisy_ids: Tensor,
    condition_tokens: Tensor,
    condition_ids: Tensor,
    prompt_embeds: Tensor,
    pooled_prompt_embeds: Tensor,
    sigma: Tensor,
    guidance: Tensor | None,
    *,
    reference_cache: bool,
    attention_recorder: AttentionRecorder | None = None,
) -> Tensor:
    """The velocity that the transformer predicts for the noisy tokens.

    Without the reference cache all tokens attend to each other, in the order [text | noise | HRRI | LRGI] of
    ImageCritic. With the
    reference cache the condition tokens attend among themselves at timestep 0 and the others read their keys and
    values (`refgc.model.reference_cache`); the cache stays filled, for gradient checkpointing reads it again: call
    `refgc.model.reference_cache.clear` after the backward pass.

    Args:
        transformer: with or without FreqMoLE.
        noisy_tokens: (batch, noise tokens, 4 * latent channels), z_t. Like all other inputs it may be in another
            precision than the transformer's, and is cast.
        noisy_ids: (noise tokens, 3), position ids.
        condition_tokens: (batch, condition tokens, 4 * latent channels), HRRI before LRGI.
        condition_ids: (condition tokens, 3).
        prompt_embeds: (batch, text tokens, text width), of T5.
        pooled_prompt_embeds: (batch, pooled width), of CLIP.
        sigma: (batch,), in [0, 1], how noisy z_t is.
        guidance: (batch,), or None for a transformer without guidance embedding.
        reference_cache: whether the conditions attend among themselves alone.
        attention_recorder: collects the maps of this forward for the attention-alignment loss; with the reference
            cache its view must be "noise".

    Returns:
        (batch, noise tokens, 4 * latent channels), v of `refgc.model.losses`.

    Raises:
        EngineError: the attention processors are not FLUX's own, or the recorder expects another sequence length.
    """
    attention_kwargs: dict[str, Any] = {}
    # Latents and embeddings may be more precise than the weights, which the layers would refuse.
    dtype = unwrapped(transformer).dtype
    tokens, condition_tokens, prompt_embeds, pooled_prompt_embeds = (
        one.to(dtype) for one in (noisy_tokens, condition_tokens, prompt_embeds, pooled_prompt_embeds)
    )
    ids, filled = noisy_ids, None
    if reference_cache:
        filled = caching.fill(transformer, condition_tokens, condition_ids, pooled_prompt_embeds, guidance)
        attention_kwargs |= caching.READ
    else:
        tokens, ids = torch.cat([tokens, condition_tokens], dim=1), torch.cat([ids, condition_ids])
    if attention_recorder is not None:
        caching.install(transformer)
        attention_kwargs["attention_recorder"] = attention_recorder
    velocity: Tensor = transformer(
        hidden_states=tokens,
        encoder_hidden_states=prompt_embeds,
        pooled_projections=pooled_prompt_embeds,
        timestep=sigma,
        img_ids=ids,
        txt_ids=ids.new_zeros(prompt_embeds.shape[1], ids.shape[1]),
        guidance=guidance,
        joint_attention_kwargs=attention_kwargs,
        return_dict=False,
    )[0]
    if filled is not None:
        velocity = _Anchored.apply(velocity, filled)  # type: ignore[no-untyped-call]
    return velocity[:, : noisy_tokens.shape[1]]


class _Anchored(torch.autograd.Function):
    """Returns its first argument, and gives the second a gradient of zeros.

    Of the pass that fills the cache only keys and values are used. FSDP2 gathers a block's weights for the backward
    pass when the gradient of the block's output arrives. That of the last block never would, and the gradients of its
    keys would be computed from memory that is freed already.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, unused: Tensor) -> Tensor:
        ctx.unused = unused.shape, unused.dtype, unused.device
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        shape, dtype, device = ctx.unused
        return gradient, torch.zeros(shape, dtype=dtype, device=device)
