"""The forward that training uses, jointly and with the reference cache, up to a step that lowers the objective."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor

from refgc.errors import EngineError
from refgc.model import reference_cache as caching
from refgc.model.attention import AttentionRecorder, TokenCounts
from refgc.model.losses import noised_latents
from refgc.model.objective import ObjectiveTerms, objective
from refgc.model.tokens import NOISE, Conditions, conditions, pack, position_ids, unpack
from refgc.model.velocity import predict_velocity
from tests.support.tiny_models import LATENT_CHANNELS, POOLED_WIDTH, TEXT_WIDTH, tiny_transformer

BATCH, TEXT, SIZE = 2, 3, (6, 8)
COUNTS = TokenCounts(text=TEXT, noise=12, reference=12, generated=12)
GUIDANCE = torch.full((BATCH,), 2.5)
SIGMA = torch.tensor([0.3, 0.7])


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


TRUTH, NOISE_LATENTS, REFERENCE, GENERATED = (drawn(BATCH, LATENT_CHANNELS, *SIZE, seed=seed) for seed in range(4))
PROMPT, POOLED = drawn(BATCH, TEXT, TEXT_WIDTH, seed=4), drawn(BATCH, POOLED_WIDTH, seed=5)
NOISY_IDS = position_ids(SIZE, NOISE, device=torch.device("cpu"))


def given_conditions() -> Conditions:
    return conditions(REFERENCE, GENERATED, over=SIZE)


def predicted(transformer: FluxTransformer2DModel, condition_tokens: Tensor | None = None, **how) -> Tensor:
    given = given_conditions()
    return predict_velocity(
        transformer,
        pack(noised_latents(TRUTH, NOISE_LATENTS, SIGMA)),
        NOISY_IDS,
        given.tokens if condition_tokens is None else condition_tokens,
        given.ids,
        PROMPT,
        POOLED,
        SIGMA,
        GUIDANCE,
        **how,
    )


def plain_forward(transformer: FluxTransformer2DModel, tokens: Tensor, ids: Tensor, **attention_kwargs) -> Tensor:
    velocity: Tensor = transformer(
        hidden_states=tokens,
        encoder_hidden_states=PROMPT,
        pooled_projections=POOLED,
        timestep=SIGMA,
        img_ids=ids,
        txt_ids=torch.zeros(TEXT, 3),
        guidance=GUIDANCE,
        joint_attention_kwargs=attention_kwargs,
    ).sample
    return velocity[:, : COUNTS.noise]


def test_jointly_it_is_the_stock_forward_over_all_tokens() -> None:
    transformer, given = tiny_transformer(), given_conditions()
    noisy = pack(noised_latents(TRUTH, NOISE_LATENTS, SIGMA))
    expected = plain_forward(transformer, torch.cat([noisy, given.tokens], dim=1), torch.cat([NOISY_IDS, given.ids]))
    found = predicted(transformer, reference_cache=False)
    assert found.shape == noisy.shape
    assert torch.equal(found, expected)
    assert {type(one) for one in transformer.attn_processors.values()} == {FluxAttnProcessor}


def test_with_the_cache_it_is_a_fill_and_a_read() -> None:
    transformer, given = tiny_transformer(), given_conditions()
    found = predicted(transformer, reference_cache=True)
    caching.clear(transformer)
    caching.fill(transformer, given.tokens, given.ids, POOLED, GUIDANCE)
    noisy = pack(noised_latents(TRUTH, NOISE_LATENTS, SIGMA))
    assert torch.equal(found, plain_forward(transformer, noisy, NOISY_IDS, **caching.READ))
    assert not torch.allclose(found, predicted(transformer, reference_cache=False), atol=1e-3)


def test_a_recorder_of_the_conditions_needs_the_joint_forward() -> None:
    transformer = tiny_transformer()
    with pytest.raises(EngineError, match="'noise'"):
        predicted(transformer, reference_cache=True, attention_recorder=AttentionRecorder(transformer, COUNTS))


def recorder_for(transformer: FluxTransformer2DModel, reference_cache: bool) -> AttentionRecorder:
    return AttentionRecorder(transformer, COUNTS, view="noise" if reference_cache else "conditions")


@pytest.mark.parametrize("reference_cache", [False, True])
def test_gradients_reach_the_conditions(reference_cache: bool) -> None:
    transformer = tiny_transformer()
    condition_tokens = given_conditions().tokens.requires_grad_()
    recorder = recorder_for(transformer, reference_cache)
    recorded = predicted(transformer, condition_tokens, reference_cache=reference_cache, attention_recorder=recorder)
    assert torch.equal(recorded, predicted(transformer, reference_cache=reference_cache))
    for target in (recorded, *(maps.reference for maps in recorder.maps.values())):
        (gradient,) = torch.autograd.grad(target.square().sum(), condition_tokens, retain_graph=True)
        assert gradient.abs().amax(dim=(1, 2)).min() > 0


def training_terms(transformer: FluxTransformer2DModel, reference_cache: bool) -> ObjectiveTerms:
    recorder = recorder_for(transformer, reference_cache)
    velocity = predicted(transformer, reference_cache=reference_cache, attention_recorder=recorder)
    mask = torch.zeros(BATCH, 1, 48, 64)
    mask[:, :, 16:, 8:40] = 1
    return objective(
        unpack(velocity, *SIZE),
        TRUTH,
        NOISE_LATENTS,
        SIGMA,
        reference=REFERENCE,
        ground_truth_mask=mask,
        reference_mask=mask.flip(3),
        attention_maps=recorder.maps.values(),
    )


@pytest.mark.parametrize("reference_cache", [False, True])
def test_steps_down_the_gradient_lower_every_term(reference_cache: bool) -> None:
    """On one batch that is seen again and again, with gradient checkpointing as at full size."""
    transformer = tiny_transformer(double_blocks=1, single_blocks=1).requires_grad_(True).train()
    transformer.enable_gradient_checkpointing()
    optimizer = torch.optim.Adam(transformer.parameters(), lr=6e-3)
    first = training_terms(transformer, reference_cache).numbers()
    for _ in range(15):
        optimizer.zero_grad()
        training_terms(transformer, reference_cache).total.backward()
        caching.clear(transformer)
        optimizer.step()
    last = training_terms(transformer, reference_cache).numbers()
    # The statistics of random latents are alike from the beginning, so that L_HF has little to lose.
    limits = {"total": 0.8, "flow_matching": 0.8, "low_frequency": 0.8, "high_frequency": 0.95}
    limits["attention_alignment"] = 0.8
    assert all(last[name] < limit * first[name] for name, limit in limits.items()), (first, last)
