"""Quantised weights: torchao's real layers in a transformer that is wide enough for their groups."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from refgc.errors import EngineError
from refgc.flux.acceleration import apply
from refgc.flux.quantization import Quantized, config_for, quantize
from refgc.flux.sizes import QUANTIZED_BYTES
from refgc.flux.speed import SpeedOptions
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.pipeline import RefGCSR2Pipeline
from tests.support.tiny_freqmole import run, teach

pytest.importorskip("torchao")

CPU = torch.device("cpu")
KINDS = ("int8", "fp8", "nf4")
EXPERTS = FreqMoLEConfig(rank=2)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved transformer, of which every layer in the blocks has 256 groups of 64 weights or a multiple."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=24,
        guidance_embeds=True,
        axes_dims_rope=(16, 24, 24),
    )
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.8 / parameter.shape[1] ** 0.5)
    folder = tmp_path_factory.mktemp("wide")
    transformer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_weights_take_the_bytes_that_placement_counts_on(kind: Quantized) -> None:
    block = nn.ModuleDict({"ff": nn.Linear(3072, 512, bias=False, dtype=torch.bfloat16)})
    transformer: Any = nn.ModuleDict({"transformer_blocks": nn.ModuleList([block])})
    quantize(transformer, kind, CPU)
    taken = stored(next(transformer.parameters())) / (3072 * 512)
    assert 0.9 * QUANTIZED_BYTES[kind] < taken <= QUANTIZED_BYTES[kind]


@pytest.mark.parametrize(("kind", "furthest"), [("int8", 0.02), ("fp8", 0.05), ("nf4", 0.2)])
def test_the_blocks_are_quantised_alone_and_the_result_stays_near(wide: Path, kind: Quantized, furthest: float) -> None:
    exact, transformer = run(loaded(wide), torch.bfloat16), loaded(wide)
    quantize(transformer, kind, CPU)
    assert 0 < relative(run(transformer, torch.bfloat16), exact) < furthest
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            assert (type(module.weight) is not nn.Parameter) == ("blocks." in name), name


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_while_read_is_the_same_as_quantised_in_place(wide: Path, kind: Quantized) -> None:
    read, changed = loaded(wide, quantization_config=config_for(kind, CPU)), loaded(wide)
    quantize(changed, kind, CPU)
    assert torch.equal(run(read, torch.bfloat16), run(changed, torch.bfloat16))


@pytest.mark.parametrize("kind", KINDS)
def test_experts_are_fused_before(wide: Path, kind: Quantized, tiny_base: Path) -> None:
    fused = experts_in(loaded(wide))
    fused.fuse(keep_base=False)
    quantize(fused.transformer, kind, CPU)

    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, transformer=loaded(wide))
    pipeline.freqmole = experts_in(pipeline.transformer)
    apply(pipeline, SpeedOptions(quantization=kind), CPU)
    assert torch.equal(run(pipeline.transformer, torch.bfloat16), run(fused.transformer, torch.bfloat16))


@pytest.mark.parametrize("kind", KINDS)
def test_experts_may_stay_beside_quantised_weights(wide: Path, kind: Quantized) -> None:
    exact = run(experts_in(loaded(wide)).transformer, torch.bfloat16)
    without = run(loaded(wide), torch.bfloat16)
    quantized = loaded(wide, quantization_config=config_for(kind, CPU))
    output = run(experts_in(quantized).transformer, torch.bfloat16)
    assert relative(output, exact) < 0.5 * relative(without, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_blocks_may_be_streamed(wide: Path, kind: Quantized) -> None:
    transformer = loaded(wide)
    quantize(transformer, kind, CPU)
    before = run(transformer, torch.bfloat16)
    transformer.enable_group_offload(onload_device=CPU, offload_type="block_level", num_blocks_per_group=1)
    assert torch.equal(run(transformer, torch.bfloat16), before)


def test_without_torchao_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(EngineError, match="need the library torchao: pip install"):
        config_for("int8", CPU)


def loaded(folder: Path, **options: object) -> FluxTransformer2DModel:
    transformer: FluxTransformer2DModel = FluxTransformer2DModel.from_pretrained(
        folder, dtype=torch.bfloat16, **options
    )
    return transformer.eval().requires_grad_(False)


def experts_in(transformer: FluxTransformer2DModel) -> FreqMoLE:
    return teach(inject(transformer, EXPERTS, generator=torch.Generator().manual_seed(1)))


def relative(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


def stored(tensor: Tensor) -> int:
    """Bytes behind a tensor, of however many it is made."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(stored(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()
