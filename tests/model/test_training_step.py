"""One step of training as one module, in one process: the same as its parts, with every precision and wrapper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from refgc.errors import EngineError
from refgc.model.attention import AttentionRecorder, TokenCounts
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.losses import noised_latents
from refgc.model.objective import ObjectiveSettings, ObjectiveTerms, objective
from refgc.model.tokens import NOISE, conditions, pack, position_ids, unpack
from refgc.model.training_step import TrainingStep
from refgc.model.velocity import predict_velocity
from tests.support.tiny_freqmole import teach
from tests.support.tiny_models import tiny_transformer
from tests.support.training import SIZE, TEXT, gradients, make_batch

BATCH = make_batch()
COUNTS = TokenCounts(text=TEXT, noise=12, reference=8, generated=12)


def taught(reference_cache: bool = False, dtype: torch.dtype = torch.float32, **config: Any) -> FreqMoLE:
    return teach(
        inject(tiny_transformer().to(dtype), FreqMoLEConfig(rank=2, reference_cache=reference_cache, **config))
    )


def assembled(freqmole: FreqMoLE, reference_cache: bool) -> ObjectiveTerms:
    """The same out of its parts."""
    transformer = freqmole.transformer
    recorder = AttentionRecorder(transformer, COUNTS, view="noise" if reference_cache else "conditions")
    given = conditions(BATCH.reference, BATCH.generated, over=SIZE)
    assert freqmole.config.guidance is not None
    velocity = predict_velocity(
        transformer,
        pack(noised_latents(BATCH.ground_truth, BATCH.noise, BATCH.sigma)),
        position_ids(SIZE, NOISE, device=torch.device("cpu")),
        given.tokens,
        given.ids,
        BATCH.prompt_embeds,
        BATCH.pooled_prompt_embeds,
        BATCH.sigma,
        torch.full((2,), freqmole.config.guidance),
        reference_cache=reference_cache,
        attention_recorder=recorder,
    )
    return objective(
        unpack(velocity, *SIZE),
        BATCH.ground_truth,
        BATCH.noise,
        BATCH.sigma,
        reference=BATCH.reference,
        ground_truth_mask=BATCH.ground_truth_mask,
        reference_mask=BATCH.reference_mask,
        attention_maps=recorder.maps.values(),
    )


@pytest.mark.parametrize("reference_cache", [False, True])
def test_it_is_its_parts_with_the_guidance_of_the_config(reference_cache: bool) -> None:
    freqmole = taught(reference_cache, guidance=3.0)
    step = TrainingStep(freqmole)
    terms = step(BATCH)
    assert len(terms.numbers()) == 13
    for found, expected in zip(terms, assembled(freqmole, reference_cache), strict=True):
        torch.testing.assert_close(found, expected)
    other = TrainingStep(taught(reference_cache, guidance=1.0))(BATCH)
    assert not torch.allclose(other.total, terms.total, atol=1e-4)


@pytest.mark.parametrize("reference_cache", [False, True])
def test_every_expert_and_gate_gets_a_gradient_with_checkpointing_as_without(reference_cache: bool) -> None:
    found = []
    for checkpointing in (False, True):
        freqmole = taught(reference_cache)
        step = TrainingStep(freqmole).train()
        if checkpointing:
            freqmole.transformer.enable_gradient_checkpointing()
        step(BATCH).total.backward()
        step.clear()
        assert all(one.key is None for one in freqmole.transformer.attn_processors.values() if reference_cache)
        found.append(gradients(freqmole))
        assert all(gradient.isfinite().all() and gradient.any() for gradient in found[-1].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_without_its_weight_no_attention_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    step = TrainingStep(taught(), ObjectiveSettings(attention_alignment=0))
    monkeypatch.setattr(AttentionRecorder, "record", lambda *_: pytest.fail("recorded"))
    assert step(BATCH).attention_alignment.item() == 0


def test_precise_latents_go_into_a_transformer_of_half_precision() -> None:
    """The weights decide the precision of the forward; the losses are computed in single precision."""
    for reference_cache in (False, True):
        freqmole = taught(reference_cache, torch.bfloat16)
        terms = TrainingStep(freqmole)(BATCH)
        assert terms.total.dtype == torch.float32
        exact = TrainingStep(taught(reference_cache))(BATCH)
        assert terms.total.item() == pytest.approx(exact.total.item(), rel=0.05)
        terms.total.backward()
        assert {gradient.dtype for gradient in gradients(freqmole).values()} == {torch.float32}


def compiled(transformer: FluxTransformer2DModel) -> Any:
    torch._dynamo.reset()
    return torch.compile(transformer, backend="eager")


def compiled_blocks(transformer: FluxTransformer2DModel) -> FluxTransformer2DModel:
    torch._dynamo.reset()
    for blocks in (transformer.transformer_blocks, transformer.single_transformer_blocks):
        for number, block in enumerate(blocks):
            blocks[number] = torch.compile(block, backend="eager")
    return transformer


@pytest.mark.parametrize("wrap", [compiled, compiled_blocks])
def test_compiled_or_not_the_double_stream_blocks_are_recorded(wrap: Any) -> None:
    expected = TrainingStep(taught())(BATCH)
    transformer = taught().transformer
    recorder = AttentionRecorder(wrap(transformer), COUNTS)
    assert sorted(recorder._names.values()) == ["transformer_blocks.0.attn", "transformer_blocks.1.attn"]
    freqmole = taught()
    freqmole.transformer = wrap(freqmole.transformer)
    terms = TrainingStep(freqmole)(BATCH)
    torch.testing.assert_close(terms.attention_alignment, expected.attention_alignment)
    torch.testing.assert_close(terms.total, expected.total)


def test_a_part_of_the_graph_that_is_not_used_gets_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pass that fills the cache returns, not even what is no number reaches the loss."""
    from refgc.model import reference_cache as caching

    unused: list[Tensor] = []
    fill = caching.fill

    def spoilt(*arguments: Any) -> Tensor:
        unused.append(fill(*arguments) * torch.nan)
        unused[0].retain_grad()
        return unused[0]

    monkeypatch.setattr(caching, "fill", spoilt)
    total = TrainingStep(taught(reference_cache=True))(BATCH).total
    total.backward()
    assert total.isfinite()
    assert unused[0].grad is not None
    assert unused[0].grad.abs().max() == 0


def test_experts_that_are_folded_in_cannot_be_trained() -> None:
    freqmole = taught()
    freqmole.fuse()
    with pytest.raises(EngineError, match=r"call unfuse\(\) to train them"):
        TrainingStep(freqmole)
    freqmole.unfuse()
    assert TrainingStep(freqmole)(BATCH).total.requires_grad
