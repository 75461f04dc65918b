"""What an adapter for FLUX.2 [klein] says of its training, and LoRAs that are given in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refgc import doctor, hub
from refgc.errors import InputError
from refgc.flux.placement import Placement
from refgc.flux.prompts import PromptEmbeddings
from refgc.flux.speed import SpeedOptions
from refgc.model import weights
from refgc.model.backbones.klein import BASE, DISTILLED, Klein
from refgc.model.engine import DiffusionEngine
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.loading import Folders, Sources, load, measure
from refgc.model.pipeline import RefGCSR2KleinPipeline
from refgc.model.settings import DenoisingSettings
from refgc.request import RefineRequest
from tests.support.tiny_freqmole import teach
from tests.support.tiny_klein import run_klein, tiny_klein_transformer

CPU = torch.device("cpu")
ON_CPU = Placement(CPU, torch.float32, "none", "none", CPU, True, True, "float32 on the CPU.", 0)
SMALL = DenoisingSettings(height=64, width=64, together=False, checks_drift=False)


def trained(**config) -> FreqMoLE:
    return teach(inject(tiny_klein_transformer(), Klein().adapter_config(rank=2, **config)))


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return weights.export_lora(trained(), tmp_path / "lora")


def test_steps_and_guidance_are_the_models_and_the_rest_is_the_trainings() -> None:
    stock = DenoisingSettings().decided(BASE, None)
    assert (stock.steps, stock.guidance, stock.enlargement, stock.together, stock.checks_drift) == (
        *(50, 4.0),
        *("clean", True, True),
    )
    config = Klein().adapter_config(reference_cache=True, whole=True)
    assert config.guidance is None
    taught = DenoisingSettings().decided(BASE, config)
    assert (taught.guidance, taught.whole, taught.reference_cache, taught.enlargement) == (4.0, True, True, "bicubic")
    assert (taught.together, taught.checks_drift) == (False, False)
    assert DenoisingSettings(guidance_scale=3).decided(BASE, config).guidance == 3
    assert DenoisingSettings().decided(BASE, FreqMoLEConfig(guidance=1.5)).guidance == 1.5
    assert DenoisingSettings(guidance_scale=3).decided(DISTILLED, FreqMoLEConfig()).guidance == 1
    assert taught.decided(DISTILLED, None) == replace(taught, guidance_scale=1.0)


def test_an_adapter_belongs_to_its_base_and_is_asked_as_it_was_trained(
    tiny_klein: Path, tmp_path: Path, request_: RefineRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save(trained(prompt="sharpen the {object}"), tmp_path)
    card = (tmp_path / weights.CARD_FILE).read_text()
    assert f'RefGCSR2KleinPipeline.from_pretrained("{hub.FLUX_KLEIN}"' in card
    other = tiny_klein_transformer()
    with torch.no_grad():
        other.transformer_blocks[0].attn.norm_q.weight.mul_(1.5)
    with pytest.raises(InputError, match=r"was trained on black-forest-labs/FLUX\.2-klein-4B"):
        weights.load(other, tmp_path)
    read: list[str] = []
    embed = Klein.embed

    def listening(self: Klein, pipeline: Any, prompt: str, device: torch.device) -> PromptEmbeddings:
        read.append(prompt)
        return embed(self, pipeline, prompt, device)

    monkeypatch.setattr(Klein, "embed", listening)
    sources = Sources(str(tiny_klein), str(tmp_path))
    DiffusionEngine(sources, SpeedOptions(), device="cpu", settings=SMALL).refine(request_)
    RefGCSR2KleinPipeline.from_pretrained(tiny_klein, adapter=tmp_path).refine(request_, SMALL)
    assert read == ["sharpen the mug", "sharpen the mug"]


@pytest.mark.parametrize("fuse", [True, False])
def test_a_lora_goes_into_the_stock_model_in_the_place_of_experts(tiny_klein: Path, lora: Path, fuse: bool) -> None:
    folders, options = Folders(tiny_klein, lora), SpeedOptions(fuse=fuse)
    assert not measure(folders, options).reference_cache
    pipeline = load(folders, ON_CPU, options)
    assert (pipeline.freqmole, pipeline.lora) == (None, str(lora))
    torch.testing.assert_close(run_klein(pipeline.transformer), run_klein(trained().transformer), rtol=1e-4, atol=1e-4)
    stock = [type(module) for module in tiny_klein_transformer().modules()]
    assert ([type(module) for module in pipeline.transformer.modules()] == stock) == fuse


def test_a_lora_is_loaded_beside_experts_that_stay(tiny_klein: Path, lora: Path) -> None:
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein)
    pipeline.freqmole = inject(pipeline.transformer, Klein().adapter_config(rank=2))
    pipeline.load_lora_weights(lora.parent)
    torch.testing.assert_close(run_klein(pipeline.transformer), run_klein(trained().transformer), rtol=1e-4, atol=1e-4)
    pipeline.unload_lora_weights()
    assert torch.equal(run_klein(pipeline.transformer), run_klein(tiny_klein_transformer()))
    pipeline.freqmole.remove()


def test_the_report_names_the_model_that_the_lora_went_into(
    tiny_klein: Path, lora: Path, request_: RefineRequest
) -> None:
    engine = DiffusionEngine(Sources(str(tiny_klein), str(lora)), SpeedOptions(), device="cpu", settings=SMALL)
    message = engine.refine(request_).report.message
    assert message.startswith("FLUX.2 [klein] with a LoRA (no FreqMoLE weights) went over")


def test_the_doctor_names_the_model_that_the_lora_goes_into(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_ADAPTER", str(lora))
    for word, title in (("klein", "FLUX.2 [klein] 4B"), ("kontext", "FLUX.1-Kontext [dev]")):
        monkeypatch.setenv("REFGC_BASE", word)
        _, adapter = doctor.engine_weights()
        assert f"loads it into the stock {title}" in adapter.advice
