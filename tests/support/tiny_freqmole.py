"""A forward pass through a tiny transformer, and experts that have learnt something."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from refgc.model.freqmole import FreqMoLE


def run(transformer: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the transformer makes of 5 text tokens and 12 image tokens, always the same ones; (1, 12, 16)."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    output: Tensor = transformer(
        hidden_states=random(1, 12, 16),
        encoder_hidden_states=random(1, 5, 32),
        pooled_projections=random(1, 24),
        timestep=torch.tensor([0.5], dtype=dtype),
        guidance=torch.tensor([2.5]),
        img_ids=torch.cat([torch.zeros(12, 1), random(12, 2).float() * 4], dim=1),
        txt_ids=torch.zeros(5, 3),
        return_dict=False,
    )[0]
    return output


def teach(freqmole: FreqMoLE, seed: int = 3) -> FreqMoLE:
    """Gives experts and gates values such as training leaves behind."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in freqmole.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return freqmole
