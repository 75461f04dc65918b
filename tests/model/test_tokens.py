"""Packing, positions and the layout of the condition tokens."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxKontextPipeline
from hypothesis import given
from hypothesis import strategies as st

from refgc.model.tokens import HRRI, LRGI, NOISE, conditions, pack, position_ids, unpack

CPU = torch.device("cpu")
HALF_SIZES = st.integers(1, 6)


@given(HALF_SIZES, HALF_SIZES, st.integers(1, 4), st.integers(1, 2))
def test_packing_is_what_flux_was_trained_with_and_unpacking_undoes_it(rows, columns, channels, batch):
    latents = torch.arange(batch * channels * rows * columns * 4.0).reshape(batch, channels, 2 * rows, 2 * columns)
    tokens = pack(latents)
    stock = FluxKontextPipeline._pack_latents(latents, batch, channels, 2 * rows, 2 * columns)
    assert torch.equal(tokens, stock)
    assert torch.equal(unpack(tokens, 2 * rows, 2 * columns), latents)


@pytest.mark.parametrize("picture", [NOISE, HRRI, LRGI])
def test_positions_are_those_of_flux_but_for_the_picture(picture):
    stock = FluxKontextPipeline._prepare_latent_image_ids(1, 3, 5, "cpu", torch.float32)
    stock[:, 0] = picture
    assert torch.equal(position_ids((6, 10), picture, device=CPU), stock)


def test_a_picture_at_half_size_lies_amid_the_tokens_that_show_the_same_place():
    whole = position_ids((8, 12), NOISE, device=CPU)
    half = position_ids((4, 6), LRGI, over=(8, 12), device=CPU)
    assert half[0].tolist() == [LRGI, 0.5, 0.5]
    assert half[-1].tolist() == [LRGI, 2.5, 4.5]
    assert torch.allclose(half[:, 1:].mean(dim=0), whole[:, 1:].mean(dim=0))


def test_the_reference_comes_before_the_generated_picture_and_may_have_another_size():
    hrri, lrgi = torch.ones(1, 4, 4, 8), torch.full((1, 4, 6, 6), 2.0)
    both = conditions(hrri, lrgi, over=(6, 6))
    assert both.tokens.shape == (1, 8 + 9, 16)
    assert both.tokens[0, :, 0].tolist() == [1.0] * 8 + [2.0] * 9
    assert both.ids[:, 0].tolist() == [HRRI] * 8 + [LRGI] * 9
    assert both.ids.shape == (17, 3)
