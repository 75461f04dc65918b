"""Training of DipRefGC that is killed, or shared by processes, has the figures of a run that is left alone."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from refgc.diptych.sources import LORA_FILE, NAMES
from refgc.training import checkpoint
from refgc.training.generator import run_generator
from refgc.training.processes import Processes
from refgc.training.settings import GeneratorRun
from tests.support.generator_run import (  # noqa: F401
    changed,
    generator_cached,
    generator_parts,
    lines_of,
)
from tests.support.two_processes import PROCESSES

# What does not depend on the machine's speed.
EXACT = ("step", "epoch", "loss", "gradient_norm", "learning_rate")


def exact_lines(settings: GeneratorRun) -> list[dict[str, Any]]:
    return [{name: line[name] for name in EXACT} for line in lines_of(settings)]


@pytest.mark.parametrize("steps", [1, 4])
def test_a_run_killed_at_any_step_goes_on_bit_for_bit(
    generator_cached: GeneratorRun,  # noqa: F811
    tmp_path: Path,
    steps: int,
) -> None:
    """Before the first checkpoint, and in the middle; checkpoints are written every third step."""
    how: dict[str, Any] = {
        "optimisation": {"average": 0.9},
        "data": {"drop_edges": 0.3, "drop_prompt": 0.3},
        "checkpoints": {"every": 3},
        "validation": {"every": 0},
    }
    whole, cut = (changed(generator_cached, tmp_path / name, **how) for name in ("whole", "cut"))
    run_generator(whole)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    # A fork has torch in memory already.
    running = multiprocessing.get_context("fork").Process(target=run_generator, args=(cut,))
    running.start()
    while not metrics.exists() or len(metrics.read_text().splitlines()) < steps:
        assert running.is_alive(), "it ended before it could be killed"
        time.sleep(0.002)
    running.kill()
    running.join()
    assert not (tmp_path / "cut" / "adapter").exists()
    assert len(checkpoint.checkpoints(tmp_path / "cut")) <= 1
    run_generator(cut)
    assert exact_lines(cut) == exact_lines(whole)
    assert [line["step"] for line in exact_lines(whole)] == [1, 2, 3, 4, 5, 6]


def train_shared(rank: int, settings: GeneratorRun, shards: bool, steps: int, port: int) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "REFGC_DEVICE": "cpu"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PROCESSES), **where}
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        # The command refuses FSDP2 on CPUs, where nobody wants it but this test.
        begin = Processes.__init__

        def sharding(self: Processes, *arguments: Any, **options: Any) -> None:
            begin(self, *arguments, **options)
            self.shards = shards

        patched.setattr(Processes, "__init__", sharding)
        run_generator(settings, max_steps=steps)


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "port"), [(False, 29531), (True, 29533)], ids=["DDP", "FSDP2"])
def test_two_processes_have_the_figures_of_one(
    generator_cached: GeneratorRun,  # noqa: F811
    tmp_path: Path,
    shards: bool,
    port: int,
) -> None:
    """Validation, checkpoint and going on included, and the LoRAs are written whole."""
    how: dict[str, Any] = {"run": {"batch_size": 4, "steps": 4}, "validation": {"every": 2}}
    one, two = (changed(generator_cached, tmp_path / name, **how) for name in ("one", "two"))
    run_generator(one)
    for number, steps in enumerate((2, 4)):
        spawn(train_shared, (two, shards, steps, port + number), PROCESSES)
    for line, other in zip(lines_of(two), lines_of(one), strict=True):
        for table in ("loss", "gradient_norm"):
            assert line[table] == pytest.approx(other[table], abs=1e-4)
        # An outline may turn on one level of a picture, and is not compared.
        for name in ("psnr", "ssim", "high_frequencies") if "validation" in other else ():
            assert line["validation"][name] == pytest.approx(other["validation"][name], abs=1e-3)
    for name in NAMES:
        found, expected = (load_file(Path(run.folder) / "adapter" / name / LORA_FILE) for run in (two, one))
        assert found.keys() == expected.keys()
        # Adam takes steps of one length, however small a gradient is, so that rounding shows.
        assert all(torch.allclose(tensor, expected[key], atol=5e-3) for key, tensor in found.items())
