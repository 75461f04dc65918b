"""The attention of FLUX.2's blocks, with the reference cache and the recorder of `refgc.model.attention`.

The double-stream blocks have projections of their own for text and pictures. In a single-stream block one projection
gives query, key, value and what the feed-forward layer takes in; another takes what attention and feed-forward give.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux2 import (
    Flux2Attention,
    Flux2AttnProcessor,
    Flux2ParallelSelfAttention,
    Flux2ParallelSelfAttnProcessor,
)
from torch import Tensor

from refgc.model.reference_keys import AttentionObserver, ReferenceKeys, ReferencePass

Rotary = tuple[Tensor, Tensor] | None


class _Attending(ReferenceKeys):
    """Position, cache, recorder and attention, which both kinds of block have in common."""

    # Set by diffusers, for one module or for all of a class.
    _attention_backend = None
    _parallel_config = None

    def _attended(
        self,
        attn: Flux2Attention | Flux2ParallelSelfAttention,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotary: Rotary,
        mask: Tensor | None,
        reference_pass: ReferencePass | None,
        recorder: AttentionObserver | None,
    ) -> Tensor:
        """(batch, tokens, heads * head width) of normalised queries and keys (batch, tokens, heads, head width)."""
        if rotary is not None:
            query, key = (apply_rotary_emb(one, rotary, sequence_dim=1) for one in (query, key))
        key, value = self.with_reference(key, value, reference_pass)
        if recorder is not None:
            recorder.record(attn, query, key)
        attended: Tensor = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        return attended.flatten(2).to(query.dtype)


class DoubleStreamProcessor(_Attending, Flux2AttnProcessor):
    """Does what `Flux2AttnProcessor` does, and what `ReferenceCacheProcessor` adds to FLUX.1's."""

    def __call__(
        self,
        attn: Flux2Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary = None,
        reference_pass: ReferencePass | None = None,
        attention_recorder: AttentionObserver | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention over the joined text and image tokens; arguments and result as of `Flux2AttnProcessor`."""
        query, key, value = _image_projections(attn, hidden_states)
        query, key = attn.norm_q(query), attn.norm_k(key)
        if encoder_hidden_states is not None:
            text_query, text_key, text_value = _text_projections(attn, encoder_hidden_states)
            query = torch.cat([attn.norm_added_q(text_query), query], dim=1)
            key = torch.cat([attn.norm_added_k(text_key), key], dim=1)
            value = torch.cat([text_value, value], dim=1)
        attended = self._attended(
            attn, query, key, value, image_rotary_emb, attention_mask, reference_pass, attention_recorder
        )
        project_out, dropout = attn.to_out
        if encoder_hidden_states is None:
            result: Tensor = dropout(project_out(attended))
            return result
        text, image = attended.tensor_split([encoder_hidden_states.shape[1]], dim=1)
        return dropout(project_out(image.contiguous())), attn.to_add_out(text.contiguous())


class SingleStreamProcessor(_Attending, Flux2ParallelSelfAttnProcessor):
    """Does what `Flux2ParallelSelfAttnProcessor` does, and what `ReferenceCacheProcessor` adds to FLUX.1's."""

    def __call__(
        self,
        attn: Flux2ParallelSelfAttention,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary = None,
        reference_pass: ReferencePass | None = None,
        attention_recorder: AttentionObserver | None = None,
    ) -> Tensor:
        """Attention and feed-forward side by side; arguments and result as of `Flux2ParallelSelfAttnProcessor`."""
        projected = attn.to_qkv_mlp_proj(hidden_states)
        query, key, value, fed = projected.tensor_split([attn.inner_dim * count for count in (1, 2, 3)], dim=-1)
        query, key, value = (_heads(one, attn) for one in (query, key, value))
        attended = self._attended(
            attn,
            attn.norm_q(query),
            attn.norm_k(key),
            value,
            image_rotary_emb,
            attention_mask,
            reference_pass,
            attention_recorder,
        )
        result: Tensor = attn.to_out(torch.cat([attended, attn.mlp_act_fn(fed)], dim=-1))
        return result


def _image_projections(attn: Flux2Attention, states: Tensor) -> tuple[Tensor, ...]:
    parts = (
        attn.to_qkv(states).chunk(3, dim=-1)
        if attn.fused_projections
        else (attn.to_q(states), attn.to_k(states), attn.to_v(states))
    )
    return tuple(_heads(part, attn) for part in parts)


def _text_projections(attn: Flux2Attention, states: Tensor) -> tuple[Tensor, ...]:
    parts = (
        attn.to_added_qkv(states).chunk(3, dim=-1)
        if attn.fused_projections
        else (attn.add_q_proj(states), attn.add_k_proj(states), attn.add_v_proj(states))
    )
    return tuple(_heads(part, attn) for part in parts)


def _heads(projected: Tensor, attn: Flux2Attention | Flux2ParallelSelfAttention) -> Tensor:
    return torch.unflatten(projected, -1, (-1, attn.head_dim))
