"""Training on FLUX.2 [klein]: the same module as for Kontext, jointly and with the reference cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from refgc.errors import EngineError, InputError
from refgc.flux.prompts import PromptEmbeddings
from refgc.model import reference_cache
from refgc.model.attention import AttentionRecorder, TokenCounts
from refgc.model.backbones.architectures import backbone_of
from refgc.model.backbones.klein import Klein
from refgc.model.backbones.kontext import Kontext
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.losses import noised_latents
from refgc.model.tokens import NOISE, pack
from refgc.model.training_step import TrainingStep
from refgc.model.velocity import predict_velocity
from tests.support.tiny_freqmole import teach
from tests.support.tiny_klein import TEXT_WIDTH, tiny_klein_transformer
from tests.support.tiny_models import tiny_transformer
from tests.support.training import SIZE, TEXT, gradients, make_batch

CPU = torch.device("cpu")
BATCH = make_batch()._replace(
    prompt_embeds=torch.randn(2, TEXT, TEXT_WIDTH, generator=torch.Generator().manual_seed(3)),
    pooled_prompt_embeds=None,
)
COUNTS = TokenCounts(text=TEXT, noise=12, reference=8, generated=12)


def taught(reference_cache: bool = False, dtype: torch.dtype = torch.float32) -> FreqMoLE:
    config = Klein().adapter_config(rank=2, reference_cache=reference_cache)
    return teach(inject(tiny_klein_transformer().to(dtype), config))


def compiled(transformer: nn.Module) -> Any:
    torch._dynamo.reset()
    return torch.compile(transformer, backend="eager")


def predicted(transformer: nn.Module, cached: bool) -> Tensor:
    given = Klein().conditions(BATCH.reference, BATCH.generated, over=SIZE)
    return predict_velocity(
        transformer,
        pack(noised_latents(BATCH.ground_truth, BATCH.noise, BATCH.sigma)),
        Klein().positions(SIZE, NOISE, device=CPU),
        given.tokens,
        given.ids,
        BATCH.prompt_embeds,
        None,
        BATCH.sigma,
        None,
        reference_cache=cached,
    )


def test_the_architecture_is_seen_through_wrappers() -> None:
    assert isinstance(backbone_of(compiled(tiny_klein_transformer())), Klein)
    assert isinstance(backbone_of(tiny_transformer()), Kontext)
    with pytest.raises(EngineError, match=r"A Linear is not the transformer of FLUX\.1-Kontext or FLUX\.2"):
        backbone_of(nn.Linear(2, 2))


@pytest.mark.parametrize("cached", [False, True])
def test_the_forward_of_training_is_that_of_refining(cached: bool) -> None:
    transformer, backbone = tiny_klein_transformer(), Klein()
    given = backbone.conditions(BATCH.reference, BATCH.generated, over=SIZE)
    embeddings = PromptEmbeddings(BATCH.prompt_embeds)
    found = predicted(transformer, cached)
    reference_cache.clear(transformer)
    if cached:
        backbone.fill(transformer, given, embeddings, 1.0)
    expected = backbone.velocity(
        transformer,
        pack(noised_latents(BATCH.ground_truth, BATCH.noise, BATCH.sigma)),
        backbone.positions(SIZE, NOISE, device=CPU),
        None if cached else given,
        embeddings,
        BATCH.sigma,
        1.0,
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("cached", [False, True])
def test_every_expert_and_gate_gets_a_gradient_with_checkpointing_as_without(cached: bool) -> None:
    found = []
    for checkpointing in (False, True):
        freqmole = taught(cached)
        step = TrainingStep(freqmole).train()
        if checkpointing:
            freqmole.transformer.enable_gradient_checkpointing()
        terms = step(BATCH)
        assert terms.attention_alignment > 0
        terms.total.backward()
        step.clear()
        assert all(one.key is None for one in freqmole.transformer.attn_processors.values())
        found.append(gradients(freqmole))
        assert all(gradient.isfinite().all() and gradient.any() for gradient in found[-1].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_precise_latents_go_into_a_transformer_of_half_precision() -> None:
    for cached in (False, True):
        total = TrainingStep(taught(cached, torch.bfloat16))(BATCH).total
        assert total.item() == pytest.approx(TrainingStep(taught(cached))(BATCH).total.item(), rel=0.05)


def test_compiled_or_not_the_double_stream_blocks_are_recorded() -> None:
    expected = TrainingStep(taught(True))(BATCH)
    freqmole = taught(True)
    freqmole.transformer = compiled(freqmole.transformer)
    recorder = AttentionRecorder(freqmole.transformer, COUNTS)
    assert list(recorder._names.values()) == ["transformer_blocks.0.attn", "transformer_blocks.1.attn"]
    torch.testing.assert_close(TrainingStep(freqmole)(BATCH).total, expected.total)


def test_what_an_architecture_needs_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    step = TrainingStep(teach(inject(tiny_transformer(), FreqMoLEConfig(rank=2))))
    with pytest.raises(InputError, match="pooled_prompt_embeds"):
        step(make_batch()._replace(pooled_prompt_embeds=None))
    # A wrapper in one process, without what several processes exchange.
    monkeypatch.setattr(DistributedDataParallel, "__init__", lambda self, module: nn.Module.__init__(self))
    wrapped = DistributedDataParallel(nn.Identity())
    wrapped.module = tiny_klein_transformer()
    with pytest.raises(EngineError, match="TrainingStep instead of the transformer"):
        predicted(wrapped, cached=True)
