"""Getting weights: the real client against a Hub on this machine, and a sentence for each way it fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from refgc.errors import EngineError
from refgc.hub import ADAPTER_FILES, INDEX, PIPELINE_FILES, check_pipeline, fetch, missing_from, on_disk
from refgc.model import weights
from tests.support.fake_hub import FakeHub
from tests.support.safetensors_files import turn_into_pickle

BASE = "someone/kontext"


def served(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refusal(source: str, files: tuple[str, ...] = PIPELINE_FILES) -> str:
    with pytest.raises(EngineError) as failure:
        fetch(source, "REFGC_BASE", files)
    sentence = str(failure.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"REFGC_BASE is {source!r}, ")
    assert sentence.endswith(".")
    return sentence


def test_a_pipeline_is_downloaded_once_without_what_lies_beside_it(hub: FakeHub, tiny_base: Path) -> None:
    hub.repositories[BASE] = {**served(tiny_base), "flux.safetensors": b"the transformer a second time"}
    assert on_disk(BASE, PIPELINE_FILES) is None
    folder = fetch(BASE, "REFGC_BASE", PIPELINE_FILES)
    assert served(folder) == served(tiny_base)
    hub.refusal = (500, "")
    assert fetch(BASE, "REFGC_BASE", PIPELINE_FILES) == folder == on_disk(BASE, PIPELINE_FILES)


def test_pickles_are_not_downloaded(hub: FakeHub, tiny_base: Path) -> None:
    pickles = {"vae/diffusion_pytorch_model.bin": b"", "transformer/flux.ckpt": b"", "text_encoder/x.pt": b""}
    hub.repositories[BASE] = {**served(tiny_base), **pickles}
    assert served(fetch(BASE, "REFGC_BASE", PIPELINE_FILES)) == served(tiny_base)


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
def test_a_folder_with_pickles_alone_is_told_from_one_that_lacks_something(
    tiny_base: Path, tmp_path: Path, part: str
) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    pickled = [turn_into_pickle(file) for file in (folder / part).glob("*.safetensors")]
    assert f"where {pickled[0].name} is a pickle, which can run any program when it is read" in refusal(str(folder))


def test_a_download_that_broke_off_is_not_taken_for_complete(hub: FakeHub, tiny_base: Path) -> None:
    hub.repositories[BASE] = served(tiny_base)
    fetch(BASE, "REFGC_BASE", (INDEX,))
    assert on_disk(BASE, (INDEX,)) is not None
    assert on_disk(BASE, PIPELINE_FILES) is None


def test_a_complete_folder_is_taken_as_it_is(tiny_base: Path) -> None:
    assert fetch(str(tiny_base), "REFGC_BASE", PIPELINE_FILES) == tiny_base


@pytest.mark.parametrize(
    ("absent", "named"),
    [
        (INDEX, INDEX),
        ("vae/config.json", "vae/config.json"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer/*.safetensors"),
        ("tokenizer_2", "tokenizer_2"),
    ],
)
def test_what_a_folder_lacks_is_named(tiny_base: Path, tmp_path: Path, absent: str, named: str) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    if (folder / absent).is_dir():
        shutil.rmtree(folder / absent)
    else:
        (folder / absent).unlink()
    assert missing_from(folder, PIPELINE_FILES) == [named]
    assert f"there is no {named} in it" in refusal(str(folder))


def test_a_missing_shard_is_named(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    index = {"weight_map": {"a": "part-1.safetensors", "b": "diffusion_pytorch_model.safetensors"}}
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert missing_from(folder, PIPELINE_FILES) == ["transformer/part-1.safetensors"]


def test_an_adapter_is_what_its_own_module_saves() -> None:
    assert set(ADAPTER_FILES) == {weights.CONFIG_FILE, weights.WEIGHTS_FILE}


def test_another_pipeline_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    check_pipeline(tiny_base, "base")
    index = json.loads((tiny_base / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps({**index, "_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(EngineError, match="holds a StableDiffusionPipeline; name"):
        check_pipeline(tmp_path, "base")


def test_a_licence_that_was_not_accepted_says_what_to_click(hub: FakeHub, tiny_base: Path) -> None:
    hub.repositories[BASE] = served(tiny_base)
    hub.gated.add(BASE)
    said = refusal(BASE)
    assert f"open https://huggingface.co/{BASE} in a browser, log in, agree to its terms" in said
    assert "HF_TOKEN" in said
    assert "hf auth login" in said


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "GatedRepo", "licence must be accepted"),
        (403, "GatedRepo", "licence must be accepted"),
        (401, "RepoNotFound", "no repository that the Hub shows you"),
        (404, "RepoNotFound", "no repository that the Hub shows you"),
        (401, "", "HF_TOKEN"),
        (403, "", "your token has no right to it"),
        (503, "", "answers with status 503; try again later"),
    ],
)
def test_what_the_hub_refuses(hub: FakeHub, status: int, code: str, said: str) -> None:
    hub.refusal = (status, code)
    assert said in refusal(BASE)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_a_damaged_list_of_shards_is_named(tiny_base: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    name = "diffusion_pytorch_model.safetensors.index.json"
    (folder / "transformer" / name).write_text(content)
    assert f"there is no transformer/{name} in it" in refusal(str(folder))


def test_a_repository_without_the_files_is_refused(hub: FakeHub) -> None:
    hub.repositories[BASE] = {"README.md": b"# Nothing"}
    assert f"there is no {INDEX} in it" in refusal(BASE)


def test_a_hub_out_of_reach(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert "the Hub cannot be reached; go online" in refusal(BASE)


def test_being_offline_by_choice(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to fetch it" in refusal(BASE)


def test_a_name_that_is_neither_folder_nor_repository(hub: FakeHub) -> None:
    assert "no name of a repository" in refusal("/no/such/folder")


def test_a_full_disk(hub: FakeHub, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hub.repositories[BASE] = served(tiny_base)
    # The last step of every download; a disk that is really full cannot be had without root.
    monkeypatch.setattr("huggingface_hub.file_download._chmod_and_move", full)
    assert f"the disk of {constants.HF_HUB_CACHE} is full" in refusal(BASE)


def test_a_cache_that_cannot_be_written(hub: FakeHub, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[BASE] = served(tiny_base)
    cache = Path(constants.HF_HUB_CACHE)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file where the folder should be")
    assert f"cannot be written to {cache}" in refusal(BASE)
