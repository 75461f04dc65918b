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

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor, _get_qkv_projections
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from refgc.errors import EngineError

ReferencePass = Literal["write", "read"]
WRITE: Mapping[str, ReferencePass] = {"reference_pass": "write"}
READ: Mapping[str, ReferencePass] = {"reference_pass": "read"}
CACHE_CONTEXT = "reference"
# FLUX's blocks need text tokens. Their keys are dropped before any token attends to them, so their values do not
# matter. With no text tokens at all, layers that quantise their input to 8 bits would have no values to compute a scale
# from.
DROPPED_TEXT_TOKENS = 16


class AttentionObserver(Protocol):
    """Receives the queries and keys of each attention module; see `refgc.model.attention.AttentionRecorder`."""

    def record(self, attention: nn.Module, query: Tensor, key: Tensor) -> None:
        """`query` and `key`, (batch, tokens, heads, head width), are those that `attention` compares."""
        ...


class ReferenceCacheProcessor(FluxAttnProcessor):
    """Attention of FLUX that keeps the condition tokens' keys and values, or reads the kept ones.

    Does what `FluxAttnProcessor` does unless `joint_attention_kwargs` contain

    - `reference_pass="write"`: keys (after norm and rotary position) and values of the image tokens are kept, and no
      others are attended to; `fill` is what calls for this, with `DROPPED_TEXT_TOKENS` text tokens;
    - `reference_pass="read"`: the kept ones are appended to those of this forward;
    - `attention_recorder`: an `AttentionObserver` that receives the queries and all keys.

    Attributes:
        key: (batch, condition tokens, heads, head width), or None where nothing is kept.
        value: likewise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.key: Tensor | None = None
        self.value: Tensor | None = None

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
        if reference_pass == "write":
            key, value = key[:, DROPPED_TEXT_TOKENS:].contiguous(), value[:, DROPPED_TEXT_TOKENS:].contiguous()
            self.key, self.value = key, value
        elif reference_pass == "read":
            if self.key is None or self.value is None:
                raise EngineError("The reference cache is empty; fill it with the condition tokens before reading it.")
            key, value = torch.cat([key, self.key], dim=1), torch.cat([value, self.value], dim=1)
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


def install(transformer: FluxTransformer2DModel) -> None:
    """Give every attention module a processor with a cache of its own; nothing else changes.

    A processor that is installed already stays, with its cache; so does a chosen attention backend.

    Raises:
        EngineError: a module has a processor other than FLUX's own (an IP adapter's, say).
    """
    for name, attention in _attention_modules(transformer):
        stock = attention.processor
        if isinstance(stock, ReferenceCacheProcessor):
            continue
        if type(stock) is not FluxAttnProcessor:
            raise EngineError(
                f"The attention of {name!r} is already changed by {type(stock).__name__}; "
                "unload what brought it before using the reference cache."
            )
        processor = ReferenceCacheProcessor()
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
    if isinstance(transformer, DistributedDataParallel):
        raise EngineError(
            "With the reference cache the transformer runs twice a step, which DDP must see as one forward: wrap "
            "refgc.model.training_step.TrainingStep instead of the transformer."
        )
    install(transformer)
    clear(transformer)
    batch = len(condition_tokens)
    try:
        with transformer.cache_context(CACHE_CONTEXT):
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
    finally:
        if transformer.is_cache_enabled:
            # A step cache that compared the next pass with this one would skip blocks, and their caches would stay
            # empty.
            transformer._reset_stateful_cache()
    return filled


def clear(transformer: FluxTransformer2DModel) -> None:
    """Free the kept keys and values; a read before the next `fill` is an error."""
    for _, attention in _attention_modules(transformer):
        if isinstance(attention.processor, ReferenceCacheProcessor):
            attention.processor.key = attention.processor.value = None


def _attention_modules(transformer: FluxTransformer2DModel) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in transformer.named_modules() if isinstance(module, FluxAttention)]


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
