"""FLUX.2 [klein] with everything that Kontext has: experts, fusing, export, reference cache, recorder, placements."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, Flux2KleinPipeline
from torch import Tensor, nn

from refgc.engine import Report
from refgc.errors import EngineError, InputError
from refgc.flux.placement import Placement
from refgc.flux.prompts import PromptEmbeddings
from refgc.flux.reading import prompt_reader
from refgc.flux.speed import SpeedOptions
from refgc.model import reference_cache, weights
from refgc.model.attention import AttentionRecorder, TokenCounts, attention_received
from refgc.model.backbones.klein import Klein
from refgc.model.engine import DiffusionEngine
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, FreqMoLELinear, inject
from refgc.model.loading import Folders, Sources, load, measure, pipeline_class
from refgc.model.pipeline import RefGCSR2KleinPipeline, RefGCSR2Pipeline
from refgc.model.settings import DenoisingSettings
from refgc.model.tokens import NOISE, Conditions
from refgc.request import RefineRequest
from tests.support.tiny_freqmole import teach
from tests.support.tiny_klein import TEXT_WIDTH, run_klein, save_tiny_klein, tiny_klein_transformer

CPU = torch.device("cpu")
ON_CPU = Placement(CPU, torch.float32, "none", "none", CPU, True, True, "float32 on the CPU.", 0)
SMALL = DenoisingSettings(height=64, width=64, together=False, checks_drift=False)


def trained(transformer: nn.Module, **config) -> FreqMoLE:
    return teach(inject(transformer, Klein().adapter_config(rank=2, **config)))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    weights.save(trained(tiny_klein_transformer(), reference_cache=True), folder)
    return folder


def test_every_projection_of_every_block_gets_experts_and_nothing_changes_until_they_are_trained() -> None:
    transformer = tiny_klein_transformer()
    before = run_klein(transformer)
    freqmole = inject(transformer, Klein().adapter_config(rank=2))
    assert torch.equal(run_klein(transformer), before)
    blocks = (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
    for block in blocks:
        stock = [name for name, one in block.named_modules() if type(one) is nn.Linear and not name.endswith(".base")]
        assert stock == []
    assert len(freqmole.alphas()) == len(blocks) == 5
    assert sum(isinstance(one, FreqMoLELinear) for one in transformer.modules()) == 2 * 12 + 3 * 2
    assert freqmole.config.base == "black-forest-labs/FLUX.2-klein-4B"


def test_kontexts_targets_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"'ff\.net\.0\.proj' matches no projection"):
        inject(tiny_klein_transformer(), FreqMoLEConfig(rank=2))


def test_fused_experts_compute_the_same_and_unfusing_is_exact() -> None:
    transformer = tiny_klein_transformer()
    own = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    stock = run_klein(transformer)
    freqmole = trained(transformer)
    beside = run_klein(transformer)
    assert not torch.allclose(beside, stock, atol=1e-2)
    freqmole.fuse()
    assert not any(isinstance(one, FreqMoLELinear) for one in transformer.modules())
    torch.testing.assert_close(run_klein(transformer), beside, rtol=1e-4, atol=1e-4)
    freqmole.unfuse()
    assert torch.equal(run_klein(transformer), beside)
    freqmole.remove()
    assert transformer.state_dict().keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in transformer.state_dict().items())


def test_experts_are_saved_loaded_and_exported_as_a_lora_that_the_stock_pipeline_loads(
    tiny_klein: Path, tmp_path: Path
) -> None:
    freqmole = trained(tiny_klein_transformer())
    expected = run_klein(freqmole.transformer)
    weights.save(freqmole, tmp_path / "adapter")
    again = tiny_klein_transformer()
    weights.load(again, tmp_path / "adapter")
    torch.testing.assert_close(run_klein(again), expected)
    weights.export_lora(freqmole, tmp_path / "lora")
    stock = Flux2KleinPipeline.from_pretrained(tiny_klein)
    stock.load_lora_weights(tmp_path / "lora")
    torch.testing.assert_close(run_klein(stock.transformer), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError):
        weights.load(tiny_klein_transformer(single_blocks=1), tmp_path / "adapter")


def test_a_whole_model_with_fused_experts_is_one_that_any_tool_loads(tiny_klein_base: Path, tmp_path: Path) -> None:
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein_base)
    pipeline.freqmole = trained(pipeline.transformer)
    with pytest.raises(EngineError, match=r"fuse\(\)"):
        pipeline.save_pretrained(tmp_path / "refused")
    pipeline.freqmole.fuse()
    pipeline.save_pretrained(tmp_path / "whole")
    stock = DiffusionPipeline.from_pretrained(tmp_path / "whole")
    assert type(stock) is Flux2KleinPipeline
    assert stock.config.is_distilled is False
    assert torch.equal(run_klein(stock.transformer), run_klein(pipeline.transformer))


def test_shards_are_read_as_one_file(tmp_path: Path, request_: RefineRequest, tiny_klein: Path) -> None:
    folder = save_tiny_klein(tmp_path / "sharded", max_shard_size="40KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    assert measure(Folders(folder, None), SpeedOptions()) == measure(Folders(tiny_klein, None), SpeedOptions())
    pictures = [
        load(Folders(base, None), ON_CPU, SpeedOptions()).refine(request_, replace(SMALL, **words(base))).picture
        for base in (folder, tiny_klein)
    ]
    first, second = pictures
    assert np.array_equal(first, second)
    next((folder / "transformer").glob("*00002*.safetensors")).unlink()
    with pytest.raises(EngineError) as failure:
        load(Folders(folder, None), ON_CPU, SpeedOptions())
    assert "\n" not in str(failure.value)


def words(base: Path) -> dict[str, Any]:
    backbone = Klein()
    read = prompt_reader(base, ON_CPU, pipeline=backbone.pipeline, embed=backbone.embed).read("a mug")
    return {"prompt_embeds": read.tokens, "negative_prompt_embeds": read.negative}


def test_sizes_are_counted_from_the_files(tiny_klein: Path, adapter: Path) -> None:
    size = measure(Folders(tiny_klein, adapter), SpeedOptions())
    stock = Flux2KleinPipeline.from_pretrained(tiny_klein)
    assert size.transformer == stock.transformer.num_parameters()
    assert size.text_encoders == stock.text_encoder.num_parameters()
    assert (size.width, size.blocks, size.reference_cache) == (32, 5, True)
    assert pipeline_class(tiny_klein) is RefGCSR2KleinPipeline


@pytest.mark.parametrize("placement", [replace(ON_CPU, offload="group"), replace(ON_CPU, dtype=torch.bfloat16)])
def test_every_placement_computes_about_the_same(tiny_klein: Path, adapter: Path, placement: Placement) -> None:
    folders = Folders(tiny_klein, adapter)
    exact = run_klein(load(folders, ON_CPU, SpeedOptions()).transformer)
    placed = run_klein(load(folders, placement, SpeedOptions()).transformer, placement.dtype).float()
    assert (placed - exact).norm() < 0.05 * exact.norm()


def test_experts_are_in_the_weights_before_these_are_quantised(tiny_klein: Path, adapter: Path) -> None:
    pytest.importorskip("torchao")
    quantized = replace(ON_CPU, dtype=torch.bfloat16, quantization="int8")
    exact = run_klein(load(Folders(tiny_klein, adapter), ON_CPU, SpeedOptions()).transformer)
    for placement in (quantized, replace(quantized, fuses_before_quantizing=False)):
        transformer = load(Folders(tiny_klein, adapter), placement, SpeedOptions()).transformer
        layer = transformer.single_transformer_blocks[0].attn.to_qkv_mlp_proj
        assert type(getattr(layer, "base", layer).weight) is not nn.Parameter
        assert (run_klein(transformer, torch.bfloat16).float() - exact).norm() < 0.1 * exact.norm()


def tokens(count: int, seed: int) -> Tensor:
    return torch.randn(1, count, 16, generator=torch.Generator().manual_seed(seed))


def prepared(transformer: nn.Module, recorder: AttentionRecorder | None = None, *, cached: bool = False) -> Tensor:
    """The velocity of 12 noise tokens beside 6 and 12 condition tokens."""
    backbone, size = Klein(), (6, 8)
    given = Conditions(
        tokens(18, 2),
        torch.cat([backbone.positions((4, 6), 1, device=CPU), backbone.positions(size, 2, device=CPU)]),
    )
    embeddings = PromptEmbeddings(torch.randn(1, 5, TEXT_WIDTH, generator=torch.Generator().manual_seed(4)))
    ids = backbone.positions(size, NOISE, device=CPU)
    if cached:
        backbone.fill(transformer, given, embeddings, 1.0)
    if recorder is not None:
        reference_cache.install(transformer)
        call = transformer.forward

        def recording(*arguments, joint_attention_kwargs, **options):
            noted = joint_attention_kwargs | {"attention_recorder": recorder}
            return call(*arguments, joint_attention_kwargs=noted, **options)

        transformer.forward = recording
    velocity = backbone.velocity(
        transformer, tokens(12, 1), ids, None if cached else given, embeddings, torch.tensor([0.5]), 1.0
    )
    if recorder is not None:
        transformer.forward = call
    return velocity


def test_processors_of_ours_compute_what_the_stock_ones_do() -> None:
    transformer = tiny_klein_transformer()
    stock = prepared(transformer)
    reference_cache.install(transformer)
    assert torch.equal(prepared(transformer), stock)
    transformer.transformer_blocks[0].attn.fuse_projections()
    torch.testing.assert_close(prepared(transformer), stock, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_experts_through_the_cache_with_checkpointing_too() -> None:
    gradients = []
    for checkpointing in (False, True):
        transformer = tiny_klein_transformer()
        freqmole = trained(transformer)
        if checkpointing:
            transformer.enable_gradient_checkpointing()
            transformer.train()
        prepared(transformer, cached=True).square().mean().backward()
        reference_cache.clear(transformer)
        gradients.append([parameter.grad for parameter in freqmole.parameters()])
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[-1])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_the_recorder_sees_the_double_stream_blocks_and_its_maps_are_the_attention() -> None:
    transformer = tiny_klein_transformer()
    counts = TokenCounts(5, 12, 6, 12)
    recorder = AttentionRecorder(transformer, counts)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    keep = recorder.record

    def noting(attention: nn.Module, query: Tensor, key: Tensor) -> None:
        name = next(name for name, one in transformer.named_modules() if one is attention)
        seen[name] = (query, key)
        keep(attention, query, key)

    recorder.record = noting  # type: ignore[method-assign]
    prepared(transformer, recorder)
    assert list(recorder.maps) == ["transformer_blocks.0.attn", "transformer_blocks.1.attn"]
    assert len(seen) == 5
    query, key = seen["transformer_blocks.1.attn"]
    expected = attention_received(query[:, counts.reference_span], key, counts.noise_span)
    assert torch.equal(recorder.maps["transformer_blocks.1.attn"].reference, expected)
    every = AttentionRecorder(transformer, counts, view="noise", modules=["single_transformer_blocks.2.attn"])
    prepared(transformer, every, cached=True)
    maps = every.maps["single_transformer_blocks.2.attn"]
    assert maps.generated.shape == (1, 12)
    assert float((maps.reference + maps.generated).max()) < 1


def test_the_text_encoder_is_read_once_and_freed(tiny_klein_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    stock = Flux2KleinPipeline.from_pretrained.__func__

    def counted(cls, *arguments, **options):
        loads.append(1)
        return stock(cls, *arguments, **options)

    monkeypatch.setattr(Flux2KleinPipeline, "from_pretrained", classmethod(counted))
    placement = replace(ON_CPU, keeps_text_encoders=False)
    reader = prompt_reader(tiny_klein_base, placement, pipeline=Flux2KleinPipeline, embed=Klein().embed)
    read = reader.read("a mug")
    assert read.tokens.shape == (1, 512, TEXT_WIDTH)
    assert read.negative is not None
    assert not torch.equal(read.tokens, read.negative)
    assert read.pooled is None
    assert reader._encoders is None
    assert reader.read("a mug") is read
    assert loads == [1]
    with pytest.raises(InputError, match="tokens and the model reads 512"):
        reader.read("a" * 600)


def test_a_guided_run_without_an_empty_prompt_is_refused(tiny_klein_base: Path, request_: RefineRequest) -> None:
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein_base)
    given = words(tiny_klein_base) | {"negative_prompt_embeds": None}
    with pytest.raises(InputError, match="negative_prompt_embeds"):
        pipeline.refine(request_, replace(SMALL, **given))


def test_a_base_of_another_architecture_is_refused_in_a_sentence(tiny_klein: Path, tiny_base: Path) -> None:
    with pytest.raises(EngineError, match="RefGCSR2KleinPipeline"):
        RefGCSR2Pipeline.from_pretrained(tiny_klein)
    with pytest.raises(EngineError, match="RefGCSR2Pipeline"):
        RefGCSR2KleinPipeline.from_pretrained(tiny_base)


def test_the_engine_refines_with_klein_and_its_experts(
    tiny_klein: Path, adapter: Path, request_: RefineRequest
) -> None:
    engine = DiffusionEngine(Sources(str(tiny_klein), str(adapter)), SpeedOptions(), device="cpu", settings=SMALL)
    shown: list[str] = []
    result = engine.refine(request_, viewer=lambda stage, _: shown.append(stage))
    assert result.report.placed
    assert result.report.diffusion is not None
    assert result.report.diffusion.steps == 4
    assert Report.model_validate_json(result.report.model_dump_json()) == result.report
    assert shown == ["upscaled", "denoising", "denoising"]
    again = engine.refine(request_)
    assert np.array_equal(again.image.pixels, result.image.pixels)


@pytest.mark.parametrize("reference_cache", [False, True])
def test_a_cancelled_run_leaves_nothing_behind(
    tiny_klein_base: Path, request_: RefineRequest, reference_cache: bool
) -> None:
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein_base)
    pipeline.set_progress_bar_config(disable=True)
    settings = replace(SMALL, num_inference_steps=3, reference_cache=reference_cache)
    expected = pipeline.refine(request_, settings).picture

    def cancel(stage: str, fraction: float) -> None:
        if stage == "denoising" and fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.refine(request_, settings, cancel)
    assert all(getattr(one, "key", None) is None for one in pipeline.transformer.attn_processors.values())
    assert np.array_equal(pipeline.refine(request_, settings).picture, expected)


def test_a_network_that_does_not_fit_its_config_is_told_in_a_sentence(tiny_klein: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_klein, tmp_path / "spoilt")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(EngineError) as failure:
        load(Folders(folder, None), ON_CPU, SpeedOptions())
    assert "\n" not in str(failure.value)


def test_the_step_cache_is_refused_in_a_sentence(tiny_klein: Path) -> None:
    with pytest.raises(EngineError, match=r"step cache does not work with FLUX\.2"):
        load(Folders(tiny_klein, None), ON_CPU, SpeedOptions(step_cache=0.1))
