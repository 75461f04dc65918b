"""Latents and masks whose values are known."""

from __future__ import annotations

import torch
from torch import Tensor


def random_latents(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that depend on the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rectangle(height: int, width: int, rows: slice, columns: slice, batch: int = 1) -> Tensor:
    """A mask (batch, 1, height, width) that is 1 on a rectangle."""
    mask = torch.zeros(batch, 1, height, width)
    mask[:, :, rows, columns] = 1
    return mask
