"""Tokens of the transformer: packing of latents, and position ids, which tell the pictures apart.

The layout is that of ImageCritic (HVision-NKU, CVPR 2026): the text, then three pictures. The first axis of the rotary
position is 0 for the noise, 1 for the HRRI (IMG1 in the prompt) and 2 for the LRGI (IMG2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
        ids: (tokens, 3), picture, row and column of each token; FLUX.2 has a fourth axis, of words.
    """

    tokens: Tensor
    ids: Tensor


def pack(latents: Tensor) -> Tensor:
    """(batch, channels, height, width) latents to (batch, height / 2 * width / 2, 4 * channels) tokens."""
    return functional.pixel_unshuffle(latents, PATCH).flatten(2).mT


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`: latents (batch, channels, `height`, `width`)."""
    return functional.pixel_shuffle(tokens.mT.reshape(len(tokens), -1, height // PATCH, width // PATCH), PATCH)


def position_ids(
    size: tuple[int, int], picture: int, *, over: tuple[int, int] | None = None, device: torch.device
) -> Tensor:
    """Picture, row and column of each token of a picture.

    Args:
        size: height and width of the latents, multiples of 2.
        picture: NOISE, HRRI or LRGI.
        over: height and width of the latents of the picture that this one covers, where its own size differs; its
            positions are then scaled to the positions of that picture.
        device: of the ids.

    Returns:
        (height / 2 * width / 2, 3), float32.
    """
    rows, columns = (
        (torch.arange(own // PATCH, device=device) + 0.5) * (whole / own) - 0.5
        for own, whole in zip(size, over or size, strict=True)
    )
    grid = torch.cartesian_prod(rows, columns)
    return torch.cat([torch.full_like(grid[:, :1], picture), grid], dim=1)


class Positions(Protocol):
    """Gives each token of a picture its position, as `position_ids`."""

    def __call__(
        self, size: tuple[int, int], picture: int, *, over: tuple[int, int] | None = None, device: torch.device
    ) -> Tensor:
        """See `position_ids`; (tokens, axes)."""
        ...


def conditions(hrri: Tensor, lrgi: Tensor, *, over: tuple[int, int], positions: Positions = position_ids) -> Conditions:
    """The condition tokens of a pair.

    Args:
        hrri: (batch, channels, height, width), latents of the reference.
        lrgi: the same of the generated picture, enlarged to the size of the noise or to less of it.
        over: height and width of the noise's latents.
        positions: gives the tokens their positions; another one for another architecture.
    """
    hrri_ids = positions((hrri.shape[2], hrri.shape[3]), HRRI, device=hrri.device)
    lrgi_ids = positions((lrgi.shape[2], lrgi.shape[3]), LRGI, over=over, device=lrgi.device)
    return Conditions(torch.cat([pack(hrri), pack(lrgi)], dim=1), torch.cat([hrri_ids, lrgi_ids]))
