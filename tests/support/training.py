"""Batches for the training step of the tiny model, and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from refgc.model.freqmole import FreqMoLE
from refgc.model.sharding import whole
from refgc.model.training_step import TrainingBatch
from tests.support.tiny_models import LATENT_CHANNELS, POOLED_WIDTH, TEXT_WIDTH

SIZE = (6, 8)
TEXT = 3


def make_batch(samples: int = 2) -> TrainingBatch:
    """Random latents, always the same ones, with an object in all of them."""
    generator = torch.Generator().manual_seed(11)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(samples, *shape, generator=generator)

    mask = torch.zeros(samples, 1, 48, 64)
    mask[:, :, 16:, 8:40] = 1
    return TrainingBatch(
        ground_truth=drawn(LATENT_CHANNELS, *SIZE),
        reference=drawn(LATENT_CHANNELS, 8, 4),
        generated=drawn(LATENT_CHANNELS, *SIZE),
        noise=drawn(LATENT_CHANNELS, *SIZE),
        sigma=torch.linspace(0.3, 0.7, samples),
        prompt_embeds=drawn(TEXT, TEXT_WIDTH),
        pooled_prompt_embeds=drawn(POOLED_WIDTH),
        ground_truth_mask=mask,
        reference_mask=torch.ones(samples, 1, 64, 32),
    )


def part_of(batch: TrainingBatch, rank: int, ranks: int) -> TrainingBatch:
    """The samples of one of several processes."""
    return TrainingBatch._make(None if one is None else one.chunk(ranks)[rank] for one in batch)


def gradients(freqmole: FreqMoLE) -> dict[str, Tensor]:
    """All gradients of experts and gates, whole where they are sharded; all have to be there."""
    found = {}
    for name, parameter in freqmole.named_parameters():
        assert parameter.grad is not None, name
        found[name] = whole(parameter.grad)
    return found
