"""How pictures become tokens of the transformer: packing, positions, and which picture is which.

Layout as ImageCritic (HVision-NKU, CVPR 2026) has it: the text, then three pictures that the first axis of the rotary
position tells apart: the noise (0), the HRRI, which the prompt calls IMG1 (1), the LRGI, IMG2 (2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

NOISE, HRRI, LRGI = 0, 1, 2
# A token is a patch of 2 x 2 latents.
PATCH = 2


@dataclass(frozen=True, slots=True)
class Conditions:
    """The condition tokens of one pair, HRRI before LRGI.

    Attributes:
        tokens: (batch, tokens, 4 * latent channels).
        ids: (tokens, 3), picture, row and column of each token.
    """

    tokens: Tensor
    ids: Tensor


def pack(latents: Tensor) -> Tensor:
    """(batch, channels, height, width) latents to (batch, height / 2 * width / 2, 4 * channels) tokens."""
    return functional.pixel_unshuffle(latents, PATCH).flatten(2).mT


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The latents of `height` x `width` that `pack` made these tokens of."""
    return functional.pixel_shuffle(tokens.mT.reshape(len(tokens), -1, height // PATCH, width // PATCH), PATCH)


def position_ids(height: int, width: int, picture: int, *, step: float = 1.0, device: torch.device) -> Tensor:
    """Picture, row and column of each token of a picture.

    Args:
        height: of the latents, a multiple of 2.
        width: of the latents, a multiple of 2.
        picture: NOISE, HRRI or LRGI.
        step: how many of the noise's tokens one of these spans; 2 for a picture at half the noise's size, whose tokens
            then lie amid the noise's tokens that show the same place.
        device: where the ids are wanted.

    Returns:
        (height / 2 * width / 2, 3), float32.
    """
    rows, columns = ((torch.arange(length // PATCH, device=device) + 0.5) * step - 0.5 for length in (height, width))
    grid = torch.cartesian_prod(rows, columns)
    return torch.cat([torch.full_like(grid[:, :1], picture), grid], dim=1)


def conditions(hrri: Tensor, lrgi: Tensor, *, lrgi_step: float = 1.0) -> Conditions:
    """The condition tokens of a pair.

    Args:
        hrri: (batch, channels, height, width), latents of the reference.
        lrgi: latents of the generated picture, enlarged to the size of the noise or to 1 / `lrgi_step` of it.
        lrgi_step: the noise's size over that of `lrgi`.
    """
    hrri_ids = position_ids(hrri.shape[2], hrri.shape[3], HRRI, device=hrri.device)
    lrgi_ids = position_ids(lrgi.shape[2], lrgi.shape[3], LRGI, step=lrgi_step, device=lrgi.device)
    return Conditions(torch.cat([pack(hrri), pack(lrgi)], dim=1), torch.cat([hrri_ids, lrgi_ids]))
