"""The forward pass of training: the velocity of the noise tokens, given text and condition tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refgc.flux.prompts import PromptEmbeddings
from refgc.model import reference_cache as caching
from refgc.model.attention import AttentionRecorder
from refgc.model.backbones.architectures import backbone_of
from refgc.model.sharding import unwrapped
from refgc.model.tokens import Conditions


def predict_velocity(
    transformer: Any,
    noisy_tokens: Tensor,
    noisy_ids: Tensor,
    condition_tokens: Tensor,
    condition_ids: Tensor,
    prompt_embeds: Tensor,
    pooled_prompt_embeds: Tensor | None,
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
        transformer: of any of `refgc.model.backbones`, with or without FreqMoLE.
        noisy_tokens: (batch, noise tokens, 4 * latent channels), z_t. Like all other inputs it may be in another
            precision than the transformer's, and is cast.
        noisy_ids: (noise tokens, axes), position ids.
        condition_tokens: (batch, condition tokens, 4 * latent channels), HRRI before LRGI.
        condition_ids: (condition tokens, axes).
        prompt_embeds: (batch, text tokens, text width), of T5, or of FLUX.2's text encoder.
        pooled_prompt_embeds: (batch, pooled width), of CLIP; None for FLUX.2, which has none.
        sigma: (batch,), in [0, 1], how noisy z_t is.
        guidance: (batch,), for a transformer with guidance embedding; None is what such a model was made for.
        reference_cache: whether the conditions attend among themselves alone.
        attention_recorder: collects the maps of this forward for the attention-alignment loss; with the reference
            cache its view must be "noise".

    Returns:
        (batch, noise tokens, 4 * latent channels), v of `refgc.model.losses`.

    Raises:
        InputError: the pooled embedding is missing.
        EngineError: the transformer is of another architecture, the attention processors are not FLUX's own, or the
            recorder expects another sequence length.
    """
    attention_kwargs: dict[str, Any] = {}
    # Latents and embeddings may be more precise than the weights, which the layers would refuse.
    dtype = unwrapped(transformer).dtype
    tokens, condition_tokens = noisy_tokens.to(dtype), condition_tokens.to(dtype)
    embeddings = PromptEmbeddings(prompt_embeds, pooled_prompt_embeds).to(prompt_embeds.device, dtype)
    backbone = backbone_of(transformer)
    # Of a guidance of 1: training has no second pass.
    backbone.check_embeddings(embeddings, 1.0)
    ids, filled = noisy_ids, None
    if reference_cache:
        filled = backbone.fill(transformer, Conditions(condition_tokens, condition_ids), embeddings, guidance)
        attention_kwargs |= caching.READ
    else:
        tokens, ids = torch.cat([tokens, condition_tokens], dim=1), torch.cat([ids, condition_ids])
    if attention_recorder is not None:
        caching.install(transformer)
        attention_kwargs["attention_recorder"] = attention_recorder
    velocity: Tensor = transformer(
        **backbone.inputs(transformer, tokens, ids, embeddings, sigma, guidance),
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
