"""Loading: sizes before anything is read, every placement through the real `from_pretrained`, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxKontextPipeline
from torch import nn

from refgc.errors import EngineError, InputError
from refgc.flux.placement import Placement
from refgc.flux.reading import prompt_reader
from refgc.flux.speed import SpeedOptions
from refgc.model import weights
from refgc.model.freqmole import FreqMoLEConfig, FreqMoLELinear, inject
from refgc.model.loading import Folders, Sources, fetch, load, measure
from tests.support.fake_hub import FakeHub
from tests.support.tiny_freqmole import run, teach
from tests.support.tiny_models import save_tiny_base, tiny_transformer

CPU = torch.device("cpu")
ON_CPU = Placement(CPU, torch.float32, "none", "none", CPU, True, True, "float32 on the CPU.", 0)
QUANTIZED = replace(ON_CPU, dtype=torch.bfloat16, quantization="int8")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with experts that have learnt something."""
    folder = tmp_path_factory.mktemp("adapter")
    weights.save(teach(inject(tiny_transformer(), FreqMoLEConfig(rank=2, reference_cache=True))), folder)
    return folder


@pytest.fixture
def folders(tiny_base: Path, adapter: Path) -> Folders:
    return Folders(tiny_base, adapter)


@pytest.fixture
def spoilt(tiny_base: Path, tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Makes a copy of the base in which one file has another content."""

    def spoil(name: str, content: bytes) -> Path:
        shutil.copytree(tiny_base, tmp_path / "spoilt")
        (tmp_path / "spoilt" / name).write_bytes(content)
        return tmp_path / "spoilt"

    return spoil


def test_sources_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_BASE", "someone/kontext")
    monkeypatch.setenv("REFGC_ADAPTER", "/adapter")
    assert Sources.from_environment() == Sources("someone/kontext", "/adapter")


def test_everything_is_fetched_from_the_hub(hub: FakeHub, tiny_base: Path, adapter: Path) -> None:
    for name, folder in (("someone/kontext", tiny_base), ("someone/adapter", adapter)):
        files = [file for file in folder.rglob("*") if file.is_file()]
        hub.repositories[name] = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    fetched = fetch(Sources("someone/kontext", "someone/adapter"))
    assert fetched.adapter is not None
    pipeline = load(fetched, ON_CPU, SpeedOptions())
    stock = load(Folders(tiny_base, None), ON_CPU, SpeedOptions())
    assert not torch.equal(run(pipeline.transformer), run(stock.transformer))


def test_an_adapter_that_is_not_there_is_told_before_the_base_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"REFGC_ADAPTER is '.*', and there is no config.json in it"):
        fetch(Sources("someone/kontext", str(tmp_path)))


def test_shards_are_read_as_one_file(tmp_path: Path, folders: Folders) -> None:
    sharded = replace(folders, base=save_tiny_base(tmp_path / "sharded", max_shard_size="40KB"))
    assert len(list((sharded.base / "transformer").glob("*.safetensors"))) > 1
    assert measure(sharded, SpeedOptions()) == measure(folders, SpeedOptions())
    first, second = (load(one, ON_CPU, SpeedOptions()).transformer.state_dict() for one in (sharded, folders))
    # Weights and not results, which depend in their last bit on where in the memory the weights lie.
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    next((sharded.base / "transformer").glob("*00002*.safetensors")).unlink()
    with pytest.raises(EngineError) as failure:
        load(sharded, ON_CPU, SpeedOptions())
    assert "\n" not in str(failure.value)


def test_a_base_of_another_kind_is_refused(spoilt: Callable[[str, bytes], Path]) -> None:
    index = json.dumps({"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1"}).encode()
    with pytest.raises(EngineError, match="holds a FluxPipeline; name"):
        fetch(Sources(str(spoilt("model_index.json", index))))


def test_sizes_are_counted_from_the_files(tiny_base: Path, adapter: Path) -> None:
    size = measure(Folders(tiny_base, None), SpeedOptions())
    pipeline = FluxKontextPipeline.from_pretrained(tiny_base)
    assert size.transformer == pipeline.transformer.num_parameters()
    assert size.vae == pipeline.vae.num_parameters()
    assert size.text_encoders == pipeline.text_encoder.num_parameters() + pipeline.text_encoder_2.num_parameters()
    assert (size.width, size.blocks, size.reference_cache) == (32, 5, False)
    assert measure(Folders(tiny_base, adapter), SpeedOptions()).reference_cache
    assert not measure(Folders(tiny_base, adapter), SpeedOptions(reference_cache=False)).reference_cache


def test_the_stock_model_is_loaded_without_its_text_encoders(tiny_base: Path) -> None:
    pipeline = load(Folders(tiny_base, None), ON_CPU, SpeedOptions())
    assert pipeline.text_encoder is None
    assert pipeline.text_encoder_2 is None
    assert pipeline.freqmole is None
    assert torch.equal(run(pipeline.transformer), run(tiny_transformer()))
    assert prompt_reader(tiny_base, ON_CPU).read("a mug").tokens.shape == (1, 512, 32)


def test_experts_are_fused_unless_that_is_switched_off(folders: Folders) -> None:
    fused, beside = (load(folders, ON_CPU, SpeedOptions(fuse=fuse)) for fuse in (True, False))
    assert not any(isinstance(module, FreqMoLELinear) for module in fused.transformer.modules())
    assert any(isinstance(module, FreqMoLELinear) for module in beside.transformer.modules())
    torch.testing.assert_close(run(fused.transformer), run(beside.transformer), rtol=1e-4, atol=1e-4)


def test_experts_are_in_the_weights_before_these_are_quantised(folders: Folders) -> None:
    pytest.importorskip("torchao")
    before = load(folders, QUANTIZED, SpeedOptions()).transformer
    beside = load(folders, replace(QUANTIZED, fuses_before_quantizing=False), SpeedOptions()).transformer
    exact = load(folders, replace(QUANTIZED, quantization="none"), SpeedOptions()).transformer
    assert not any(isinstance(module, FreqMoLELinear) for module in before.modules())
    assert any(isinstance(module, FreqMoLELinear) for module in beside.modules())
    for transformer in (before, beside):
        layer = transformer.single_transformer_blocks[0].proj_mlp
        assert type(getattr(layer, "base", layer).weight) is not nn.Parameter
        wanted = run(exact, torch.bfloat16).float()
        assert (run(transformer, torch.bfloat16).float() - wanted).norm() < 0.1 * wanted.norm()


def test_blocks_that_are_streamed_compute_the_same(folders: Folders) -> None:
    streamed = load(folders, replace(ON_CPU, offload="group"), SpeedOptions())
    assert torch.equal(run(streamed.transformer), run(load(folders, ON_CPU, SpeedOptions()).transformer))
    assert streamed.transformer._diffusers_hook.get_hook("group_offloading") is not None


def test_a_weight_file_that_is_cut_off_is_told_before_anything_is_loaded(
    tiny_base: Path, spoilt: Callable[[str, bytes], Path]
) -> None:
    name = "transformer/diffusion_pytorch_model.safetensors"
    folder = spoilt(name, (tiny_base / name).read_bytes()[:-100])
    with pytest.raises(EngineError) as failure:
        measure(Folders(folder, None), SpeedOptions())
    assert str(failure.value) == f"{str(folder / name)!r} is damaged or cut off; delete it and fetch it again."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "cannot be loaded ("),
        (b'{"_class_name": "FluxTransformer2DModel"}', "('num_attention_heads' is missing)"),
        (b'{"num_attention_heads": 2, "attention_head_dim": "wide", "num_layers": null}', "cannot be loaded ("),
    ],
)
def test_a_damaged_description_is_told_in_a_sentence_before_anything_is_loaded(
    spoilt: Callable[[str, bytes], Path], content: bytes, said: str
) -> None:
    folder = spoilt("transformer/config.json", content)
    with pytest.raises(EngineError) as failure:
        measure(Folders(folder, None), SpeedOptions())
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)
    assert str(failure.value).endswith("; fetch it again, or name another.")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("transformer/config.json", b'{"_class_name": "FluxTransformer2DModel", "num_layers": 1}'),
        ("vae/config.json", b"{"),
        ("scheduler/scheduler_config.json", b"not JSON"),
        ("vae/diffusion_pytorch_model.safetensors", b"no weights"),
    ],
)
def test_a_base_that_cannot_be_read_is_told_in_a_sentence(
    spoilt: Callable[[str, bytes], Path], name: str, content: bytes
) -> None:
    with pytest.raises(EngineError) as failure:
        load(Folders(spoilt(name, content), None), ON_CPU, SpeedOptions())
    said = str(failure.value)
    assert "\n" not in said
    assert said.endswith((" or name another.", "fetch it again."))


def test_text_encoders_that_cannot_be_read_are_told_in_a_sentence(spoilt: Callable[[str, bytes], Path]) -> None:
    folder = spoilt("text_encoder_2/model.safetensors", b"no weights")
    with pytest.raises(EngineError) as failure:
        prompt_reader(folder, ON_CPU).read("a mug")
    assert "\n" not in str(failure.value)


def test_an_adapter_of_another_base_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    weights.save(inject(tiny_transformer(single_blocks=1)), tmp_path)
    with pytest.raises(InputError, match="lacks"):
        load(Folders(tiny_base, tmp_path), ON_CPU, SpeedOptions())
