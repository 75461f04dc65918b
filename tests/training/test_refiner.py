"""Training of the tiny refiner: losses fall, only experts and gates move, and a run ends with what others load."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import signal
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file
from torch import Tensor

from refgc.cli.streams import StoppedError, stoppable, stopped_by_signals
from refgc.dataset.lock import only_run
from refgc.errors import EngineError, InputError
from refgc.hub import LORA_FILE
from refgc.imaging.image import open_image
from refgc.model import weights
from refgc.model.engine import DiffusionEngine
from refgc.model.loading import Sources
from refgc.model.pipeline import RefGCSR2KleinPipeline, RefGCSR2Pipeline
from refgc.model.settings import DenoisingSettings
from refgc.training import checkpoint
from refgc.training.cache import open_cache
from refgc.training.finish import publish
from refgc.training.loop import Training, prepare
from refgc.training.order import Pass
from refgc.training.processes import Processes
from refgc.training.refiner import Refiner, adapter_config, run_refiner
from refgc.training.samples import load_pictures, read_samples
from refgc.training.settings import RefinerRun
from tests.support.command import run_inside
from tests.support.fake_hub import FakeHub
from tests.support.models import hub  # noqa: F401
from tests.support.training_run import fill_here, tiny_run, write_run

CPU = torch.device("cpu")


def changed(settings: RefinerRun, folder: Path, **tables: Mapping[str, Any]) -> RefinerRun:
    """The same run elsewhere, with other settings."""
    content = settings.model_dump()
    for name, table in tables.items():
        content[name] |= table
    return RefinerRun.model_validate({**content, "folder": str(folder)})


def at_a_senseless_rate(settings: RefinerRun) -> RefinerRun:
    """The same run at a learning rate that no file may ask for, and whose weights are soon no numbers."""
    return settings.model_copy(update={"learning": settings.learning.model_copy(update={"learning_rate": 1e30})})


def opened(settings: RefinerRun) -> tuple[Refiner, Training]:
    """The run in memory, ready for its next step."""
    task = Refiner(settings, Path(settings.model.base), open_cache(settings), CPU)
    processes = Processes(Path(settings.folder), settings.tracking)
    return task, prepare(task, settings, processes)


def lines_of(settings: RefinerRun) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(settings.folder) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("term", "weight"),
    [("flow_matching", 0.0), ("low_frequency", 40.0), ("high_frequency", 40.0), ("attention_alignment", 40.0)],
)
def test_every_term_falls_where_it_alone_counts(cached: RefinerRun, tmp_path: Path, term: str, weight: float) -> None:
    """On one pass over and over, with fixed noise; L_FM always counts by one, so that the others are weighed by 40."""
    weights_of_terms = {"low_frequency": 0.0, "high_frequency": 0.0, "attention_alignment": 0.0}
    if weight:
        weights_of_terms[term] = weight
    task, training = opened(changed(cached, tmp_path, objective=weights_of_terms, optimisation={"warmup": 0}))
    batch = task.batch(Pass(0, (0, 1)), CPU)
    found = []
    for _ in range(25):
        terms = training.module(batch)
        terms.total.backward()
        training.optimiser.step()
        training.optimiser.zero_grad()
        found.append(getattr(terms, term).item())
    # The recorder gives no map where L_aal does not count.
    assert found[-1] < 0.95 * found[0]


def test_gradients_reach_experts_and_gates_and_nothing_else(cached: RefinerRun, tmp_path: Path) -> None:
    task, training = opened(changed(cached, tmp_path, learning={"freeze_gates_until": 1}, optimisation={"warmup": 0}))
    before = {name: parameter.detach().clone() for name, parameter in task.module.named_parameters()}
    for step in range(2):
        training.module(task.batch(Pass(0, (step,)), CPU)).total.backward()
        trained = dict(task.trained())
        assert {name for name, parameter in task.module.named_parameters() if parameter.grad is not None} == {
            f"transformer.{name}" for name in trained
        }
        gates = [parameter for name, parameter in trained.items() if "frequency_gate" in name]
        task.before_update(step)
        assert all((gate.grad is None) == (step == 0) for gate in gates), "frozen for one step"
        training.optimiser.step()
        training.optimiser.zero_grad()
    moved = {name for name, parameter in task.module.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {f"transformer.{name}" for name in dict(task.trained())}


def test_sigma_is_shifted_as_at_inference(cached: RefinerRun, tmp_path: Path, tiny_base: Path) -> None:
    """The scheduler's own numbers at the same level, and none with shift = false."""
    plain, _ = opened(changed(cached, tmp_path, noise={"shift": False}))
    shifted, _ = opened(cached)
    levels = plain.batch(Pass(3, (0, 1)), CPU).sigma
    found = shifted.batch(Pass(3, (0, 1)), CPU).sigma
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base)
    pipeline.backbone.set_timesteps(pipeline.scheduler, levels.tolist(), steps=28, tokens=16, device=CPU)
    torch.testing.assert_close(found, pipeline.scheduler.sigmas[:2])
    assert not torch.allclose(found, levels)


def test_dropped_conditions(cached: RefinerRun, tmp_path: Path) -> None:
    whole, _ = opened(cached)
    dropped, _ = opened(changed(cached, tmp_path, data={"drop_reference": 1.0, "drop_prompt": 1.0}))
    full, empty = (task.batch(Pass(0, (0, 1)), CPU) for task in (whole, dropped))
    assert empty.reference.abs().max() == 0
    assert torch.equal(full.noise, empty.noise)
    assert torch.equal(full.sigma, empty.sigma)
    assert not torch.equal(full.prompt_embeds, empty.prompt_embeds)
    assert torch.equal(empty.prompt_embeds[0], empty.prompt_embeds[1])
    assert dropped.module(empty).high_frequency.item() == 0


@pytest.fixture(scope="module")
def finished(cached: RefinerRun, tmp_path_factory: pytest.TempPathFactory) -> RefinerRun:
    """A run that has ended."""
    settings = changed(cached, tmp_path_factory.mktemp("finished") / "run", optimisation={"average": 0.5})
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REFGC_DEVICE", "cpu")
        run_refiner(settings)
    return settings


def test_a_run_leaves_figures_pictures_and_the_newest_checkpoints(finished: RefinerRun) -> None:
    folder = Path(finished.folder)
    lines = lines_of(finished)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines] == [0, 0, 0, 1, 1, 2]
    for line in lines:
        assert math.isfinite(line["loss"]["total"])
        assert line["gradient_norm"]["experts"] > 0
        assert any("flow_matching_sigma" in name for name in line["loss"])
    rates = [line["learning_rate"]["experts"] for line in lines]
    assert rates == pytest.approx([0.01 / 3, 0.02 / 3, 0.01, 0.01, 0.01, 0.01]), "the warm-up"
    assert [line["step"] for line in lines if "validation" in line] == [4, 6]
    assert len(lines[-1]["alpha"]) == 5
    assert [one.name for one in checkpoint.checkpoints(folder)] == ["step_00000002", "step_00000004", "step_00000006"]
    # LRGI, HRRI, result and HRGT.
    assert open_image(folder / "pictures" / "step_00000004" / "t5.png", name="picture").size == (4 * 64, 64)
    assert PILImage.open(folder / "pictures" / "alpha.png").size == (3 * 4, 5 * 8)
    assert list(folder.rglob("events.out.tfevents.*"))
    assert not any("base" in str(file) for file in folder.rglob("*.safetensors"))


def test_a_run_ends_with_an_adapter_that_the_pipeline_loads(finished: RefinerRun, tiny_base: Path) -> None:
    folder = Path(finished.folder)
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=folder / "adapter")
    assert pipeline.freqmole is not None
    config = pipeline.freqmole.config
    assert (config.rank, config.reference_cache, config.enlargement) == (2, False, "bicubic")
    lora = load_file(folder / "lora" / LORA_FILE)
    own = {f"transformer.{name}.lora_B.weight": up for name, _, up in pipeline.freqmole.factors()}
    assert all(torch.allclose(lora[name], up, atol=1e-6) for name, up in own.items())
    assert any(up.abs().max() > 0 for up in own.values())
    card = (folder / "adapter" / "README.md").read_text()
    for part in (
        "5 triplets on 5 objects",
        "simulator (5)",
        "CC BY 4.0",
        "curves.png",
        "learning.learning_rate = 0.01",
    ):
        assert part in card
    assert "data.cache" not in card, "places on a machine are nobody's business"
    # The averages and not the last step.
    last = checkpoint.read_tensors(checkpoint.checkpoints(folder)[-1], {})
    tensors: dict[str, Tensor] = load_file(folder / "adapter" / weights.WEIGHTS_FILE)
    name, number = next((name, number) for number, name in enumerate(tensors) if name.endswith("to_q.high_frequency_B"))
    assert number > 0
    assert not torch.equal(tensors[name], last[f"trained.{name}"])


def test_the_adapter_names_a_base_of_this_machine_from_every_folder(
    cached: RefinerRun, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_base.parent)
    relative = cached.model_copy(update={"model": cached.model.model_copy(update={"base": tiny_base.name})})
    assert adapter_config(relative, tiny_base).base == str(tiny_base.resolve())
    published = cached.model_copy(update={"model": cached.model.model_copy(update={"base": "someone/a-model"})})
    assert adapter_config(published, tiny_base).base == "someone/a-model"


def test_the_engine_refines_with_the_adapter(
    finished: RefinerRun, tiny_base: Path, triplets: Path, tmp_path: Path
) -> None:
    """As `refgc refine --engine diffusion` does; with experts that have learnt nothing another picture comes out."""
    untrained = Refiner(finished, tiny_base, open_cache(finished), CPU)
    untrained.save_adapter(tmp_path)
    request = load_pictures(triplets, read_samples(finished.data, "validation")[0]).request
    small = DenoisingSettings(width=64, height=64, num_inference_steps=2)
    learnt, nothing = (
        DiffusionEngine(Sources(str(tiny_base), str(adapter)), device="cpu", settings=small).refine(request)
        for adapter in (Path(finished.folder) / "adapter", tmp_path)
    )
    assert learnt.image.size == (64, 64)
    assert not np.array_equal(learnt.image.pixels, nothing.image.pixels)


def test_an_adapter_that_was_published_is_refined_with(
    finished: RefinerRun,
    hub: FakeHub,  # noqa: F811
    tiny_base: Path,
    triplets: Path,
) -> None:
    """Of a folder without the checkpoints, to a Hub and back from it by name."""
    own = Path(finished.folder) / "adapter"
    address = publish(own, "someone/adapter")
    assert address.startswith(hub.url)
    assert "/someone/adapter/" in address
    there = hub.repositories["someone/adapter"]
    local = {file.relative_to(own).as_posix(): file.read_bytes() for file in own.rglob("*") if file.is_file()}
    assert local.items() <= there.items()
    assert not any("checkpoint" in name for name in there)
    request = load_pictures(triplets, read_samples(finished.data, "validation")[0]).request
    small = DenoisingSettings(width=64, height=64, num_inference_steps=2)
    pictures = [
        DiffusionEngine(Sources(str(tiny_base), adapter), device="cpu", settings=small).refine(request).image.pixels
        for adapter in (str(own), "someone/adapter")
    ]
    assert np.array_equal(pictures[0], pictures[1])


def test_a_hub_that_refuses_is_one_sentence(finished: RefinerRun, hub: FakeHub) -> None:  # noqa: F811
    hub.refusal = (401, "Unauthorized")
    with pytest.raises(InputError, match="someone/adapter"):
        publish(Path(finished.folder) / "adapter", "someone/adapter")


def test_one_run_at_a_time_works_in_a_folder(finished: RefinerRun) -> None:
    with only_run(Path(finished.folder)), pytest.raises(InputError, match="Another run writes into"):
        run_refiner(finished)


def test_a_run_that_is_stopped_ends_with_a_checkpoint(cached: RefinerRun, tmp_path: Path) -> None:
    settings = changed(cached, tmp_path, checkpoints={"every": 100}, validation={"every": 0})

    def stop(stage: str, fraction: float) -> None:
        if stage.startswith("step 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_refiner(settings, progress=stop)
    _, training = opened(settings)
    assert training.step == 3
    assert len(lines_of(settings)) == 3


def test_a_signal_within_a_step_ends_the_run_with_a_checkpoint_of_that_step(
    cached: RefinerRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(cached, tmp_path, checkpoints={"every": 100}, validation={"every": 0})
    stages: list[str] = []
    backward = Refiner.clear

    def interrupted(task: Refiner) -> None:
        if stages and stages[-1].startswith("step 2"):
            stages.append("interrupted")
            signal.raise_signal(signal.SIGINT)
        backward(task)

    monkeypatch.setattr(Refiner, "clear", interrupted)
    progress = stoppable(lambda stage, _: stages.append(stage), between_steps=True)
    with pytest.raises(StoppedError), stopped_by_signals():
        run_refiner(settings, progress=progress)
    _, training = opened(settings)
    assert training.step == 3
    assert len(lines_of(settings)) == 3


def test_a_tracker_that_is_not_installed_is_one_sentence(cached: RefinerRun, tmp_path: Path) -> None:
    wanted = changed(cached, tmp_path, tracking={"trackers": ("trackio",)})
    with pytest.raises(EngineError, match="pip install trackio, or take it out"):
        run_refiner(wanted)


def test_a_run_that_has_ended_trains_nothing_again(finished: RefinerRun) -> None:
    before = (Path(finished.folder) / "metrics.jsonl").read_bytes()
    run_refiner(finished)
    assert (Path(finished.folder) / "metrics.jsonl").read_bytes() == before


def test_the_command_that_uses_the_adapter_can_be_pasted(finished: RefinerRun, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "my run")
    file = write_run(tmp_path / "run.toml", changed(finished, folder).model_dump(mode="json", exclude_none=True))
    done = run_inside("train", "refiner", file, REFGC_DEVICE="cpu")
    assert done.returncode == 0, done.stderr
    assert shlex.split(done.stdout.partition("`")[2].partition("`")[0])[0] == f"REFGC_ADAPTER={folder / 'adapter'}"


def test_another_setting_or_dataset_is_refused_before_anything_is_written(finished: RefinerRun) -> None:
    other = changed(finished, Path(finished.folder), learning={"learning_rate": 0.02})
    with pytest.raises(InputError, match=r"another learning.learning_rate \('?0.01'?, now '?0.02'?\)"):
        opened(other)


def test_a_damaged_checkpoint_is_one_sentence_and_the_one_before_goes_on(finished: RefinerRun, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    settings = changed(finished, folder)
    newest = checkpoint.checkpoints(folder)[-1]
    data = next((newest / "tensors").glob("*.distcp"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(InputError, match=r"is damaged .* delete it, and the run goes on from the one before"):
        opened(settings)
    shutil.rmtree(newest)
    _, training = opened(settings)
    assert training.step == 4


@pytest.mark.parametrize("name", ["tensors/__0_0.distcp", "tensors/.metadata", "state.json"])
def test_a_checkpoint_in_which_a_byte_was_changed_is_not_gone_on_from(
    finished: RefinerRun, tmp_path: Path, name: str
) -> None:
    """A number among others reads as well as the one before."""
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    file = checkpoint.checkpoints(folder)[-1] / name
    content = bytearray(file.read_bytes())
    place = content.index(b"0.9") + 2 if name == "state.json" else len(content) // 2
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        opened(changed(finished, folder))


def test_other_weights_of_the_base_are_refused(finished: RefinerRun, tmp_path: Path) -> None:
    base = shutil.copytree(finished.model.base, tmp_path / "base")
    task = Refiner(finished, base, open_cache(finished), CPU)
    file = next((base / "transformer").glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    other = Refiner(finished, base, open_cache(finished), CPU)
    prepare(task, finished, Processes(Path(finished.folder), finished.tracking))
    with pytest.raises(InputError, match="was made with other weights of the base; bring them back"):
        prepare(other, finished, Processes(Path(finished.folder), finished.tracking))


def test_fewer_samples_are_refused(finished: RefinerRun) -> None:
    cache = open_cache(finished)
    fewer = Refiner(finished, Path(finished.model.base), replace(cache, training=cache.training[1:]), CPU)
    with pytest.raises(InputError, match="was made with other samples; bring them back"):
        prepare(fewer, finished, Processes(Path(finished.folder), finished.tracking))


@pytest.mark.parametrize("line", ['{"a": 1}', '{"step": 1}', '{"step": "1", "loss": {}}'])
def test_metrics_that_are_none_of_a_run_are_one_sentence(finished: RefinerRun, tmp_path: Path, line: str) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    (folder / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"Line 1 of .*metrics.jsonl' is not one of a run"):
        run_refiner(changed(finished, folder))


def test_a_dataset_that_nobody_has_reviewed_is_one_sentence(cached: RefinerRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"6 unreviewed\).* with `unreviewed = true` in `\[data\]`\.$"):
        open_cache(changed(cached, tmp_path, data={"unreviewed": False}))


def test_an_adapter_that_gives_no_number_is_not_the_end_of_a_run(cached: RefinerRun, tmp_path: Path) -> None:
    """After the last step there is no other loss that could show it."""
    settings = at_a_senseless_rate(
        changed(cached, tmp_path / "run", optimisation={"warmup": 0}, validation={"every": 0})
    )
    with pytest.raises(EngineError, match="does not do what the experts do"):
        run_refiner(settings, max_steps=1)


def test_without_trackers_nothing_is_said(cached: RefinerRun, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Processes(tmp_path, changed(cached, tmp_path, tracking={"trackers": ()}).tracking)


def test_a_base_that_is_not_there_is_named_by_its_setting(cached: RefinerRun, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^model\.base is "):
        open_cache(changed(cached, tmp_path, model={"base": str(tmp_path / "nothing")}))


def test_a_loss_that_is_no_number_is_one_sentence_and_the_state_stays(cached: RefinerRun, tmp_path: Path) -> None:
    settings = at_a_senseless_rate(
        changed(
            cached,
            tmp_path / "run",
            optimisation={"clip": 0.0, "warmup": 0},
            checkpoints={"every": 1},
            validation={"every": 0},
        )
    )
    with pytest.raises(EngineError, match=r"is no number at step \d.* in another `folder`"):
        run_refiner(settings)
    found = checkpoint.read_tensors(checkpoint.checkpoints(tmp_path / "run")[-1], {})
    assert all(tensor.isfinite().all() for name, tensor in found.items() if name.startswith("trained."))


@pytest.mark.parametrize(
    "tables",
    [
        {"model": {"reference_cache": True}},
        {"model": {"quantization": "int8"}},
        {"optimisation": {"optimiser": "prodigy"}, "learning": {"learning_rate": 1.0, "gate_learning_rate": 1.0}},
        {"optimisation": {"schedule": "cosine"}, "run": {"samples_at_once": 2}},
    ],
    ids=["reference cache", "8 bits", "prodigy", "cosine, two at once"],
)
def test_every_way_trains_and_goes_on_exactly(cached: RefinerRun, tmp_path: Path, tables: dict[str, Any]) -> None:
    whole = changed(cached, tmp_path / "whole", **tables)
    run_refiner(whole)
    parts = changed(cached, tmp_path / "parts", **tables)
    run_refiner(parts, max_steps=4)
    run_refiner(parts)
    for one, other in zip(lines_of(whole), lines_of(parts), strict=True):
        assert one["loss"] == other["loss"]
        assert one["learning_rate"] == other["learning_rate"]


def test_klein_is_trained_as_well(tiny_klein: Path, triplets: Path, tmp_path: Path) -> None:
    settings = tiny_run(tmp_path, tiny_klein, triplets)
    fill_here(settings)
    made = run_refiner(settings, max_steps=2)
    assert made is not None
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein, adapter=made)
    assert pipeline.freqmole is not None
    assert pipeline.freqmole.config.guidance is None


def test_optimisers_that_cannot_be_had_are_one_sentence(cached: RefinerRun, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="needs an NVIDIA GPU"):
        opened(changed(cached, tmp_path, optimisation={"optimiser": "adamw-8bit"}))
    with pytest.raises(InputError, match="set all learning rates to the same value"):
        opened(changed(cached, tmp_path, optimisation={"optimiser": "prodigy"}, learning={"gate_learning_rate": 0.1}))


def test_fsdp_that_cannot_be_had_is_one_sentence(
    cached: RefinerRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(EngineError, match="add --fsdp_version 2"):
        Processes(tmp_path, cached.tracking)
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(EngineError, match="FSDP needs GPUs"):
        Processes(tmp_path, cached.tracking)
