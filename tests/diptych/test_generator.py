"""The diptych generator: loaded once, as the environment says, where there is room; and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from refgc.diptych.generator import DiptychGenerator, shared_generator
from refgc.diptych.loading import fetch, load
from refgc.diptych.pipeline import DipRefGCPipeline
from refgc.diptych.preview import open_generator
from refgc.diptych.prompts import diptych_prompt
from refgc.diptych.settings import DrawingSettings
from refgc.diptych.sources import (
    BASE,
    CANNY_CONTROLNET,
    FLUX_DEV,
    INPAINTING_CONTROLNET,
    LORAS,
    Sources,
    missing_libraries,
    obstacle,
)
from refgc.errors import EngineError, InputError, RefGCError
from refgc.flux.placement import Machine, Placement, examine
from refgc.flux.prompts import PromptEmbeddings
from refgc.flux.reading import prompt_reader
from tests.support.fake_hub import FakeHub
from tests.support.tiny_diptych import save_lora, tiny_canny, tiny_diptych, tiny_inpainting, watched
from tests.support.tiny_models import save_tiny_base

CPU = torch.device("cpu")
ON_CPU = Placement(CPU, torch.float32, "none", "none", CPU, True, True, "on the CPU", 0)
FAST = DrawingSettings(num_inference_steps=2)


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    save_lora(tiny_inpainting(), folder / "inpainting")
    save_lora(tiny_canny(), folder / "canny")
    return folder


@pytest.fixture(scope="module")
def sources(tiny_parts, loras) -> Sources:
    return Sources(
        *(str(part) for part in (tiny_parts / "inpainting", tiny_parts / "canny", loras, tiny_parts / "base"))
    )


@pytest.fixture
def environment(sources: Sources, monkeypatch) -> Sources:
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    monkeypatch.setenv(BASE, sources.base)
    monkeypatch.setenv(INPAINTING_CONTROLNET, sources.inpainting_controlnet)
    monkeypatch.setenv(CANNY_CONTROLNET, sources.canny_controlnet)
    monkeypatch.setenv(LORAS, sources.loras)
    return sources


def words(sources: Sources, placement: Placement = ON_CPU, prompt: str = "a mug") -> PromptEmbeddings:
    return prompt_reader(Path(sources.base), placement).read(prompt)


def pipeline_of(generator: DiptychGenerator) -> DipRefGCPipeline:
    generator.prepare()
    assert generator.loaded is not None
    return generator.loaded.pipeline


def on_cpu(sources: Sources, **options: Any) -> DiptychGenerator:
    return DiptychGenerator(sources, device="cpu", settings=FAST, **options)


def test_it_loads_what_the_environment_names_once_and_stays(environment):
    generator = DiptychGenerator(settings=FAST)
    assert generator.sources == environment
    told: list[tuple[str, float]] = []

    def tell(stage: str, fraction: float) -> None:
        told.append((stage, fraction))

    generator.generate(tiny_diptych(), "mug", "a red mug", seed=3, progress=tell)
    first = list(dict.fromkeys(stage for stage, _ in told))
    stages = ["reading the prompt", "encoding the conditions", "denoising", "decoding", "done"]
    assert first == ["loading the model", *stages]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert generator.placement is not None
    assert generator.placement.device == CPU
    told.clear()
    generator.generate(tiny_diptych(), "mug", "a red mug", seed=3, progress=tell)
    assert list(dict.fromkeys(stage for stage, _ in told)) == stages


def test_it_draws_what_the_pipeline_draws(sources, tiny_parts, loras):
    generator = on_cpu(sources)
    drawn = generator.generate(tiny_diptych(), "mug", "a red mug", seed=7)
    pipeline = DipRefGCPipeline.from_pretrained(
        tiny_parts / "base", tiny_parts / "inpainting", tiny_parts / "canny", loras=loras
    )
    pipeline.set_progress_bar_config(disable=True)
    seeded = replace(FAST, generator=torch.Generator().manual_seed(7))
    expected = pipeline.draw(tiny_diptych(), diptych_prompt("mug", "a red mug"), seeded)
    assert np.abs(drawn.diptych.astype(int) - expected.diptych).max() <= 1
    assert (
        drawn.generated.tobytes() == generator.generate(tiny_diptych(), "mug", "a red mug", seed=7).generated.tobytes()
    )
    for other in ({"seed": 8}, {"object_name": "cup"}, {"caption": "a blue mug"}):
        asked: dict[str, Any] = {"object_name": "mug", "caption": "a red mug", "seed": 7, **other}
        assert not np.array_equal(generator.generate(tiny_diptych(), **asked).diptych, drawn.diptych)


def test_loras_are_folded_into_the_controlnets_and_led_at_full_strength(sources):
    pipeline = load(fetch(sources), ON_CPU)
    assert not any("lora" in name for name, _ in pipeline.controlnet.named_parameters())
    plain = load(fetch(replace(sources, loras=None)), ON_CPU)
    for net, other in zip(pipeline.controlnet.nets, plain.controlnet.nets, strict=True):
        path = "transformer_blocks.0.attn.to_q"
        assert not torch.allclose(net.get_submodule(path).weight, other.get_submodule(path).weight, atol=1e-2)
    for loaded, scales in ((pipeline, [1.0, 1.0]), (plain, [0.95, 0.6])):
        with watched(loaded.controlnet) as calls, torch.no_grad():
            loaded.draw(tiny_diptych(), words(sources), FAST)
        assert calls[0]["conditioning_scale"] == scales


def test_networks_that_are_streamed_draw_the_same(sources):
    said = words(sources)

    def drawn(placement: Placement) -> np.ndarray:
        pipeline = load(fetch(sources), placement)
        assert (getattr(pipeline.controlnet.canny, "_diffusers_hook", None) is None) == (placement.offload == "none")
        return pipeline.draw(tiny_diptych(), said, replace(FAST, generator=torch.Generator().manual_seed(1))).diptych

    assert np.array_equal(drawn(replace(ON_CPU, offload="group")), drawn(ON_CPU))


def test_quantised_networks_draw_nearly_the_same(sources):
    pytest.importorskip("torchao")
    exact = load(fetch(sources), replace(ON_CPU, dtype=torch.bfloat16))
    quantized = load(fetch(sources), replace(ON_CPU, dtype=torch.bfloat16, quantization="int8"))
    for network in (quantized.transformer, quantized.controlnet.inpainting, quantized.controlnet.canny):
        assert type(network.transformer_blocks[0].attn.to_q.weight) is not nn.Parameter
    said = words(sources, replace(ON_CPU, dtype=torch.bfloat16))
    pictures = [
        pipeline.draw(tiny_diptych(), said, replace(FAST, generator=torch.Generator().manual_seed(seed))).diptych
        for pipeline, seed in ((exact, 1), (quantized, 1), (exact, 2))
    ]
    wanted, nearly, another = (picture.astype(float) for picture in pictures)
    assert 0 < np.abs(nearly - wanted).mean() < 0.3 * np.abs(another - wanted).mean()


def test_one_generator_is_shared_as_long_as_the_environment_names_the_same(environment, monkeypatch):
    first = shared_generator()
    assert shared_generator() is open_generator() is first
    monkeypatch.delenv(LORAS)
    assert shared_generator() is not first


def shared_after(change: Callable[[], object], monkeypatch) -> tuple[list[bool], Callable[[], DiptychGenerator]]:
    """Whether the loaded model is still in memory when the next generator is made, and how to ask for that one."""
    first = shared_generator()
    transformer = weakref.ref(pipeline_of(first).transformer)
    del first
    alive: list[bool] = []
    make = DiptychGenerator.__init__

    def watch(*arguments: Any, **options: Any) -> None:
        alive.append(transformer() is not None)
        make(*arguments, **options)

    monkeypatch.setattr(DiptychGenerator, "__init__", watch)
    change()
    return alive, shared_generator


def test_another_model_frees_the_old_generator_before_the_new_one_is_made(environment, monkeypatch):
    alive, ask = shared_after(lambda: monkeypatch.delenv(LORAS), monkeypatch)
    second = ask()
    assert second.loaded is None
    assert alive == [False]
    assert ask() is second


def test_another_device_frees_the_old_generator_before_the_new_one_is_made(environment, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    alive, ask = shared_after(lambda: monkeypatch.delenv("REFGC_DEVICE"), monkeypatch)
    assert refusal(ask)
    assert alive == [False]


def test_the_base_is_flux_dev_unless_another_is_named(environment, monkeypatch):
    monkeypatch.delenv(BASE)
    monkeypatch.delenv(LORAS)
    assert Sources.from_environment() == replace(environment, base=FLUX_DEV, loras=None)


def refusal(work, error: type[RefGCError] = EngineError) -> str:
    with pytest.raises(error) as caught:
        work()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_without_a_gpu_it_is_refused(sources, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("REFGC_DEVICE", raising=False)
    sentence = refusal(lambda: DiptychGenerator(sources))
    assert "NVIDIA GPU" in sentence
    assert "simulator" in sentence
    assert "engine" not in sentence
    assert "set it to cuda, cuda:1 (the second GPU) or cpu" in refusal(lambda: DiptychGenerator(sources, device="tpu"))


@pytest.mark.parametrize("variable", [INPAINTING_CONTROLNET, CANNY_CONTROLNET])
def test_without_a_controlnet_it_is_refused(environment, monkeypatch, variable):
    monkeypatch.setenv(variable, "")
    assert refusal(DiptychGenerator).startswith(f"{variable} is not set")


@pytest.mark.parametrize("variable", [BASE, INPAINTING_CONTROLNET, CANNY_CONTROLNET, LORAS])
def test_places_without_weights_are_refused(environment, monkeypatch, tmp_path, variable):
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    assert refusal(lambda: DiptychGenerator().prepare()).startswith(f"{variable} is {str(tmp_path / 'nowhere')!r}, ")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / "empty"))
    sentence = refusal(lambda: DiptychGenerator().prepare(), RefGCError)
    assert sentence.startswith(f"{variable} is {str(tmp_path / 'empty')!r}, and there is no ")


def test_a_base_of_another_kind_is_refused(sources, tmp_path):
    kontext = save_tiny_base(tmp_path)
    sentence = refusal(lambda: on_cpu(replace(sources, base=str(kontext))).prepare())
    assert "FluxKontextPipeline and no FluxPipeline" in sentence


def test_damaged_weights_are_refused(sources, tmp_path):
    shutil.copytree(sources.canny_controlnet, tmp_path / "canny")
    file = tmp_path / "canny" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "damaged or cut off" in refusal(
        lambda: on_cpu(replace(sources, canny_controlnet=str(tmp_path / "canny"))).prepare()
    )
    shutil.copytree(sources.loras, tmp_path / "loras")
    (tmp_path / "loras/canny/pytorch_lora_weights.safetensors").write_bytes(b"nothing")
    damaged = on_cpu(replace(sources, loras=str(tmp_path / "loras")))
    assert "damaged or cut off" in refusal(damaged.prepare, InputError)


def test_where_there_is_no_room_it_is_refused_with_both_figures(sources):
    machine: Machine = examine("cpu")
    crowded = on_cpu(sources, examine=lambda _device: replace(machine, main_memory=2**28))
    sentence = refusal(crowded.prepare)
    assert "GiB of main memory" in sentence
    assert "0.2 GiB are free" in sentence
    assert "simulator" in sentence
    assert "correspondence" not in sentence


def test_the_room_that_is_asked_for_is_that_of_all_networks(sources):
    asked = []

    def note(machine, size, *arguments, **options):
        asked.append(size)
        return ON_CPU

    pipeline = pipeline_of(on_cpu(sources, place=note))
    networks = (pipeline.transformer, *pipeline.controlnet.nets)
    assert asked[0].transformer == sum(network.num_parameters() for network in networks)
    blocks = sum(len(network.transformer_blocks) + len(network.single_transformer_blocks) for network in networks)
    assert asked[0].blocks == blocks
    assert asked[0].vae == pipeline.vae.num_parameters()


def test_a_watcher_may_stop_it_and_ask_again(sources):
    generator = on_cpu(sources)
    expected = generator.generate(tiny_diptych(), seed=1).diptych

    def stop(stage: str, fraction: float) -> None:
        if stage == "denoising":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generator.generate(tiny_diptych(), seed=2, progress=stop)
    assert np.array_equal(generator.generate(tiny_diptych(), seed=1).diptych, expected)


@contextmanager
def out_of_memory(generator: DiptychGenerator, network: str, times: int) -> Iterator[None]:
    """A network of a loaded generator, by its path, finds no memory so many times."""
    left = times

    def fail(*_: object) -> None:
        nonlocal left
        if left:
            left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nSee documentation")

    handle = attrgetter(network)(pipeline_of(generator)).register_forward_pre_hook(fail)
    yield
    handle.remove()


@pytest.fixture(scope="module")
def drawn_in_tiles(sources) -> np.ndarray:
    """A diptych that the pipeline draws with its VAE in tiles."""
    in_tiles = load(fetch(sources), ON_CPU)
    in_tiles.vae.enable_tiling()
    in_tiles.vae.tile_sample_min_size //= 2
    in_tiles.vae.tile_latent_min_size //= 2
    prompt = words(sources, prompt=diptych_prompt("object", None))
    seeded = replace(FAST, generator=torch.Generator().manual_seed(1))
    return in_tiles.draw(tiny_diptych(), prompt, seeded).diptych


@pytest.mark.parametrize("network", ["transformer", "controlnet.canny", "vae.decoder"])
def test_memory_that_runs_out_once_costs_a_second_attempt(sources, drawn_in_tiles, network):
    generator = on_cpu(sources)
    with out_of_memory(generator, network, times=1):
        drawn = generator.generate(tiny_diptych(), seed=1).diptych
    assert generator.placement is not None
    assert generator.placement.reason.endswith("after memory ran out: VAE in tiles, blocks streamed from main memory.")
    pipeline = pipeline_of(generator)
    assert all(hasattr(part, "_diffusers_hook") for part in (pipeline.transformer, *pipeline.controlnet.nets))
    assert np.array_equal(drawn, drawn_in_tiles)
    assert np.array_equal(drawn, generator.generate(tiny_diptych(), seed=1).diptych)


def test_memory_that_runs_out_again_is_told_in_a_sentence_and_it_stays_usable(sources):
    generator = on_cpu(sources)
    with out_of_memory(generator, "transformer", times=2):
        sentence = refusal(lambda: generator.generate(tiny_diptych()))
    assert sentence.startswith("The memory of the CPU is not enough, not even with the VAE in tiles")
    assert sentence.endswith("or let the simulator stand in for the generator.")
    assert generator.generate(tiny_diptych()).diptych.any()


def test_when_memory_runs_out_while_loading_the_next_smaller_placement_is_taken(sources):
    tried: list[Placement] = []

    def noted_load(folders, placement: Placement) -> DipRefGCPipeline:
        tried.append(placement)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return load(folders, placement)

    generator = on_cpu(sources, load=noted_load)
    generator.prepare()
    assert [placement.dtype for placement in tried] == [torch.float32, torch.bfloat16]
    assert generator.placement is not None
    assert "memory ran out while loading with weights in float32" in generator.placement.reason


def test_a_prompt_that_is_too_long_is_refused(sources):
    assert "512" in refusal(lambda: on_cpu(sources).generate(tiny_diptych(), caption="long " * 300), InputError)


def test_weights_come_from_the_hub(sources, tmp_path, hub: FakeHub, monkeypatch):
    def publish(name: str, folder: str) -> str:
        files = {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}
        hub.repositories[f"someone/{name}"] = files
        return f"someone/{name}"

    published = Sources(
        publish("inpainting", sources.inpainting_controlnet),
        publish("canny", sources.canny_controlnet),
        publish("loras", sources.loras),
        publish("base", sources.base),
    )
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    folders = fetch(published)
    assert set(folders.loras) == {"inpainting", "canny"}
    expected = load(fetch(sources), ON_CPU).controlnet.state_dict()
    for name, tensor in load(folders, ON_CPU).controlnet.state_dict().items():
        assert torch.equal(tensor, expected[name])
    hub.refusal = (403, "GatedRepo")
    gated = replace(published, inpainting_controlnet="someone/gated")
    sentence = refusal(lambda: fetch(gated))
    assert sentence.startswith(f"{INPAINTING_CONTROLNET} is 'someone/gated', whose licence must be accepted first")


def test_what_stands_in_its_way_is_told_without_torch(environment, monkeypatch, tmp_path):
    told = (
        "import sys; from refgc.diptych.preview import open_generator; from refgc.diptych.sources import obstacle; "
        "print(obstacle()); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
    for variable in (BASE, INPAINTING_CONTROLNET, CANNY_CONTROLNET, LORAS):
        with monkeypatch.context() as changed:
            changed.setenv(variable, str(tmp_path))
            assert obstacle().startswith(f"{variable} is {str(tmp_path)!r}, ")
    monkeypatch.delenv(CANNY_CONTROLNET)
    assert obstacle().startswith(f"{CANNY_CONTROLNET} is not set")


def test_without_a_gpu_the_gpu_is_what_stands_in_its_way(environment, monkeypatch, tmp_path):
    monkeypatch.delenv("REFGC_DEVICE")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "NVIDIA GPU" in obstacle()


def test_without_the_libraries_they_are_what_is_missing():
    assert "no_such_library: pip install" in missing_libraries(("torch", "no_such_library"))
    assert missing_libraries(("torch",)) == ""


def test_a_base_whose_index_is_unreadable_is_refused(sources, tmp_path):
    shutil.copytree(sources.base, tmp_path / "base")
    index = tmp_path / "base" / "model_index.json"
    index.write_text(
        json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]})
    )
    shutil.rmtree(tmp_path / "base" / "transformer")
    sentence = refusal(lambda: fetch(replace(sources, base=str(tmp_path / "base"))))
    assert "there is no transformer/config.json" in sentence
