"""The averaged attention maps, against the attention matrix written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from diffusers import FluxTransformer2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from refgc.errors import EngineError, InputError
from refgc.model.attention import AttentionRecorder, TokenCounts, attention_given, attention_received, mean_scores
from refgc.model.reference_cache import fill, install
from tests.support.tiny_models import LATENT_CHANNELS, POOLED_WIDTH, TEXT_WIDTH, tiny_transformer

COUNTS = TokenCounts(text=4, noise=9, reference=6, generated=5)
DOUBLE_NAMES = ["transformer_blocks.0.attn", "transformer_blocks.1.attn"]


def random_heads(tokens: int, *, seed: int, heads: int = 3, width: int = 4, batch: int = 2) -> Tensor:
    return torch.randn(batch, tokens, heads, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full_attention(query: Tensor, key: Tensor) -> Tensor:
    """(batch, heads, queries, keys), all at once."""
    return (torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])).softmax(dim=-1)


sizes = st.integers(min_value=1, max_value=12)


@settings(deadline=None, max_examples=30)
@given(queries=sizes, keys=sizes, chunk=sizes, edges=st.tuples(sizes, sizes), seed=st.integers(0, 1000))
def test_chunks_of_any_size_give_what_the_whole_matrix_gives(
    queries: int, keys: int, chunk: int, edges: tuple[int, int], seed: int
) -> None:
    query, key = random_heads(queries, seed=seed), random_heads(keys, seed=seed + 1)
    first = slice(0, min(edges[0], keys))
    rest = slice(first.stop, keys)
    weights = full_attention(query, key)
    received = attention_received(query, key, first, queries_at_once=chunk)
    torch.testing.assert_close(received, weights[..., first].mean(dim=(1, 2)))
    given_to_first, given_to_rest = attention_given(query, key, [first, rest], queries_at_once=chunk)
    torch.testing.assert_close(given_to_first, weights[..., first].sum(dim=-1).mean(dim=1))
    torch.testing.assert_close(given_to_first + given_to_rest, torch.ones(2, queries, dtype=torch.float64))


def test_scores_are_the_mean_of_the_scaled_products() -> None:
    query, key = random_heads(7, seed=0), random_heads(5, seed=1)
    products = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
    torch.testing.assert_close(mean_scores(query, key), products.mean(dim=(1, 2)))


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "received": lambda query, key: attention_received(query, key, slice(1, 4), queries_at_once=2),
    "given": lambda query, key: torch.stack(attention_given(query, key, [slice(0, 2), slice(3, 5)], queries_at_once=2)),
    "scores": mean_scores,
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_gradients_are_those_of_finite_differences(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    query = random_heads(5, seed=0, heads=2, batch=1).requires_grad_()
    key = random_heads(6, seed=1, heads=2, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(measure, (query, key))


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_half_precision_is_averaged_in_single(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    query, key = random_heads(5, seed=0), random_heads(6, seed=1)
    found = measure(query.bfloat16(), key.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, measure(query, key).float(), rtol=0.05, atol=0.02)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return made


@pytest.mark.parametrize("name", ["received", "given"])
def test_no_tensor_is_larger_than_one_chunk_forward_or_backward(name: str) -> None:
    queries, keys, heads, batch, chunk = 64, 96, 3, 2, 8
    query = random_heads(queries, seed=0, heads=heads, batch=batch).requires_grad_()
    key = random_heads(keys, seed=1, heads=heads, batch=batch).requires_grad_()
    span = slice(10, 50)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        kept[memory.data_ptr()] = memory.nbytes() // tensor.element_size()
        return tensor

    with LargestTensor() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            if name == "received":
                total = attention_received(query, key, span, queries_at_once=chunk).square().sum()
            else:
                total = attention_given(query, key, [span], queries_at_once=chunk)[0].square().sum()
        total.backward()
    one_chunk = batch * heads * chunk * keys
    assert largest.elements == one_chunk
    # Nor are the chunks kept one by one for the way back.
    assert query.numel() + key.numel() <= sum(kept.values()) < one_chunk
    assert query.grad is not None
    assert query.grad.abs().min() > 0


class Spy:
    """Keeps the queries and keys of every module."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def record(self, _attention: nn.Module, query: Tensor, key: Tensor) -> None:
        self.seen.append((query, key))


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    model = tiny_transformer(double_blocks=2, single_blocks=1)
    install(model)
    return model


def run(transformer: FluxTransformer2DModel, *, cached: bool = False, **attention_kwargs) -> Tensor:
    """A forward over random tokens, jointly or with the conditions in the cache."""
    draw = torch.Generator().manual_seed(3)
    condition_tokens = COUNTS.reference + COUNTS.generated
    tokens = torch.randn(2, COUNTS.noise + condition_tokens, 4 * LATENT_CHANNELS, generator=draw)
    text = torch.randn(2, COUNTS.text, TEXT_WIDTH, generator=draw)
    pooled, guidance = torch.randn(2, POOLED_WIDTH, generator=draw), torch.full((2,), 2.5)
    ids = torch.stack([torch.arange(tokens.shape[1]) % 3, torch.arange(tokens.shape[1]), torch.zeros(24 - 4)], dim=1)
    if cached:
        fill(transformer, tokens[:, COUNTS.noise :], ids[COUNTS.noise :], pooled, guidance)
        tokens, ids = tokens[:, : COUNTS.noise], ids[: COUNTS.noise]
        attention_kwargs["reference_pass"] = "read"
    output: Tensor = transformer(
        hidden_states=tokens,
        encoder_hidden_states=text,
        pooled_projections=pooled,
        timestep=torch.tensor([0.3, 0.8]),
        img_ids=ids,
        txt_ids=torch.zeros(COUNTS.text, 3),
        guidance=guidance,
        joint_attention_kwargs=attention_kwargs,
        return_dict=False,
    )[0]
    return output[:, : COUNTS.noise]


def test_the_spans_lie_one_after_the_other() -> None:
    tokens = list(range(COUNTS.total))
    assert tokens[COUNTS.noise_span] == list(range(4, 13))
    assert tokens[COUNTS.reference_span] == list(range(13, 19))
    assert tokens[COUNTS.generated_span] == list(range(19, 24))


def test_recorded_maps_are_those_of_the_condition_queries(transformer: FluxTransformer2DModel) -> None:
    spy, recorder = Spy(), AttentionRecorder(transformer, COUNTS, queries_at_once=4)
    plain = run(transformer)
    run(transformer, attention_recorder=spy)
    assert torch.equal(run(transformer, attention_recorder=recorder), plain)
    assert list(recorder.maps) == DOUBLE_NAMES
    for maps, (query, key) in zip(recorder.maps.values(), spy.seen, strict=False):
        averages = full_attention(query, key).mean(dim=1)
        torch.testing.assert_close(maps.reference, averages[:, 13:19, 4:13].mean(dim=1))
        torch.testing.assert_close(maps.generated, averages[:, 19:24, 4:13].mean(dim=1))


@pytest.mark.parametrize("cached", [False, True])
def test_recorded_shares_are_those_of_the_noise_queries(transformer: FluxTransformer2DModel, cached: bool) -> None:
    spy, recorder = Spy(), AttentionRecorder(transformer, COUNTS, view="noise", queries_at_once=4)
    run(transformer, cached=cached, attention_recorder=spy)
    run(transformer, cached=cached, attention_recorder=recorder)
    assert list(recorder.maps) == DOUBLE_NAMES
    for maps, (query, key) in zip(recorder.maps.values(), spy.seen, strict=False):
        assert query.shape[1] == (13 if cached else 24)
        averages = full_attention(query, key).mean(dim=1)
        torch.testing.assert_close(maps.reference, averages[:, 4:13, 13:19].sum(dim=2))
        torch.testing.assert_close(maps.generated, averages[:, 4:13, 19:24].sum(dim=2))


def test_scores_can_be_recorded_instead(transformer: FluxTransformer2DModel) -> None:
    spy = Spy()
    names = ["single_transformer_blocks.0.attn", "transformer_blocks.1.attn"]
    recorder = AttentionRecorder(transformer, COUNTS, measure="scores", modules=names)
    run(transformer, attention_recorder=spy)
    run(transformer, attention_recorder=recorder)
    assert list(recorder.maps) == names[::-1]
    query, key = spy.seen[2]
    torch.testing.assert_close(recorder.maps[names[0]].reference, mean_scores(query[:, 13:19], key[:, 4:13]))


@pytest.mark.parametrize(("view", "cached"), [("conditions", False), ("noise", True)])
def test_gradient_checkpointing_changes_no_gradient_of_the_maps(view, cached: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        transformer = tiny_transformer(double_blocks=2, single_blocks=1).requires_grad_(True).train()
        install(transformer)
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        recorder = AttentionRecorder(transformer, COUNTS, view=view, queries_at_once=4)
        output = run(transformer, cached=cached, attention_recorder=recorder)
        maps = list(recorder.maps.values())
        loss = output.square().mean() + sum((one.reference - one.generated).square().sum() for one in maps)
        loss.backward()
        assert list(recorder.maps.values()) == maps
        gradients.append(transformer.transformer_blocks[0].attn.to_k.weight.grad)
        assert gradients[-1].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0])


def test_with_the_cache_the_conditions_have_nothing_to_record(transformer: FluxTransformer2DModel) -> None:
    recorder = AttentionRecorder(transformer, COUNTS)
    with pytest.raises(EngineError, match="'noise'"):
        run(transformer, cached=True, attention_recorder=recorder)


def test_counts_that_do_not_fit_are_an_error(transformer: FluxTransformer2DModel) -> None:
    recorder = AttentionRecorder(transformer, TokenCounts(4, 9, 6, 6), view="noise")
    with pytest.raises(EngineError, match="25 tokens"):
        run(transformer, attention_recorder=recorder)


def test_only_what_is_there_can_be_recorded(transformer: FluxTransformer2DModel) -> None:
    with pytest.raises(InputError, match=r"transformer_blocks\.7\.attn"):
        AttentionRecorder(transformer, COUNTS, modules=["transformer_blocks.7.attn"])
    with pytest.raises(InputError, match="Scores"):
        AttentionRecorder(transformer, COUNTS, view="noise", measure="scores")
