"""Files with weights: what may be read of a folder, and safetensors headers, checked before any tensor is read.

Only safetensors files are read. A pickle (.bin, .pt, .pth, .ckpt) can run any program while it is read, so none is ever
opened. A safetensors file is 8 bytes with the length of its header, the header in JSON (name, dtype, shape and place of
each tensor), and the tensors: https://github.com/huggingface/safetensors#format. Its header alone says how much memory
the tensors would take and whether they fit a network.

Nothing here imports torch or safetensors, and transformers only where it is given a network of it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from refgc.errors import InputError

LENGTH_BYTES = 8
# The largest header that is read. That of T5-XXL or of a shard of FLUX.1 takes less than 0.2 MB. Chosen by hand.
MAX_HEADER_BYTES = 8_000_000
# The largest config or index that is read. Chosen by hand; the index of FLUX.1's shards takes 0.1 MB.
MAX_CONFIG_BYTES = 4_000_000
# The least share of a file that must have been written to the disk. Where nothing was written (a hole of a sparse file,
# or zeros on a file system that stores none), zeros are read. Experts that were never trained are zeros by half. Chosen
# by hand.
MIN_WRITTEN_SHARE = 0.25
# Bits of a value by the name of its dtype in a header.
DTYPE_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
# Dtypes in which the factors of an adapter are stored.
ADAPTER_DTYPES = ("F64", "F32", "F16", "BF16")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


class WeightFileError(ValueError):
    """A safetensors file whose header does not match it; `str(error)` is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a header says about one tensor.

    Attributes:
        dtype: its name in the header, such as "BF16".
        shape: of the tensor.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def is_floating(self) -> bool:
        """Whether the values are real numbers."""
        return self.dtype.startswith(("F", "BF"))


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one safetensors file.

    Attributes:
        tensors: by name.
        metadata: notes of the program that wrote it.
    """

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def read_header(file: Path) -> Header:
    """Reads the header of a safetensors file, and no tensor.

    Raises:
        WeightFileError: the header cannot be read, its tensors overlap or do not fill the file, or most of the file was
            never written to the disk.
        OSError: the file cannot be read.
    """
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        if not 2 <= length <= min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
            raise WeightFileError("its header has an impossible length")
        header = opened.read(length)
        written = _written_bytes(opened.fileno(), size)
    tensors, metadata = _parsed(header, size - LENGTH_BYTES - length)
    if written < MIN_WRITTEN_SHARE * size:
        raise WeightFileError(f"only {written} of its {size} bytes were ever written to the disk")
    return Header(tensors, metadata)


def network_files(folder: Path, stem: str, variant: str | None = None) -> list[list[Path]]:
    """The safetensors files that a network may be read from: one file, or the shards that an index lists.

    Where there is a file and an index as well, libraries differ in which of them they take, so both are listed.

    Args:
        folder: of the network alone.
        stem: "diffusion_pytorch_model" as diffusers saves a network, or "model" as transformers does.
        variant: of the files, such as "fp16"; where there are no files of it, those without a variant.

    Raises:
        WeightFileError: there are none, there are pickles only, or the index cannot be read.
    """
    for ending in (f".{variant}", "") if variant else ("",):
        file, index = folder / f"{stem}{ending}.safetensors", folder / f"{stem}.safetensors.index{ending}.json"
        found = [[file]] if file.is_file() else []
        if index.is_file():
            found.append(_shards(index))
        if found:
            return found
    raise WeightFileError(only_pickles(folder) or f"there is no {stem}.safetensors in {folder.name}")


def only_pickles(folder: Path) -> str:
    """A phrase that says that a folder holds its weights as pickles only; empty where it does not."""
    if any(folder.glob("*.safetensors")):
        return ""
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if not pickles:
        return ""
    return f"{pickles[0]} is a pickle, which can run any program when it is read, and there is no safetensors file"


def network_tensors(folder: Path, stem: str, variant: str | None = None) -> list[dict[str, TensorEntry]]:
    """What the headers of each of `network_files` say; its arguments and errors."""
    return [_tensors_of(files) for files in network_files(folder, stem, variant)]


def check_tensors(
    tensors: Mapping[str, TensorEntry], expected: Mapping[str, tuple[tuple[int, ...], bool]], part: str
) -> None:
    """Compares the tensors of a network's files with those that the network needs.

    Args:
        tensors: one of `network_tensors`.
        expected: shape of each tensor, and whether its values are real numbers.
        part: what the network is of a model, for the error phrase.

    Raises:
        WeightFileError: they differ in a name, a shape or the kind of dtype.
    """
    if missing := expected.keys() - tensors.keys():
        raise WeightFileError(f"{min(missing)} is missing from the files of its {part}")
    if unexpected := tensors.keys() - expected.keys():
        raise WeightFileError(f"the files of its {part} hold {min(unexpected)}, which it does not have")
    for name, (shape, is_floating) in expected.items():
        _check_tensor(name, tensors[name], shape, is_floating, part)


def check_transformers_network(folder: Path, network: Any, part: str, variant: str | None = None) -> None:
    """Compares a network of transformers, as its config describes it, with its files.

    Names in a file are not always those of the network, and transformers alone knows how they are renamed. So it loads
    the network on the meta device, where no tensor is read, and its report is looked at. Tensors that the network does
    not know are never read and may be there.

    Args:
        folder: of the network.
        network: its class.
        part: what the network is of a model, for the error phrase.
        variant: as for `network_files`.

    Raises:
        WeightFileError: as for `network_files`, or the files do not fit the network.
        OSError: a file cannot be read.
    """
    stored = network_tensors(folder, "model", variant)
    has_variant = variant is not None and any(folder.glob(f"model*.{variant}.*"))
    with quiet_transformers():
        empty, report = network.from_pretrained(
            folder,
            device_map="meta",
            ignore_mismatched_sizes=True,
            local_files_only=True,
            output_loading_info=True,
            use_safetensors=True,
            variant=variant if has_variant else None,
        )
    if report["missing_keys"]:
        raise WeightFileError(f"{min(report['missing_keys'])} is missing from the files of its {part}")
    for name, found, wanted in sorted(report["mismatched_keys"]):
        _check_tensor(name, TensorEntry("F32", tuple(found)), tuple(wanted), True, part)
    floating = tuple(f".{name}" for name, tensor in empty.state_dict().items() if tensor.is_floating_point())
    for name, entry in ((name, entry) for tensors in stored for name, entry in tensors.items()):
        if not entry.is_floating and f".{name}".endswith(floating):
            _check_tensor(name, entry, entry.shape, True, part)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the progress bars and reports that transformers writes while it loads a network."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def own_file(folder: Path, name: str, label: str) -> Path:
    """A file of an adapter's folder, which no link may lead out of it; it need not exist.

    The cache of the Hugging Face Hub keeps a repository's files in its folder "blobs" and links to them from
    "snapshots/<revision>". Such links stay inside of the repository, and are followed.

    Args:
        folder: of the adapter.
        name: of the file, relative to the folder.
        label: what the folder is, for the error sentence, such as "The adapter 'user/adapter'".

    Raises:
        InputError: the file, or a folder on the way to it, is a link to somewhere else.
    """
    file = folder / name
    root, target = Path(os.path.realpath(folder)), Path(os.path.realpath(file))
    if target.is_relative_to(root) or any(target.is_relative_to(blobs) for blobs in _blobs_of(root)):
        return file
    raise InputError(f"{label} has a link to a place outside of its folder, {name}; put the file itself there.")


def read_config(file: Path) -> bytes:
    """The bytes of a config or an index.

    Raises:
        WeightFileError: it is too large to be one.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise WeightFileError(f"it has more than {MAX_CONFIG_BYTES} bytes")
    return content


def _blobs_of(root: Path) -> Iterator[Path]:
    """The folder with the files of a repository in the Hub's cache, where `root` lies in one of its snapshots."""
    for folder in (root, *root.parents):
        if folder.parent.name == "snapshots":
            yield folder.parent.parent / "blobs"


def _written_bytes(descriptor: int, size: int) -> int:
    """How many bytes of an opened file lie on the disk; all of them where the system does not tell."""
    if not hasattr(os, "SEEK_DATA"):
        return size
    written = end = 0
    try:
        while end < size:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            written += end - start
    except OSError as error:
        # ENXIO: a hole up to the end. Otherwise the file system knows nothing of holes.
        return written if error.errno == errno.ENXIO else size
    return written


def _shards(index: Path) -> list[Path]:
    """The files that an index lists."""
    try:
        shards = set(json.loads(read_config(index))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightFileError(f"{index.name} is no index of safetensors files") from error
    if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
        raise WeightFileError(f"{index.name} lists files outside of its folder")
    return [index.with_name(shard) for shard in sorted(shards)]


def _tensors_of(files: Iterable[Path]) -> dict[str, TensorEntry]:
    """What the headers of a network's files say together."""
    tensors: dict[str, TensorEntry] = {}
    for file in files:
        try:
            tensors |= read_header(file).tensors
        except WeightFileError as error:
            raise WeightFileError(f"{file.name} is damaged or cut off: {error}") from error
    return tensors


def _check_tensor(name: str, entry: TensorEntry, shape: tuple[int, ...], is_floating: bool, part: str) -> None:
    if entry.shape != shape:
        raise WeightFileError(f"{name} of its {part} is {entry.shape} where its config needs {shape}")
    if entry.is_floating != is_floating:
        raise WeightFileError(f"{name} of its {part} is stored as {entry.dtype}")


def _parsed(header: bytes, data_bytes: int) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors and the metadata of a header, whose tensors must fill `data_bytes` without gaps."""
    try:
        content = json.loads(header, object_pairs_hook=_unique)
        metadata = content.pop("__metadata__", {})
        spans = {name: (_entry(value), *value["data_offsets"]) for name, value in content.items()}
        in_order = sorted(spans.values(), key=lambda span: span[1:])
    except WeightFileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightFileError("its header is no safetensors header") from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightFileError("its metadata is no list of texts")
    reached = 0
    for entry, start, end in in_order:
        bits = entry.size * DTYPE_BITS[entry.dtype]
        if type(start) is not int or start != reached or type(end) is not int or 8 * (end - start) != bits:
            raise WeightFileError("its tensors overlap, leave gaps or have other sizes than their shapes")
        reached = end
    if reached != data_bytes:
        raise WeightFileError(f"its tensors take {reached} bytes, and the file has {data_bytes} for them")
    return {name: entry for name, (entry, *_) in spans.items()}, metadata


def _entry(value: Mapping[str, Any]) -> TensorEntry:
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in DTYPE_BITS:
        raise WeightFileError(f"it has tensors of the unknown dtype {dtype!r}")
    if len(offsets) != 2 or any(type(side) is not int or side < 0 for side in shape):
        raise WeightFileError("its header has an impossible shape")
    return TensorEntry(dtype, tuple(shape))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, refused where it has a name twice, since readers differ in which of the two they take."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise WeightFileError("its header has a name twice")
    return content
