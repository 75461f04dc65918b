"""Attention between condition tokens and noise tokens, for the attention-alignment loss, in little memory.

The sequence is [text | noise | HRRI | LRGI]. The loss comes from ImageCritic (HVision-NKU, CVPR 2026): the attention of
a condition picture's queries to the noise keys is averaged over heads and queries, which gives one number for each
place of the generated picture. At 1024 x 1024 the attention of one module has 24 heads x 8192 queries x 12800 keys,
10 GB in single precision. Here it is computed in chunks of queries, and the backward pass computes each chunk again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from refgc.errors import EngineError, InputError
from refgc.model.reference_cache import ATTENTIONS
from refgc.model.sharding import unwrapped

Measure = Literal["attention", "scores"]
View = Literal["conditions", "noise"]

QUERIES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Number of tokens of each kind in the joint sequence, in this order."""

    text: int
    noise: int
    reference: int
    generated: int

    @property
    def total(self) -> int:
        """Length of the joint sequence."""
        return self.text + self.noise + self.reference + self.generated

    @property
    def noise_span(self) -> slice:
        """Positions of the noise tokens."""
        return slice(self.text, self.text + self.noise)

    @property
    def reference_span(self) -> slice:
        """Positions of the HRRI's tokens."""
        return slice(self.noise_span.stop, self.noise_span.stop + self.reference)

    @property
    def generated_span(self) -> slice:
        """Positions of the LRGI's tokens."""
        return slice(self.reference_span.stop, self.total)


@dataclass(frozen=True, slots=True)
class AlignmentMaps:
    """The attention of one module between the condition pictures and the noise, not normalised.

    Attributes:
        reference: (batch, noise tokens), for the HRRI.
        generated: (batch, noise tokens), for the LRGI.
    """

    reference: Tensor
    generated: Tensor


def attention_received(query: Tensor, key: Tensor, span: slice, *, queries_at_once: int = QUERIES_AT_ONCE) -> Tensor:
    """How much attention each of some keys receives, averaged over heads and queries.

    Args:
        query: (batch, queries, heads, head width), the attending queries.
        key: (batch, keys, heads, head width), all keys; the softmax is over these.
        span: the keys of interest.
        queries_at_once: number of queries whose attention is in memory at a time.

    Returns:
        (batch, keys in `span`), in [0, 1], in single precision or the inputs' own if that is higher.
    """
    received = _in_chunks(lambda weights: weights[..., span].sum(dim=(1, 2)), query, key, queries_at_once)
    return torch.stack(received).sum(dim=0) / (query.shape[1] * query.shape[2])


def attention_given(
    query: Tensor, key: Tensor, spans: Collection[slice], *, queries_at_once: int = QUERIES_AT_ONCE
) -> list[Tensor]:
    """How much of each query's attention, averaged over heads, goes to each of some groups of keys.

    Args:
        query: as for `attention_received`.
        key: as for `attention_received`.
        spans: the groups of keys.
        queries_at_once: as for `attention_received`.

    Returns:
        For each group (batch, queries), in [0, 1], in the precision of `attention_received`.
    """

    def given(weights: Tensor) -> Tensor:
        return torch.stack([weights[..., span].sum(dim=-1).mean(dim=1) for span in spans])

    return list(torch.cat(_in_chunks(given, query, key, queries_at_once), dim=-1))


def mean_scores(query: Tensor, key: Tensor) -> Tensor:
    """The scaled products of queries and keys, before any softmax, averaged over heads and queries.

    The published code of ImageCritic uses these scores as the attention. The mean of the products equals the product
    with the mean query, so the cost is negligible.

    Args:
        query: (batch, queries, heads, head width).
        key: (batch, keys, heads, head width).

    Returns:
        (batch, keys), of any sign, in the precision of `attention_received`.
    """
    mean_query = query.mean(dim=1, dtype=_precision(query)) / (query.shape[2] * query.shape[3] ** 0.5)
    return torch.einsum("bhd,bkhd->bk", mean_query, key.to(mean_query.dtype))


class AttentionRecorder:
    """Collects the maps of chosen attention modules during one forward pass; create a new one for each pass.

    To be passed as `joint_attention_kwargs={"attention_recorder": recorder}` to a transformer on which
    `refgc.model.reference_cache.install` was called. Gradients flow through the maps, with gradient checkpointing too.

    Attributes:
        maps: by the module's name ("transformer_blocks.0.attn"), in the order of the forward.
    """

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        counts: TokenCounts,
        *,
        view: View = "conditions",
        measure: Measure = "attention",
        modules: Collection[str] | None = None,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> None:
        """Chooses what is recorded.

        Args:
            transformer: the one that will run, or a wrapper of it (DDP, torch.compile).
            counts: the tokens of its joint sequence; with the reference cache, the keys that its noise tokens see.
            view: "conditions": how the HRRI's and the LRGI's queries, each separately, attend to the noise
                (`attention_received`), as in the paper. "noise": how each noise token attends to the HRRI and to the
                LRGI (`attention_given`). The second is ours and not the paper's. With the reference cache only it is
                possible, since there the condition tokens do not attend to the noise.
            measure: "attention", after a softmax over all keys, or "scores", as in ImageCritic's published code
                (`mean_scores`; with the view "conditions" alone).
            modules: names of the attention modules to record; None stands for those of the double-stream blocks, which
                are the ones that ImageCritic's published code trains with.
            queries_at_once: how many queries' attention exists at a time; memory grows with it.

        Raises:
            InputError: the transformer has no attention module of a given name, or the view has no such measure.
        """
        if view == "noise" and measure == "scores":
            raise InputError("Scores are recorded of the conditions' queries only; choose the measure 'attention'.")
        # Wrappers write a prefix before each name, also those of single blocks that are compiled.
        attentions = {
            name.replace("_orig_mod.", ""): one
            for name, one in unwrapped(transformer).named_modules()
            if isinstance(one, ATTENTIONS)
        }
        if modules is None:
            modules = [name for name in attentions if name.startswith("transformer_blocks.")]
        if unknown := sorted(set(modules) - set(attentions)):
            raise InputError(
                f"The transformer has no attention module {unknown[0]!r}; its first is {min(attentions)!r}."
            )
        self.maps: dict[str, AlignmentMaps] = {}
        self._names = {attentions[name]: name for name in modules}
        self._counts = counts
        self._view = view
        self._measure = measure
        self._queries_at_once = queries_at_once

    def record(self, attention: nn.Module, query: Tensor, key: Tensor) -> None:
        """Keeps the maps of `attention` if it was chosen.

        Args:
            attention: the module that runs.
            query: (batch, query tokens, heads, head width), after norm and rotary position.
            key: (batch, key tokens, heads, head width), likewise, the cached ones included.

        Raises:
            EngineError: the sequence is not as long as the counts say.
        """
        name = self._names.get(attention)
        if name is None:
            return
        if key.shape[1] != self._counts.total or (self._view == "conditions" and query.shape[1] != key.shape[1]):
            raise EngineError(
                f"The recorder of the {self._view} awaits {self._counts.total} tokens, but {name} compares "
                f"{query.shape[1]} queries to {key.shape[1]} keys; with the reference cache record the view 'noise'."
            )
        # Gradient checkpointing runs the module again in the backward pass; the loss holds the maps of the first run.
        self.maps.setdefault(name, self._maps(query, key))

    def _maps(self, query: Tensor, key: Tensor) -> AlignmentMaps:
        counts = self._counts
        pictures = [counts.reference_span, counts.generated_span]
        if self._view == "noise":
            noise_query = query[:, counts.noise_span]
            return AlignmentMaps(*attention_given(noise_query, key, pictures, queries_at_once=self._queries_at_once))
        if self._measure == "scores":
            noise_key = key[:, counts.noise_span]
            return AlignmentMaps(*(mean_scores(query[:, picture], noise_key) for picture in pictures))
        return AlignmentMaps(
            *(
                attention_received(query[:, picture], key, counts.noise_span, queries_at_once=self._queries_at_once)
                for picture in pictures
            )
        )


def _in_chunks(reduce: Callable[[Tensor], Tensor], query: Tensor, key: Tensor, queries_at_once: int) -> list[Tensor]:
    """`reduce` of the attention (batch, heads, queries of the chunk, keys) of each chunk of queries."""
    transposed_key = key.permute(0, 2, 3, 1).contiguous()

    def reduced(chunk: Tensor, transposed_key: Tensor) -> Tensor:
        scores = (chunk * chunk.shape[-1] ** -0.5).transpose(1, 2) @ transposed_key
        return reduce(scores.softmax(dim=-1, dtype=_precision(scores)))

    return [
        checkpoint(reduced, chunk, transposed_key, use_reentrant=False, preserve_rng_state=False)
        for chunk in torch.split(query, queries_at_once, dim=1)
    ]


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
