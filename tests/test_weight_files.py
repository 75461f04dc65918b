"""Safetensors headers that are read and compared before any tensor, and links that leave a folder."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from refgc.errors import InputError
from refgc.weight_files import (
    MAX_CONFIG_BYTES,
    MAX_HEADER_BYTES,
    TensorEntry,
    WeightFileError,
    check_tensors,
    network_files,
    network_tensors,
    own_file,
    read_config,
    read_header,
)
from tests.support.safetensors_files import GIGABYTE, entry, make_sparse, packed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def refusal(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(WeightFileError) as caught:
        read_header(file)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_names_dtypes_shapes_and_notes_are_read(file: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry([2, 3], 8, 20, "BF16"),
        "a": entry([], 0, 8, "I64"),
        "none": entry([0, 4], 8, 8),
    }
    file.write_bytes(packed(header, bytes(20)))
    read = read_header(file)
    assert read.metadata == {"format": "pt"}
    assert read.tensors == {
        "a": TensorEntry("I64", ()),
        "b": TensorEntry("BF16", (2, 3)),
        "none": TensorEntry("F32", (0, 4)),
    }
    assert read.tensors["b"].size == 6


def test_what_safetensors_writes_is_read(file: Path) -> None:
    numpy = pytest.importorskip("numpy")
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file({"x": numpy.zeros((3, 5), numpy.float16), "y": numpy.zeros(7, numpy.uint8)}, file)
    assert read_header(file).tensors == {"x": TensorEntry("F16", (3, 5)), "y": TensorEntry("U8", (7,))}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "impossible length"),
        (b"1234567", "impossible length"),
        (packed(b""), "impossible length"),
        ((10**12).to_bytes(8, "little") + b"{}", "impossible length"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 1), "impossible length"),
        (packed(b"[]"), "no safetensors header"),
        (packed(b"{'x"), "no safetensors header"),
        (packed(b"\xff\xfe{}"), "no safetensors header"),
        (packed(b"[" * 200_000), "no safetensors header"),
        (packed({"x": 3}), "no safetensors header"),
        (packed({"x": {"dtype": "F32", "shape": [1]}}), "no safetensors header"),
        (packed({"x": entry([1], 0, 4) | {"data_offsets": [0, None]}}, bytes(4)), "overlap, leave gaps"),
        (packed({"x": entry([1], 0, 4) | {"data_offsets": [0]}}, bytes(4)), "impossible shape"),
        (packed({"x": entry([-1, -1], 0, 4)}, bytes(4)), "impossible shape"),
        (packed({"x": entry([True], 0, 4)}, bytes(4)), "impossible shape"),
        (packed({"x": entry([1], 0, 4, "F33")}, bytes(4)), "unknown dtype 'F33'"),
        (packed({"x": entry([2], 0, 4)}, bytes(4)), "other sizes than their shapes"),
        (packed({"x": entry([1], 0, 4), "y": entry([1], 0, 4)}, bytes(4)), "overlap, leave gaps"),
        (packed({"x": entry([1], 0, 4), "y": entry([1], 8, 12)}, bytes(12)), "overlap, leave gaps"),
        (packed({"x": entry([1], 0, 4)}, bytes(3)), "take 4 bytes, and the file has 3"),
        (packed({"x": entry([1], 0, 4)}, bytes(5)), "take 4 bytes, and the file has 5"),
        (packed(b'{"x": 1, "x": 2}'), "a name twice"),
        (packed({"__metadata__": {"format": 3}}), "no list of texts"),
    ],
)
def test_headers_that_do_not_match_their_file_are_refused(file: Path, content: bytes, part: str) -> None:
    assert part in refusal(file, content)


@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="this system does not tell where a file has holes")
def test_a_file_most_of_which_was_never_written_is_refused(file: Path) -> None:
    file.write_bytes(packed({"x": entry([1], 0, 4), "y": entry([2], 4, 12)}, bytes(12)))
    make_sparse(file, "x", 6 * GIGABYTE)
    if file.stat().st_blocks * 512 > GIGABYTE:
        pytest.skip("this file system has no holes")
    assert file.stat().st_size > 6 * GIGABYTE
    with pytest.raises(WeightFileError, match="were ever written to the disk"):
        read_header(file)


def test_the_shards_of_an_index_are_one_network(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.safetensors").write_bytes(packed({f"x{number}": entry([1], 0, 4)}, bytes(4)))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x0": "0.safetensors", "x1": "1.safetensors"}}')
    assert network_tensors(tmp_path, "model") == [{f"x{number}": TensorEntry("F32", (1,)) for number in range(2)}]
    index.write_text('{"weight_map": {"x0": "../0.safetensors"}}')
    with pytest.raises(WeightFileError, match="outside of its folder"):
        network_files(tmp_path, "model")
    index.write_text("{}")
    with pytest.raises(WeightFileError, match="no index"):
        network_files(tmp_path, "model")


def test_a_variant_is_taken_where_there_is_one(tmp_path: Path) -> None:
    plain, half = tmp_path / "model.safetensors", tmp_path / "model.fp16.safetensors"
    plain.touch()
    assert network_files(tmp_path, "model", "fp16") == [[plain]]
    half.touch()
    assert network_files(tmp_path, "model", "fp16") == [[half]]
    assert network_files(tmp_path, "model") == [[plain]]


def test_a_folder_with_pickles_alone_is_refused_by_the_pickles_name(tmp_path: Path) -> None:
    with pytest.raises(WeightFileError, match=r"there is no model\.safetensors"):
        network_files(tmp_path, "model")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(WeightFileError, match=r"pytorch_model\.bin is a pickle, which can run any program"):
        network_files(tmp_path, "model")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({}, "x is missing from the files of its vae"),
        (
            {"x": TensorEntry("F32", (2,)), "y": TensorEntry("F32", (2,))},
            "the files of its vae hold y, which it does not have",
        ),
        ({"x": TensorEntry("F32", (3,))}, r"x of its vae is \(3,\) where its config needs \(2,\)"),
        ({"x": TensorEntry("I32", (2,))}, "x of its vae is stored as I32"),
    ],
)
def test_tensors_that_do_not_fit_their_network_are_refused(stored: dict[str, TensorEntry], said: str) -> None:
    check_tensors({"x": TensorEntry("BF16", (2,))}, {"x": ((2,), True)}, "vae")
    with pytest.raises(WeightFileError, match=said):
        check_tensors(stored, {"x": ((2,), True)}, "vae")


def test_a_config_has_a_largest_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b" " * MAX_CONFIG_BYTES)
    assert len(read_config(tmp_path / "config.json")) == MAX_CONFIG_BYTES
    (tmp_path / "config.json").write_bytes(b" " * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(WeightFileError, match="more than"):
        read_config(tmp_path / "config.json")


# Links


def test_links_inside_of_a_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "name").symlink_to("real")
    assert own_file(tmp_path, "name", "It") == tmp_path / "name"
    assert own_file(tmp_path, "absent", "It") == tmp_path / "absent"


def test_a_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert own_file(tmp_path / "link", "name", "It") == tmp_path / "link" / "name"


@pytest.mark.parametrize("target", ["outside", "/etc/hostname", "name", "folder/../../outside"])
def test_links_out_of_a_folder_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").touch()
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "name").symlink_to(target if target.startswith("/") or target == "name" else f"../{target}")
    if target == "name":
        # A loop leads nowhere, and nowhere is not outside.
        assert not own_file(folder, "name", "It").is_file()
        return
    with pytest.raises(InputError, match="It has a link to a place outside of its folder, name; put the file itself"):
        own_file(folder, "name", "It")


def test_a_linked_folder_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "name").touch()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "inner").symlink_to("../outside")
    with pytest.raises(InputError, match="inner/name"):
        own_file(tmp_path / "adapter", "inner/name", "It")


def test_links_of_the_hubs_cache_are_followed_and_no_others(tmp_path: Path) -> None:
    repository = tmp_path / "models--someone--adapter"
    snapshot = repository / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "1234").touch()
    (tmp_path / "secret").touch()
    (snapshot / "name").symlink_to("../../blobs/1234")
    assert own_file(snapshot, "name", "It").is_file()
    (snapshot / "other").symlink_to("../../../secret")
    with pytest.raises(InputError, match="outside of its folder"):
        own_file(snapshot, "other", "It")
    # A cache whose own folder of files leads elsewhere is none.
    (repository / "blobs" / "1234").unlink()
    (repository / "blobs").rmdir()
    (tmp_path / "1234").touch()
    (repository / "blobs").symlink_to("..")
    with pytest.raises(InputError, match="outside of its folder"):
        own_file(snapshot, "name", "It")
