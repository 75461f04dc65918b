"""LoRAs of several tools that are given as the adapter: named for what they are, and loaded where that makes sense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refgc import doctor
from refgc.errors import EngineError, InputError, RefGCError
from refgc.flux.placement import Placement
from refgc.flux.speed import SpeedOptions
from refgc.hub import LORA_FILE, find_lora
from refgc.model import loading, weights
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.loading import Folders, Sources
from refgc.model.pipeline import RefGCSR2KleinPipeline, RefGCSR2Pipeline
from tests.support.fake_hub import FakeHub
from tests.support.tiny_freqmole import run, teach
from tests.support.tiny_models import tiny_transformer

CPU = torch.device("cpu")
ON_CPU = Placement(CPU, torch.float32, "none", "none", CPU, True, True, "float32 on the CPU.", 0)
# One projection, so that the names of kohya's scripts, which join query, key and value, are easily told.
CONFIG = FreqMoLEConfig(rank=2, double_stream_targets=("ff.net.2",), single_stream_targets=())


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder with a LoRA of diffusers."""
    weights.export_lora(teach(inject(tiny_transformer(), CONFIG, generator=torch.Generator().manual_seed(1))), tmp_path)
    return tmp_path


def rewritten(folder: Path, change: Callable[[str, Tensor], dict[str, Tensor]], name: str = LORA_FILE) -> Path:
    """The folder with its LoRA in another tool's names."""
    file = folder / LORA_FILE
    tensors = {key: tensor for old, value in load_file(file).items() for key, tensor in change(old, value).items()}
    file.unlink()
    save_file(tensors, folder / name)
    return folder


def as_kohya(name: str, tensor: Tensor) -> dict[str, Tensor]:
    block = name.split(".")[2]
    factor = "lora_down" if "lora_A" in name else "lora_up"
    prefix = f"lora_unet_double_blocks_{block}_img_mlp_2"
    return {f"{prefix}.{factor}.weight": tensor, f"{prefix}.alpha": torch.tensor(4.0)}


def as_kohya_dora(name: str, tensor: Tensor) -> dict[str, Tensor]:
    named = as_kohya(name, tensor)
    return {**named, next(iter(named)).rpartition(".lora")[0] + ".dora_scale": torch.ones(32)}


def as_dora(name: str, tensor: Tensor) -> dict[str, Tensor]:
    magnitude = name.replace("lora_B.weight", "lora_magnitude_vector")
    return {name: tensor} if "lora_A" in name else {name: tensor, magnitude: torch.full((32,), 0.5)}


def adapted(folder: Path) -> Tensor:
    """What the base returns with the LoRA, by the experts that it was exported from."""
    freqmole = teach(inject(tiny_transformer(), CONFIG, generator=torch.Generator().manual_seed(1)))
    return run(freqmole.transformer)


def one_sentence(work: Callable[[], object], error: type[RefGCError] = InputError) -> str:
    with pytest.raises(error) as failure:
        work()
    sentence = str(failure.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("name", [LORA_FILE, "sharp-things.safetensors"])
def test_a_plain_lora_is_loaded_into_the_stock_model(
    tiny_base: Path, plain: Path, name: str, by_file: bool, caplog: pytest.LogCaptureFixture
) -> None:
    expected = adapted(plain)
    (plain / LORA_FILE).rename(plain / name)
    source = plain / name if by_file else plain
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=source)
    assert pipeline.freqmole is None
    assert pipeline.lora == str(source)
    torch.testing.assert_close(run(pipeline.transformer), expected, atol=1e-6, rtol=0)
    assert not [one for one in pipeline.transformer.parameters() if one.requires_grad]
    assert f"The adapter '{source}' is a LoRA and no FreqMoLE" in caplog.text


def test_a_lora_of_kohyas_scripts_is_loaded(tiny_base: Path, plain: Path) -> None:
    expected = adapted(plain)
    rewritten(plain, as_kohya, "kohya.safetensors")
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=plain)
    torch.testing.assert_close(run(pipeline.transformer), expected, atol=1e-6, rtol=0)


def test_a_dora_of_diffusers_is_loaded_with_its_magnitudes(tiny_base: Path, plain: Path) -> None:
    without = adapted(plain)
    rewritten(plain, as_dora)
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=plain)
    layer = pipeline.transformer.transformer_blocks[0].ff.net[2]
    assert layer.lora_magnitude_vector
    assert not torch.allclose(run(pipeline.transformer), without, atol=1e-2)


def test_a_dora_of_kohyas_scripts_is_refused_since_a_part_of_it_would_be_left_out(tiny_base: Path, plain: Path) -> None:
    rewritten(plain, as_kohya_dora)
    said = one_sentence(lambda: RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=plain))
    assert "is a DoRA of kohya's scripts, of which diffusers would leave out a part" in said


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda name, tensor: {name: tensor}, "a LoRA"),
        (as_kohya, "a LoRA of kohya's scripts"),
        (as_dora, "a DoRA"),
        (as_kohya_dora, "a DoRA of kohya's scripts"),
    ],
)
def test_where_freqmole_is_asked_for_it_is_told_what_it_is(plain: Path, change, kind: str) -> None:
    rewritten(plain, change)
    for source in (plain, plain / LORA_FILE):
        said = one_sentence(partial(weights.load, tiny_transformer(), source))
        assert said.startswith(f"The adapter '{source}' is {kind} and no FreqMoLE; ")


def test_what_is_neither_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "something.safetensors")
    said = one_sentence(lambda: RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=tmp_path))
    assert "holds neither FreqMoLE's weights nor a LoRA" in said


def test_a_lora_of_another_base_is_refused(tiny_base: Path, plain: Path) -> None:
    rewritten(plain, lambda name, tensor: {name: torch.cat([tensor, tensor])})
    said = one_sentence(lambda: RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=plain))
    assert "is a LoRA of another base: transformer.transformer_blocks.0.ff.net.2.lora_" in said


@pytest.mark.parametrize("fuse", [True, False])
def test_the_engine_loads_it_and_folds_it_in(tiny_base: Path, plain: Path, fuse: bool) -> None:
    file = find_lora(str(plain))
    assert file == plain / LORA_FILE
    options = SpeedOptions(fuse=fuse)
    assert not loading.measure(Folders(tiny_base, file), options).reference_cache
    pipeline = loading.load(Folders(tiny_base, file), ON_CPU, options)
    torch.testing.assert_close(run(pipeline.transformer), adapted(plain), atol=1e-5, rtol=0)
    stock = [type(module) for module in tiny_transformer().modules()]
    assert ([type(module) for module in pipeline.transformer.modules()] == stock) == fuse


@pytest.mark.parametrize("before", [True, False])
def test_a_lora_works_in_quantised_weights_and_beside_them(tiny_base: Path, plain: Path, before: bool) -> None:
    placement = replace(ON_CPU, dtype=torch.bfloat16, quantization="int8", fuses_before_quantizing=before)
    pipeline = loading.load(Folders(tiny_base, find_lora(str(plain))), placement, SpeedOptions())
    found, expected = run(pipeline.transformer, torch.bfloat16).float(), adapted(plain)
    assert (found - expected).norm() < 0.5 * (run(tiny_transformer()) - expected).norm()
    assert type(pipeline.transformer.transformer_blocks[0].attn.to_q.weight) is not nn.Parameter


def test_a_lora_of_the_hub_is_fetched_in_the_place_of_freqmole(hub: FakeHub, tiny_base: Path, plain: Path) -> None:
    hub.repositories["someone/lora"] = {LORA_FILE: (plain / LORA_FILE).read_bytes(), "README.md": b"#"}
    folders = loading.fetch(Sources(str(tiny_base), "someone/lora"))
    assert folders.adapter is not None
    assert folders.adapter.read_bytes() == (plain / LORA_FILE).read_bytes()
    assert find_lora("someone/lora") == folders.adapter
    hub.repositories["someone/nothing"] = {"README.md": b"#"}
    said = one_sentence(lambda: loading.fetch(Sources(str(tiny_base), "someone/nothing")), EngineError)
    assert "there is no config.json in it" in said


def test_the_doctor_says_that_it_is_a_lora(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_ADAPTER", str(plain))
    _, adapter = doctor.engine_weights()
    assert not adapter.present
    assert f"{plain} is a LoRA and no FreqMoLE" in adapter.advice


def test_a_lora_that_lacks_a_factor_is_refused(tiny_base: Path, tiny_klein: Path, plain: Path) -> None:
    rewritten(plain, lambda name, tensor: {} if "transformer_blocks.1.ff.net.2.lora_B" in name else {name: tensor})
    for pipeline, base in ((RefGCSR2Pipeline, tiny_base), (RefGCSR2KleinPipeline, tiny_klein)):
        said = one_sentence(partial(pipeline.from_pretrained, base, adapter=plain))
        assert "is a LoRA that is incomplete: transformer.transformer_blocks.1.ff.net.2.lora_A.weight stands" in said


def test_a_lora_without_finite_numbers_is_refused(tiny_base: Path, plain: Path) -> None:
    rewritten(plain, lambda name, tensor: {name: tensor / 0})
    assert "is spoilt" in one_sentence(lambda: RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=plain))


def test_a_lora_of_another_architecture_is_not_taken_in_part(tiny_klein: Path, tmp_path: Path) -> None:
    both = FreqMoLEConfig(rank=2, double_stream_targets=("attn.to_q", "ff.net.2"), single_stream_targets=())
    weights.export_lora(teach(inject(tiny_transformer(), both)), tmp_path)
    said = one_sentence(lambda: RefGCSR2KleinPipeline.from_pretrained(tiny_klein, adapter=tmp_path))
    assert "is a LoRA of another base: this one has no layer transformer_blocks.0.ff.net.2; name its own in" in said


def test_what_a_lora_has_for_the_text_encoder_is_left_out_where_there_is_none(
    tiny_base: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = adapted(plain)
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    factors = {f"{layer}.lora_A.weight": torch.ones(2, 24), f"{layer}.lora_B.weight": torch.ones(24, 2)}
    rewritten(plain, lambda name, tensor: {name: tensor, **factors})
    pipeline = loading.load(Folders(tiny_base, find_lora(str(plain))), ON_CPU, SpeedOptions())
    torch.testing.assert_close(run(pipeline.transformer), expected, atol=1e-5, rtol=0)
    assert "for the text encoder is left out" in caplog.text
