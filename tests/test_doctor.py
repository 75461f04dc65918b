"""`refgc doctor`: what it says has to be what is there."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

import refgc
from refgc.doctor import EngineState, Examination, examine
from tests.command import run_refgc


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
    states = {engine.name: engine for engine in found.engines}
    assert states["correspondence"].ready
    assert states["correspondence"].missing == []
    assert states["diffusion"].ready == (states["diffusion"].missing == [])


def test_table_names_every_engine_and_all_that_is_missing() -> None:
    shown = run_refgc("doctor", COLUMNS="100").stdout
    found = json.loads(run_refgc("doctor", "--json").stdout)
    for engine in found["engines"]:
        assert engine["name"] in shown
        assert all(sentence in shown for sentence in engine["missing"])
    assert found["processor"].split()[0] in shown


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
    assert not any("nvidia-smi" in sentence for sentence in diffusion_of(found).missing)


def test_a_driver_that_fails_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, "echo 'NVIDIA-SMI has failed'; exit 9", monkeypatch)
    found = examine()
    assert found.gpus == []
    assert any("nvidia-smi" in sentence for sentence in diffusion_of(found).missing)


def test_weights_in_a_folder_are_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_ADAPTER", str(tmp_path))
    monkeypatch.setenv("REFGC_BASE", str(tmp_path / "absent"))
    weights = {item.variable: item for item in examine().weights}
    assert weights["REFGC_ADAPTER"].present
    assert weights["REFGC_ADAPTER"].advice == ""
    assert not weights["REFGC_BASE"].present
    assert str(tmp_path / "absent") in weights["REFGC_BASE"].advice


def test_weights_from_the_hub_tell_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("REFGC_BASE", raising=False)
    monkeypatch.delenv("REFGC_ADAPTER", raising=False)
    base, adapter = examine().weights
    assert base.source == "black-forest-labs/FLUX.1-Kontext-dev"
    assert not base.present
    assert f"hf download {base.source}" in base.advice
    assert adapter.source is None
    assert "REFGC_ADAPTER" in adapter.advice


def test_weights_in_the_hub_cache_are_present(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--adapter"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "adapter.safetensors").write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    done = run_refgc("doctor", "--json", HF_HUB_CACHE=str(tmp_path), REFGC_ADAPTER="someone/adapter")
    weights = {item["variable"]: item for item in json.loads(done.stdout)["weights"]}
    assert weights["REFGC_ADAPTER"]["present"]
    assert not weights["REFGC_BASE"]["present"]
