"""`refgc doctor`: what it says has to be what is there."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import refgc
from refgc.diptych import sources
from refgc.diptych.sources import obstacle as diptych_obstacle
from refgc.doctor import EngineState, Examination, PartState, examine, may_choose_diffusion
from refgc.machine import NO_CUDA, NO_GPU
from refgc.metrics.registry import Selection
from refgc.wheels import LEARNED_MATCHING, LIGHTERGLUE, SURROUNDINGS
from tests.support.command import run_refgc
from tests.support.ncnn_files import write_weights


def diffusion_of(examination: Examination) -> EngineState:
    return next(engine for engine in examination.engines if engine.name == "diffusion")


def fake_nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the driver's tool, which cannot be installed without its hardware."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_json_is_what_this_machine_is() -> None:
    done = run_refgc("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = Examination.model_validate_json(done.stdout, strict=True)
    assert found.refgc == refgc.__version__
    assert platform.python_version() in found.python
    assert found.cores >= 1
    versions = {library.module: library.version for library in found.libraries}
    assert versions["numpy"] == metadata.version("numpy")
    assert versions["PIL"] == metadata.version("pillow")
    assert versions["cv2"] is not None
    assert versions["scenedetect"] == metadata.version("scenedetect-headless")
    assert {one.module for one in found.libraries if one.needed_for == "dataset"} >= {"av", "webdataset", "openai"}
    states = {engine.name: engine for engine in found.engines}
    assert states["correspondence"].ready
    assert states["correspondence"].missing == []
    assert states["diffusion"].ready == (states["diffusion"].missing == [])


def test_table_names_every_engine_and_all_that_is_missing() -> None:
    shown = run_refgc("doctor", COLUMNS="100").stdout
    found = json.loads(run_refgc("doctor", "--json").stdout)
    for item in (*found["engines"], *found["parts"]):
        assert item["name"] in shown
        assert all(sentence in joined(shown) for sentence in item["missing"])
    assert all(weights["variable"] in shown for weights in found["weights"])
    assert found["processor"].split()[0] in shown


def joined(shown: str) -> str:
    """What was shown, without the breaks of its lines."""
    return re.sub(r"\s+", " ", shown.replace("\\\n", ""))


@pytest.mark.parametrize("columns", [80, 100])
def test_it_fits_the_terminal_and_no_name_or_command_is_broken(columns: int) -> None:
    shown = run_refgc("doctor", COLUMNS=str(columns), REFGC_BASE="kontext").stdout
    assert max(len(line) for line in shown.splitlines()) <= columns
    names = ["black-forest-labs/FLUX.1-Kontext-dev", "https://huggingface.co/black-forest-labs/FLUX.1-Kontext-dev"]
    names += [weights.variable for weights in examine().weights]
    for name in [*names, "│   black-forest-labs/FLUX.1-Kontext-dev ", "`hf auth login`"]:
        assert name in shown
    command = "`hf download black-forest-labs/FLUX.1-Kontext-dev --include '*.json' --include '*/*'`"
    assert command in re.sub(r"\\\n +", "", shown), "a shell takes it as it stands"


def test_a_library_that_is_not_installed_is_missing_from_diffusion() -> None:
    found = examine()
    for library in found.libraries:
        assert (library.version is not None) == (find_spec(library.module) is not None)
        if library.needed_for == "diffusion" and library.version is None:
            assert any(library.module in sentence for sentence in diffusion_of(found).missing)


def test_gpus_are_those_that_the_driver_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = "NVIDIA H100 80GB HBM3, 81559, 570.86.15\nNVIDIA GB10, [N/A], 580.1"
    fake_nvidia_smi(tmp_path, f"cat <<'END'\n{listing}\nEND", monkeypatch)
    found = examine()
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA H100 80GB HBM3", "NVIDIA GB10"]
    assert found.gpus[0].memory_gib == pytest.approx(79.65, abs=0.01)
    assert found.gpus[1].memory_gib is None
    assert found.gpus[0].driver == "570.86.15"
    assert NO_GPU not in diffusion_of(found).missing


def test_a_driver_that_fails_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, "echo 'NVIDIA-SMI has failed'; exit 9", monkeypatch)
    found = examine()
    assert found.gpus == []
    assert NO_GPU in diffusion_of(found).missing


def test_weights_in_a_complete_folder_are_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_ADAPTER", str(tmp_path))
    monkeypatch.setenv("REFGC_BASE", str(tmp_path / "absent"))
    base, adapter = examine().weights[:2]
    assert (adapter.variable, adapter.present) == ("REFGC_ADAPTER", False)
    assert f"there is no config.json in {tmp_path}" in adapter.advice
    for name in ("config.json", "freqmole.safetensors"):
        (tmp_path / name).touch()
    base, adapter = examine().weights[:2]
    assert (adapter.present, adapter.advice) == (True, "")
    assert not base.present
    assert f"there is no folder {tmp_path / 'absent'}" in base.advice


def test_weights_from_the_hub_tell_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("REFGC_BASE", raising=False)
    monkeypatch.delenv("REFGC_ADAPTER", raising=False)
    base, adapter = examine().weights[:2]
    assert base.source == "black-forest-labs/FLUX.2-klein-4B"
    assert not base.present
    assert base.advice.endswith("fetches them (16 GB); no account is needed.")
    assert f"hf download {base.source}" in base.advice
    monkeypatch.setenv("REFGC_BASE", "kontext")
    base = examine().weights[0]
    assert base.source == "black-forest-labs/FLUX.1-Kontext-dev"
    assert "agree to its terms" in base.advice
    assert adapter.source is None
    assert "REFGC_ADAPTER" in adapter.advice


def test_each_base_is_told_with_licence_gate_size_and_what_fits_this_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fake_nvidia_smi(tmp_path, "echo 'NVIDIA GeForce RTX 4060 Ti, 16380, 570.86.15'", monkeypatch)
    for variable in ("REFGC_BASE", "REFGC_ADAPTER"):
        monkeypatch.delenv(variable, raising=False)
    klein, klein_base, kontext = examine().bases
    assert (klein.word, klein_base.word, kontext.word) == ("klein", "klein-base", "kontext")
    assert (klein.licence, klein.gated, klein.gigabytes) == ("Apache-2.0", False, 16)
    assert (kontext.gated, kontext.gigabytes) == (True, 34)
    assert klein.fit == "fits in 16 bits, about 11 of 16 GiB"
    assert kontext.fit == "fits in 8 bits, about 15 of 16 GiB"
    assert [base.chosen for base in (klein, klein_base, kontext)] == [True, False, False]
    assert not any(base.present for base in (klein, klein_base, kontext))
    shown = joined(run_refgc("doctor", COLUMNS="200").stdout)
    for word in ("klein-base", "Apache-2.0", "no account needed", "gated", "16 GB to download, taken"):
        assert word in shown


def test_what_a_model_takes_is_told_of_this_gpu_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia_smi(tmp_path, "exit 9", monkeypatch)
    without = run_refgc("doctor", COLUMNS="80", PATH=os.environ["PATH"]).stdout
    assert "│ on a GPU" in without.replace("┃", "│")
    assert "this GPU" not in without
    fake_nvidia_smi(tmp_path, "echo 'NVIDIA L4, 23034, 570.86.15'", monkeypatch)
    assert "on this GPU" in run_refgc("doctor", COLUMNS="80", PATH=os.environ["PATH"]).stdout


def test_weights_in_the_hub_cache_are_present(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--adapter"
    (repository / "snapshots" / commit).mkdir(parents=True)
    for name in ("config.json", "freqmole.safetensors"):
        (repository / "snapshots" / commit / name).write_bytes(b"{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    done = run_refgc("doctor", "--json", HF_HUB_CACHE=str(tmp_path), REFGC_ADAPTER="someone/adapter")
    weights = {item["variable"]: item for item in json.loads(done.stdout)["weights"]}
    assert weights["REFGC_ADAPTER"]["present"]
    assert not weights["REFGC_BASE"]["present"]


def part_of(examination: Examination, name: str) -> PartState:
    return next(part for part in examination.parts if part.name == name)


def test_metrics_are_ready_where_their_networks_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    state = part_of(examine(), "metrics")
    assert not state.ready
    (lpips,) = [sentence for sentence in state.missing if sentence.startswith("LPIPS needs ")]
    assert "`refgc setup --metrics`" in lpips
    for name in ("alexnet-owt-7be5be79.pth", "lpips-alex.pth"):
        (tmp_path / name).touch()
    assert not [sentence for sentence in part_of(examine(), "metrics").missing if sentence.startswith("LPIPS")]
    monkeypatch.setattr("refgc.metrics.registry.select", lambda: Selection((), ()))
    assert part_of(examine(), "metrics").ready


def test_the_diptych_generator_is_ready_where_its_parts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    controlnet, loras = tmp_path / "controlnet", tmp_path / "loras"
    for variable in ("REFGC_INPAINTING_CONTROLNET", "REFGC_CANNY_CONTROLNET"):
        monkeypatch.delenv(variable, raising=False)
        state = part_of(examine(), "diptych generator")
        assert not state.ready
        assert any(sentence.startswith(f"{variable} is not set") for sentence in state.missing)
        assert diptych_obstacle() in state.missing
        monkeypatch.setenv(variable, str(controlnet))
    monkeypatch.setenv("REFGC_DIPTYCH_BASE", str(save_empty_base(tmp_path / "base")))
    controlnet.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert not part_of(examine(), "diptych generator").ready
        (controlnet / name).touch()
    monkeypatch.delenv("REFGC_DIPTYCH_LORAS", raising=False)
    assert part_of(examine(), "diptych generator").missing == []
    assert diptych_obstacle() == ""
    monkeypatch.setenv("REFGC_DIPTYCH_LORAS", str(loras))
    assert not part_of(examine(), "diptych generator").ready
    (loras / "canny").mkdir(parents=True)
    (loras / "canny" / "pytorch_lora_weights.safetensors").touch()
    found = examine()
    assert part_of(found, "diptych generator").ready
    assert all(item.present for item in found.weights if item.needed_for == "diptych generator")


def test_surroundings_are_ready_where_their_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    state = part_of(examine(), "surroundings")
    assert not state.ready
    assert any("`refgc setup --surroundings`" in sentence for sentence in state.missing)
    assert "interpolation" in state.without
    write_weights(tmp_path)
    damaged = f"Damaged weights in {tmp_path} ({', '.join(SURROUNDINGS.members)})"
    remedy = "`refgc setup --surroundings` fetches them (35 MB) anew"
    assert part_of(examine(), "surroundings").missing == [f"{damaged}: {remedy}."]
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    monkeypatch.setattr("refgc.wheels.SURROUNDINGS", replace(SURROUNDINGS, digests=digests))
    assert part_of(examine(), "surroundings").ready


def test_damaged_weights_of_learned_matching_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    for name in LEARNED_MATCHING.members:
        np.savez(tmp_path / name, weight=np.zeros(9))
    assert part_of(examine(), "learned matching").ready
    file = tmp_path / LIGHTERGLUE
    file.write_bytes(file.read_bytes()[:-9])
    state = part_of(examine(), "learned matching")
    assert not state.ready
    assert state.missing == [f"Damaged weights in {tmp_path} ({LIGHTERGLUE}): `refgc setup` fetches them (7 MB) anew."]


def save_empty_base(folder: Path) -> Path:
    """A pipeline of no networks, which is complete as soon as its index is there."""
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    return folder


def test_the_gpu_is_told_for_the_diptych_generator_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, "exit 9", monkeypatch)
    monkeypatch.delenv("REFGC_DEVICE", raising=False)
    assert sources.NO_GPU in part_of(examine(), "diptych generator").missing
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    assert sources.NO_GPU not in part_of(examine(), "diptych generator").missing


def test_sam_is_ready_where_its_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFGC_SAM", raising=False)
    assert "REFGC_SAM is not set" in part_of(examine(), "SAM").missing[0]
    monkeypatch.setenv("REFGC_SAM", str(tmp_path))
    assert f"REFGC_SAM is '{tmp_path}', and there is no config.json" in part_of(examine(), "SAM").missing[0]
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    (tmp_path / "model.safetensors").touch()
    state = part_of(examine(), "SAM")
    assert (state.ready, state.missing) == (True, [])
    assert {item.variable: item.present for item in examine().weights}["REFGC_SAM"]


@pytest.fixture
def torch_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a torch before the real one of which nothing but its note of how it was built is to be read."""

    def build(note: str) -> None:
        package = tmp_path / "torch"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('torch was imported')")
        (package / "version.py").write_text(note)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "torch", raising=False)

    return build


@pytest.mark.parametrize(
    ("note", "gpu", "missing"),
    [
        ("cuda: Optional[str] = '13.0'", True, None),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '7.0'", True, None),
        ("cuda: Optional[str] = None", True, NO_CUDA),
        ("cuda: Optional[str] = None", False, NO_GPU),
        ("cuda: Optional[str] = '13.0'", False, NO_GPU),
    ],
)
def test_torch_is_asked_how_it_was_built_without_importing_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torch_built: Callable[[str], None],
    note: str,
    gpu: bool,
    missing: str | None,
) -> None:
    fake_nvidia_smi(tmp_path, "echo 'NVIDIA L4, 23034, 570.86.15'" if gpu else "exit 9", monkeypatch)
    monkeypatch.delenv("REFGC_DEVICE", raising=False)
    torch_built(note)
    told = set(diffusion_of(examine()).missing)
    assert told & {NO_CUDA, NO_GPU} == ({missing} if missing else set())
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    assert not {NO_CUDA, NO_GPU} & set(diffusion_of(examine()).missing)
    assert not may_choose_diffusion()
