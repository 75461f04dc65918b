"""Runs that are killed, that fill the disk, and that several processes share: the figures of one that is left alone."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from refgc.training import checkpoint
from refgc.training.processes import Processes
from refgc.training.refiner import run_refiner
from refgc.training.settings import RefinerRun
from tests.support.command import ENVIRONMENT
from tests.support.training_run import write_run
from tests.support.two_processes import PROCESSES

pytestmark = pytest.mark.slow

# What does not depend on the machine's speed.
EXACT = ("step", "epoch", "loss", "gradient_norm", "learning_rate", "alpha")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "REFGC_DEVICE": "cpu", "GLOO_SOCKET_IFNAME": "lo"}

LAUNCHER = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port")


def run_of(cached: RefinerRun, folder: Path, **tables: dict[str, Any]) -> RefinerRun:
    content = cached.model_dump(mode="json")
    tables = {"optimisation": {"average": 0.9}, "data": {"drop_reference": 0.3, "drop_prompt": 0.3}, **tables}
    for name, table in tables.items():
        content[name] |= table
    return RefinerRun.model_validate({**content, "folder": str(folder)})


def file_of(settings: RefinerRun, folder: Path) -> Path:
    content = settings.model_dump(mode="json", exclude_none=True)
    return write_run(folder / f"{Path(settings.folder).name}.toml", content)


def exact_lines(settings: RefinerRun) -> list[dict[str, Any]]:
    lines = (Path(settings.folder) / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name in EXACT} for line in lines]


def command(*arguments: str | Path, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "refgc", "train", "refiner", *arguments],
        env={**ENVIRONMENT, **ONE_THREAD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_run_killed_at_any_step_goes_on_bit_for_bit(cached: RefinerRun, tmp_path: Path, steps: int) -> None:
    """After no checkpoint, right after one or in the middle; checkpoints are written every third step."""
    how: dict[str, Any] = {"checkpoints": {"every": 3}, "validation": {"every": 0}}
    whole, cut = (run_of(cached, tmp_path / name, **how) for name in ("whole", "cut"))
    finished(command(file_of(whole, tmp_path)))
    metrics = tmp_path / "cut" / "metrics.jsonl"
    running = command(file_of(cut, tmp_path))
    while not metrics.exists() or len(metrics.read_text().splitlines()) < steps:
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not list((tmp_path / "cut").glob("adapter"))
    finished(command(file_of(cut, tmp_path)))
    assert exact_lines(cut) == exact_lines(whole)
    assert len(exact_lines(whole)) == 6


def test_two_processes_have_the_figures_of_one(cached: RefinerRun, tmp_path: Path) -> None:
    """DDP over gloo; also from a checkpoint that one process wrote."""
    how: dict[str, Any] = {"run": {"batch_size": 4, "steps": 4}}
    one, two, mixed = (run_of(cached, tmp_path / name, **how) for name in ("one", "two", "mixed"))
    finished(command(file_of(one, tmp_path)))
    finished(command(file_of(two, tmp_path), launcher=(*LAUNCHER, "29523")))
    finished(command(file_of(mixed, tmp_path), "--max-steps", "2"))
    finished(command(file_of(mixed, tmp_path), launcher=(*LAUNCHER, "29524")))
    assert_close(two, one)
    assert_close(mixed, one)


def test_two_processes_train_on_a_base_of_8_bits(cached: RefinerRun, tmp_path: Path) -> None:
    how: dict[str, Any] = {"run": {"batch_size": 4, "steps": 4}, "model": {"quantization": "int8"}}
    one, two = (run_of(cached, tmp_path / name, **how) for name in ("one", "two"))
    run_refiner(one)
    finished(command(file_of(two, tmp_path), launcher=(*LAUNCHER, "29527")))
    assert_close(two, one)


def assert_close(found: RefinerRun, expected: RefinerRun, tolerance: float = 1e-6) -> None:
    lines = exact_lines(found)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line, other in zip(lines, exact_lines(expected), strict=True):
        for table in ("loss", "gradient_norm", "alpha"):
            assert line.get(table) == pytest.approx(other.get(table), abs=tolerance)


def train_sharded(rank: int, settings: RefinerRun, steps: int, port: int) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PROCESSES), **where, **ONE_THREAD}
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        # The command refuses FSDP2 on CPUs, where nobody wants it but this test.
        begin = Processes.__init__

        def sharding(self: Processes, *arguments: Any, **options: Any) -> None:
            begin(self, *arguments, **options)
            self.shards = True

        patched.setattr(Processes, "__init__", sharding)
        run_refiner(settings, max_steps=steps)


def test_fsdp2_has_the_figures_of_one_process(cached: RefinerRun, tmp_path: Path) -> None:
    """Validation, checkpoint and going on included, and the adapter is written whole."""
    how: dict[str, Any] = {"run": {"batch_size": 4, "steps": 4}, "validation": {"every": 2}}
    one, sharded = (run_of(cached, tmp_path / name, **how) for name in ("one", "sharded"))
    run_refiner(one)
    for steps, port in ((2, 29525), (4, 29526)):
        spawn(train_sharded, (sharded, steps, port), PROCESSES)
    assert_close(sharded, one, 1e-4)
    found, expected = (load_file(Path(run.folder) / "adapter" / "freqmole.safetensors") for run in (sharded, one))
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }


def test_a_full_disk_is_one_sentence_and_the_state_stays(cached: RefinerRun, tmp_path: Path) -> None:
    """No file of this process may be larger than an adapter, so that the second checkpoint cannot be written."""
    settings = run_of(cached, tmp_path / "run", validation={"every": 0})
    run_refiner(settings, max_steps=2)
    (before,) = checkpoint.checkpoints(tmp_path / "run")
    largest = max(file.stat().st_size for file in before.rglob("*") if file.is_file())
    process = subprocess.run(
        [sys.executable, "-m", "refgc", "train", "refiner", file_of(settings, tmp_path)],
        env={**ENVIRONMENT, **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2)),
    )
    assert process.returncode == 1
    assert process.stderr.startswith("refgc: "), process.stderr
    assert process.stderr.count("\n") == 1, process.stderr
    assert "free space" in process.stderr
    assert checkpoint.checkpoints(tmp_path / "run") == [before]
    assert not list((tmp_path / "run" / "checkpoints").glob(".draft*"))
    run_refiner(settings)
    assert len(exact_lines(settings)) == 6
