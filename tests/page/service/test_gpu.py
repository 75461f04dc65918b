"""Work on a GPU that is lent: with the real `spaces` package as on a Space, and without it as anywhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refgc.engine import Progress, Viewer
from refgc.imaging.image import Image
from refgc.machine import find_gpus
from refgc.page.service import gpu as gpu_time
from refgc.page.service.gpu import gpu_seconds, on_gpu, prepare_for_lending
from refgc.request import RefineRequest
from tests.support.zero_gpu import lending

ROOT = Path(__file__).resolve().parents[3]


def on_a_space(script: str, address: str) -> dict[str, Any]:
    pytest.importorskip("spaces")
    environment = os.environ | {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": address,
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, str(ROOT / "tests" / "support" / "zero_gpu.py"), script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def visited() -> tuple[dict[str, Any], list[tuple[str, dict[str, str]]]]:
    """What came of a visit, and what the lending service was asked for."""
    with lending() as (address, asked):
        return on_a_space("visit", address), asked


def test_a_lent_gpu_changes_nothing_but_the_place(visited) -> None:
    found, asked = visited
    assert not found["identity"]
    assert found["same"]
    assert found["own_process"]
    assert found["seen"] == ["upscaled", "aligned reference"]
    assert len(set(found["stages"])) > 3
    assert found["in_a_sentence"] == "InputError: Choose another picture."
    assert found["unforeseen"].startswith("EngineError: RefGC failed with UnportableError (not foreseen)")
    assert found["again"] == "no error"
    schedules = [parameters for path, parameters in asked if path == "/schedule"]
    assert {int(parameters["durationSeconds"]) for parameters in schedules} == {found["seconds"]}
    releases = [parameters for path, parameters in asked if path == "/release"]
    assert len(releases) == len(schedules) == 5


def test_who_leaves_gives_the_gpu_back_at_once(visited) -> None:
    found, _ = visited
    assert found["left"] == "KeyError: 'left'"
    assert found["left_after"] < 8  # the work would have taken ten seconds


def test_where_no_gpu_is_to_be_had_it_is_told_in_a_sentence() -> None:
    with lending(none_left=True) as (address, _):
        told = on_a_space("visit_without_a_gpu", address)["told"]
    assert told == (
        "EngineError: Hugging Face did not lend a GPU (No GPU was available); try again later, or choose the engine "
        "correspondence."
    )


def test_elsewhere_the_work_is_called_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)

    def work(progress: Progress, viewer: Viewer | None) -> None:
        pass

    assert on_gpu(work, duration=lambda: 1) is work
    prepare_for_lending()


def test_on_zero_gpu_a_gpu_is_reckoned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert ["ZeroGPU" in gpu.name for gpu in find_gpus()] == [True]


def request_of(side: int, scale: int) -> RefineRequest:
    picture = Image(np.zeros((side, side, 3), np.uint8))
    return RefineRequest(picture, picture, scale=scale)


def test_the_estimate_is_what_is_counted() -> None:
    counted = json.loads((ROOT / "benchmarks" / "diffusion.json").read_text())["counted_at_full_size"]
    plain = counted["tera_operations"][0]
    assert not plain["reference_cache"]
    assert plain["step"] == pytest.approx(gpu_time.TERA_OPERATIONS_A_STEP, rel=0.01)
    beside = plain["picture"] - 28 * plain["step"]
    assert beside == pytest.approx(gpu_time.TERA_OPERATIONS_BESIDE, abs=5)
    steps = (gpu_seconds(request_of(256, 4), 28) - gpu_seconds(request_of(256, 4), 14)) / 14
    assert steps == pytest.approx(gpu_time.MARGIN * plain["step"] / gpu_time.TERA_OPERATIONS_A_SECOND, abs=1 / 14)


def test_larger_outputs_and_more_steps_need_longer() -> None:
    assert gpu_seconds(request_of(256, 4)) < gpu_seconds(request_of(1024, 4))
    assert gpu_seconds(request_of(512, 2)) == gpu_seconds(request_of(256, 4))
    assert gpu_seconds(request_of(256, 4), 14) < gpu_seconds(request_of(256, 4), 28)
    assert 60 < gpu_seconds(request_of(256, 4)) < 120
    assert isinstance(gpu_seconds(request_of(16, 1)), int)
