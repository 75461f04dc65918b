"""Safetensors files made byte by byte: right ones, wrong ones, sparse ones that claim gigabytes; and pickles."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GIGABYTE = 2**30


def packed(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A file with this header, right or wrong, and these bytes for the tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    """What a header says about one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def make_sparse(file: Path, name: str, bytes_claimed: int, *, written: bool = False) -> None:
    """Lets one float32 tensor of a safetensors file claim gigabytes, which are a hole and take no room on the disk.

    Args:
        file: rewritten; its other tensors stay.
        name: of the tensor, which becomes one long row.
        bytes_claimed: how large the tensor is made, a multiple of 4096.
        written: true writes zeros to the disk instead of leaving a hole.
    """
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    # The tensor's own bytes stay in the file, under another name, so that there is no gap.
    header["displaced"] = header[name]
    header[name] = entry([bytes_claimed // 4], len(data), len(data) + bytes_claimed)
    file.unlink()
    with file.open("wb") as opened:
        opened.write(packed(header, data))
        if written:
            for _ in range(bytes_claimed // 4096):
                opened.write(bytes(4096))
        else:
            opened.truncate(opened.tell() + bytes_claimed)


def turn_into_pickle(file: Path) -> Path:
    """Stores the tensors of a safetensors file as a pickle that loads as well as they did; returns its path."""
    import torch
    from safetensors.torch import load_file

    pickled = file.with_name("pytorch_model.bin" if file.name == "model.safetensors" else f"{file.stem}.bin")
    torch.save(load_file(file), pickled)
    file.unlink()
    return pickled


_listening: list[list[str]] = []


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths of all files that Python opens meanwhile."""
    if not hasattr(opened_files, "hook"):
        # A hook cannot be taken off again, so there is one, which notes nothing while nobody listens.
        opened_files.hook = True  # type: ignore[attr-defined]
        sys.addaudithook(_note)
    paths: list[str] = []
    _listening.append(paths)
    try:
        yield paths
    finally:
        _listening.remove(paths)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        for paths in _listening:
            paths.append(str(arguments[0]))
