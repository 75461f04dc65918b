"""The reference cache: keys and values of the condition tokens, computed once per picture and read at every step.

In a joint forward pass every token attends to every other, so the condition tokens (HRRI and LRGI, two thirds of the
sequence) are computed again at each step. If they attend only among themselves, at timestep 0, nothing they compute
depends on the step. One pass over them fills the cache, and the steps that follow run over text and noise only, with
the cached keys and values appended to their own. This is the scheme of OminiControl2 (Tan et al., 2025, "feature
reuse") and of the Flux2KleinKVPipeline of diffusers. It changes what the model computes, so an adapter has to be
trained the way it is used.

The pass is named in `joint_attention_kwargs`, a constant that gradient checkpointing repeats and that `torch.compile`
guards on; the tensors are attributes of the processors, one processor to an attention module. With the blocks compiled
for CUDA graphs (mode "reduce-overhead") the next replay would overwrite them: compile without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor, _get_qkv_projections
from diffusers.models.transformers.transformer_flux2 import (
    Flux2Attention,
    Flux2AttnProcessor,
    Flux2ParallelSelfAttention,
    Flux2ParallelSelfAttnProcessor,
)
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from refgc.errors import EngineError
from refgc.model.backbones.klein_attention import DoubleStreamProcessor, SingleStreamProcessor
from refgc.model.reference_keys import (
    DROPPED_TEXT_TOKENS,
    READ,
    WRITE,
    AttentionObserver,
    ReferenceKeys,
    ReferencePass,
)

__all__ = ["CACHE_CONTEXT", "READ", "WRITE", "ReferenceCacheProcessor", "clear", "fill", "filling", "install"]

CACHE_CONTEXT = "reference"
ATTENTIONS = (FluxAttention, Flux2Attention, Flux2ParallelSelfAttention)


class ReferenceCacheProcessor(ReferenceKeys, FluxAttnProcessor):
    """Attention of FLUX that keeps the condition tokens' keys and values, or reads the kept ones.

    Does what `FluxAttnProcessor` does unless `joint_attention_kwargs` contain

    - `reference_pass="write"`: keys (after norm and rotary position) and values of the image tokens are kept, and no
      others are attended to; `fill` is what calls for this, with `DROPPED_TEXT_TOKENS` text tokens;
    - `reference_pass="read"`: the kept ones are appended to those of this forward;
    - `attention_recorder`: an `AttentionObserver` that receives the queries and all keys.
    """

    def __call__(
        self,
        attn: FluxAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        reference_pass: ReferencePass | None = None,
        attention_recorder: AttentionObserver | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention over the joined text and image tokens; arguments and result as of `FluxAttnProcessor`.

        Raises:
            EngineError: the pass reads and nothing is kept.
        """
        query, key, value = _project(attn, hidden_states, encoder_hidden_states, image_rotary_emb)
        key, value = self.with_reference(key, value, reference_pass)
        if attention_recorder is not None:
            attention_recorder.record(attn, query, key)
        attended: Tensor = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        attended = attended.flatten(2, 3).to(query.dtype)
        if encoder_hidden_states is None:
            return attended
        text_tokens = encoder_hidden_states.shape[1]
        project_out, dropout = attn.to_out
        image_states = dropout(project_out(attended[:, text_tokens:].contiguous()))
        return image_states, attn.to_add_out(attended[:, :text_tokens].contiguous())


PROCESSORS: dict[type, type[ReferenceKeys]] = {
    FluxAttnProcessor: ReferenceCacheProcessor,
    Flux2AttnProcessor: DoubleStreamProcessor,
    Flux2ParallelSelfAttnProcessor: SingleStreamProcessor,
}


def install(transformer: Any) -> None:
    """Give every attention module a processor with a cache of its own; nothing else changes.

    A processor that is installed already stays, with its cache; so does a chosen attention backend.

    Raises:
        EngineError: a module has a processor other than FLUX's own (an IP adapter's, say).
    """
    for name, attention in _attention_modules(transformer):
        stock = attention.processor
        if isinstance(stock, ReferenceKeys):
            continue
        if type(stock) not in PROCESSORS:
            raise EngineError(
                f"The attention of {name!r} is already changed by {type(stock).__name__}; "
                "unload what brought it before using the reference cache."
            )
        processor: Any = PROCESSORS[type(stock)]()
        processor._attention_backend = stock._attention_backend
        processor._parallel_config = stock._parallel_config
        attention.set_processor(processor)


def fill(
    transformer: FluxTransformer2DModel,
    condition_tokens: Tensor,
    condition_ids: Tensor,
    pooled_projections: Tensor,
    guidance: Tensor | None,
) -> Tensor:
    """Run the condition tokens alone through the transformer, at timestep 0 and without text, and keep keys and values.

    An earlier cache is freed first. Nothing is detached, so gradients flow through the cache into the condition tokens
    and the weights. In training call `fill` once per backward pass and `clear` after it, since gradient checkpointing
    reads the cache again in the backward pass. At FLUX's size the cache takes 0.7 MB a token in
    bfloat16, 5.7 GB for two pictures of 1024 x 1024.

    Args:
        transformer: `install` is called on it.
        condition_tokens: (batch, condition tokens, 4 * latent channels), HRRI before LRGI.
        condition_ids: (condition tokens, 3), their position ids; fractions are fine.
        pooled_projections: (batch, pooled width), the prompt's pooled embedding.
        guidance: (batch,), or None for a transformer without guidance embedding.

    Returns:
        What the transformer returns. Its values do not matter; see `refgc.model.velocity.predict_velocity`.

    Raises:
        EngineError: as `install`, or the transformer is wrapped by DDP.
    """
    batch = len(condition_tokens)
    with filling(transformer):
        filled: Tensor = transformer(
            hidden_states=condition_tokens,
            encoder_hidden_states=condition_tokens.new_zeros(
                batch, DROPPED_TEXT_TOKENS, transformer.config.joint_attention_dim
            ),
            pooled_projections=pooled_projections,
            timestep=condition_tokens.new_zeros(batch),
            img_ids=condition_ids,
            txt_ids=condition_ids.new_zeros(DROPPED_TEXT_TOKENS, condition_ids.shape[1]),
            guidance=guidance,
            joint_attention_kwargs=dict(WRITE),
            return_dict=False,
        )[0]
    return filled


@contextmanager
def filling(transformer: Any) -> Iterator[None]:
    """For the pass over the condition tokens: an earlier cache is freed, and no step cache remembers the pass.

    Raises:
        EngineError: as `install`, or the transformer is wrapped by DDP.
    """
    if isinstance(transformer, DistributedDataParallel):
        raise EngineError(
            "With the reference cache the transformer runs twice a step, which DDP must see as one forward: wrap "
            "refgc.model.training_step.TrainingStep instead of the transformer."
        )
    install(transformer)
    clear(transformer)
    try:
        with transformer.cache_context(CACHE_CONTEXT):
            yield
    finally:
        if transformer.is_cache_enabled:
            # A step cache that compared the next pass with this one would skip blocks, and their caches would stay
            # empty.
            transformer._reset_stateful_cache()


def clear(transformer: Any) -> None:
    """Free the kept keys and values; a read before the next `fill` is an error."""
    for _, attention in _attention_modules(transformer):
        if isinstance(attention.processor, ReferenceKeys):
            attention.processor.key = attention.processor.value = None


def _attention_modules(transformer: Any) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in transformer.named_modules() if isinstance(module, ATTENTIONS)]


def _project(
    attn: FluxAttention,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None,
    image_rotary_emb: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of (batch, tokens, heads, head width), text first, normalised, with their positions."""
    query, key, value, *text = _get_qkv_projections(attn, hidden_states, encoder_hidden_states)
    query, key = attn.norm_q(_heads(query, attn)), attn.norm_k(_heads(key, attn))
    value = _heads(value, attn)
    if attn.added_kv_proj_dim is not None:
        text_query, text_key, text_value = (_heads(one, attn) for one in text)
        query = torch.cat([attn.norm_added_q(text_query), query], dim=1)
        key = torch.cat([attn.norm_added_k(text_key), key], dim=1)
        value = torch.cat([text_value, value], dim=1)
    if image_rotary_emb is not None:
        query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1)
        key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
    return query, key, value


def _heads(projected: Tensor, attn: FluxAttention) -> Tensor:
    return torch.unflatten(projected, -1, (-1, attn.head_dim))
