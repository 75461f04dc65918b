"""A base's files are compared with its networks before they are read, and pickles are never read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file

from refgc.errors import EngineError, InputError
from refgc.flux.placement import Placement
from refgc.flux.reading import load_transformer, prompt_reader
from refgc.hub import INDEX, NETWORKS
from refgc.model.pipeline import RefGCSR2Pipeline
from tests.support.fake_hub import FakeHub
from tests.support.safetensors_files import GIGABYTE, make_sparse, opened_files, turn_into_pickle

CPU = torch.device("cpu")
ON_CPU = Placement(CPU, torch.float32, "none", "none", CPU, True, True, "on the CPU", 0)


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base, to be spoilt."""
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def file_of(base: Path, part: str) -> Path:
    (file,) = (base / part).glob("*.safetensors")
    return file


def refusal(base: Path) -> str:
    """The sentence with which loading fails."""
    with pytest.raises(EngineError) as failure:
        RefGCSR2Pipeline.from_pretrained(base)
    sentence = str(failure.value)
    assert "\n" not in sentence
    assert sentence.endswith("; fetch it again, or name another.")
    return sentence


@pytest.mark.parametrize("part", NETWORKS)
def test_a_network_that_is_a_pickle_is_refused_and_not_opened(base: Path, part: str) -> None:
    pickled = turn_into_pickle(file_of(base, part))
    with opened_files() as opened:
        assert f"{pickled.name} is a pickle, which can run any program when it is read" in refusal(base)
    assert opened
    assert not [path for path in opened if path.endswith(".bin")]


@pytest.mark.parametrize("part", NETWORKS)
def test_a_tensor_that_claims_gigabytes_is_refused_before_any_is_read(base: Path, part: str) -> None:
    file = file_of(base, part)
    name = next(name for name, tensor in load_file(file).items() if tensor.ndim == 2)
    make_sparse(file, name, 6 * GIGABYTE)
    assert "is damaged or cut off" in refusal(base)


@pytest.mark.parametrize("part", NETWORKS)
def test_tensors_of_another_shape_or_kind_are_refused_by_their_name(base: Path, part: str) -> None:
    file = file_of(base, part)
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    shape = tuple(tensors[name].shape)
    save_file({**tensors, name: torch.zeros(3, 5)}, file, metadata={"format": "pt"})
    assert f"{name} of its {part} is (3, 5) where its config needs {shape}" in refusal(base)
    save_file({**tensors, name: torch.zeros(shape, dtype=torch.int32)}, file, metadata={"format": "pt"})
    assert f"{name} of its {part} is stored as I32" in refusal(base)
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    assert f"{name} is missing from the files of its {part}" in refusal(base)


def test_a_network_of_another_library_is_refused(base: Path) -> None:
    index = json.loads((base / INDEX).read_text())
    (base / INDEX).write_text(json.dumps({**index, "vae": ["decoder", "Decoder"]}))
    (base / "vae" / "decoder.py").write_text("raise SystemExit")
    assert "its vae is a Decoder of decoder, which is not read here" in refusal(base)


def test_parts_that_are_given_are_not_looked_at(base: Path) -> None:
    turn_into_pickle(file_of(base, "vae"))
    assert RefGCSR2Pipeline.from_pretrained(base, vae=None).vae is None


def test_pickles_cannot_be_asked_for(base: Path) -> None:
    with pytest.raises(InputError, match="leave use_safetensors out"):
        RefGCSR2Pipeline.from_pretrained(base, use_safetensors=False)


def test_networks_that_are_read_alone_are_checked_as_well(base: Path) -> None:
    for part in ("transformer", "text_encoder_2"):
        turn_into_pickle(file_of(base, part))
    with pytest.raises(EngineError, match="is a pickle"):
        load_transformer(base, ON_CPU, quantizes=False)
    with pytest.raises(EngineError, match="is a pickle"):
        prompt_reader(base, ON_CPU).read("a mug")


def test_a_base_of_the_hub_is_checked_in_the_cache(base: Path, hub: FakeHub, tmp_path: Path) -> None:
    files = {str(file.relative_to(base)): file.read_bytes() for file in base.rglob("*") if file.is_file()}
    name = str(file_of(base, "vae").relative_to(base))
    hub.repositories |= {"someone/base": files, "someone/spoilt": {**files, name: files[name][:-4]}}
    cached: dict[str, Any] = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    for repository in hub.repositories:
        snapshot_download(repository, cache_dir=tmp_path / "cache")
    assert RefGCSR2Pipeline.from_pretrained("someone/base", **cached).transformer.config.num_layers == 2
    with pytest.raises(EngineError, match=r"The base 'someone/spoilt' cannot be loaded \(.* is damaged or cut off"):
        RefGCSR2Pipeline.from_pretrained("someone/spoilt", **cached)
