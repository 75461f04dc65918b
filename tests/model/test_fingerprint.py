"""The fingerprint is that of the base, however it is loaded and whatever is put on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from refgc.flux.quantization import quantize
from refgc.model.backbones.klein import Klein
from refgc.model.fingerprint import fingerprint
from refgc.model.freqmole import FreqMoLEConfig, inject
from tests.support.tiny_freqmole import teach
from tests.support.tiny_klein import tiny_klein_transformer
from tests.support.tiny_models import tiny_transformer


def test_bases_of_the_same_shapes_differ() -> None:
    prints = {fingerprint(tiny_transformer(seed)) for seed in (0, 0, 1)}
    assert len(prints) == 2
    assert all(one is not None and len(one) == 64 for one in prints)


def test_bases_of_flux2_with_the_same_norms_differ() -> None:
    one, other = tiny_klein_transformer(0), tiny_klein_transformer(1)
    norms = {name: value for name, value in one.state_dict().items() if value.ndim == 1}
    other.load_state_dict(norms, strict=False)
    assert len(norms) > 0
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(tiny_klein_transformer(0))


def test_experts_and_quantised_weights_of_flux2_are_the_same_base() -> None:
    transformer = tiny_klein_transformer()
    before = fingerprint(transformer)
    freqmole = teach(inject(transformer, Klein().adapter_config()))
    assert freqmole.config.base_fingerprint == before
    freqmole.fuse(keep_base=False)
    quantize(transformer, "int8", torch.device("cpu"))
    assert fingerprint(transformer) == before


def test_a_guidance_that_nobody_gave_is_left_out_where_the_base_takes_none() -> None:
    targets = {"double_stream_targets": ("attn.to_q",), "single_stream_targets": ()}
    assert inject(tiny_klein_transformer(), FreqMoLEConfig(**targets)).config.guidance is None
    assert inject(tiny_klein_transformer(), FreqMoLEConfig(**targets, guidance=3.0)).config.guidance == 3.0
    assert inject(tiny_transformer()).config.guidance == 2.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_precision_does_not_matter(dtype: torch.dtype) -> None:
    assert fingerprint(tiny_transformer().to(dtype)) == fingerprint(tiny_transformer())


def test_experts_change_nothing_neither_beside_the_weights_nor_in_them() -> None:
    transformer = tiny_transformer()
    before = fingerprint(transformer)
    freqmole = teach(inject(transformer))
    assert freqmole.config.base_fingerprint == fingerprint(transformer) == before
    freqmole.fuse()
    assert fingerprint(transformer) == before


def test_a_fingerprint_that_is_given_stays() -> None:
    assert inject(tiny_transformer(), FreqMoLEConfig(base_fingerprint="0")).config.base_fingerprint == "0"


def test_quantised_weights_are_the_same_base() -> None:
    transformer = tiny_transformer()
    before = fingerprint(transformer)
    quantize(transformer, "int8", torch.device("cpu"))
    assert fingerprint(transformer) == before


@pytest.mark.parametrize("change", [torch.nn.Module.half, lambda module: module.to("meta")])
def test_what_cannot_be_read_exactly_has_none(change) -> None:
    assert fingerprint(change(tiny_transformer())) is None


def test_a_network_without_biases_and_norms_has_none() -> None:
    assert fingerprint(nn.Linear(2, 2, bias=False)) is None
