"""The estimate counts what the network itself has, and moves as the settings say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refgc.training.cache import open_cache
from refgc.training.estimate import USUAL_SIZE, Speed, estimate_run
from refgc.training.refiner import Refiner
from refgc.training.settings import RefinerRun
from tests.support.command import run_inside
from tests.support.training_run import write_run
from tests.training.test_refiner import CPU, changed


def test_it_counts_the_parameters_of_the_network(cached: RefinerRun) -> None:
    found = estimate_run(cached)
    task = Refiner(cached, Path(cached.model.base), open_cache(cached), CPU)
    trained = sum(parameter.numel() for _, parameter in task.trained())
    assert found.trained == trained
    assert found.base == sum(parameter.numel() for parameter in task.module.parameters()) - trained
    assert found.tokens == 3 * 16 + 512
    assert found.cached_bytes == 2 * (3 * 8 * 8 * 4 + 512 * 32)


def test_it_needs_no_weights(cached: RefinerRun, tmp_path: Path) -> None:
    base = shutil.copytree(cached.model.base, tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    bare = changed(cached, tmp_path, model={"base": str(base)})
    assert estimate_run(bare) == estimate_run(cached)


def test_it_moves_as_the_settings_say(cached: RefinerRun, tmp_path: Path) -> None:
    usual = estimate_run(changed(cached, tmp_path, data={"working_size": USUAL_SIZE}))
    assert usual == estimate_run(changed(cached, tmp_path, data={"working_size": None}))

    small = estimate_run(changed(cached, tmp_path, model={"quantization": "int8"}, data={"working_size": None}))
    assert small.base_bytes == pytest.approx(usual.base_bytes / 2, rel=0.02)
    whole = estimate_run(
        changed(cached, tmp_path, model={"gradient_checkpointing": False}, data={"working_size": None})
    )
    assert whole.working_bytes > 2 * usual.working_bytes
    assert whole.half < usual.half
    reference = estimate_run(changed(cached, tmp_path, model={"reference_cache": True}, data={"working_size": None}))
    assert reference.half < usual.half
    many = estimate_run(cached, gpus=4)
    assert many.sharded_memory < many.memory
    speed = Speed(100, 20, 80)
    assert many.hours(speed) == pytest.approx(estimate_run(cached).hours(speed) / 4)


def test_the_command_prints_it(cached: RefinerRun, tmp_path: Path) -> None:
    file = write_run(tmp_path / "run.toml", cached.model_dump(mode="json", exclude_none=True))
    said = run_inside("train", "estimate", file, "--gpus", "8").stdout
    for part in ("base: FLUX.1-Kontext", "with FSDP2", "hours on 8 x H100"):
        assert part in said
