"""Checkpoints: the state of what is trained, never of the base, each written whole; the newest few are kept.

A checkpoint is a folder `step_00000500` with the adapter, the tensors of the state as torch.distributed.checkpoint
writes them (each process its own part), and `state.json` with all that is no tensor. It is written under another name
and renamed when it is complete, so that a checkpoint is either whole or not there. torch writes no checksums, so that
`state.json` also has the hashes of the tensors' files, and one of itself: what a disk has changed is not gone on from.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from refgc.errors import EngineError, InputError, quoted
from refgc.imaging.files import make_folder, write_whole
from refgc.model.sharding import is_first_process

FOLDER = "checkpoints"
TENSORS, STATE, ADAPTER = "tensors", "state.json", "adapter"
DRAFT = ".draft-"
NAME = re.compile(r"step_(\d{8})")


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    record: Mapping[str, Any],
    *,
    keep: int,
    write_adapter: Callable[[Path], None],
) -> Path:
    """Write a checkpoint; all processes have to call this.

    Args:
        folder: of the run.
        step: steps that were taken.
        tensors: of the state, by name. Of a tensor that is not sharded the first process writes its own.
        record: the rest of the state, as JSON can hold it.
        keep: how many of the newest checkpoints stay.
        write_adapter: writes the adapter into a folder; called by all processes.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: the disk is full. Earlier checkpoints are as they were.
    """
    made = folder / FOLDER / f"step_{step:08d}"
    draft = made.with_name(DRAFT + made.name)
    failure: Exception | None = None
    if is_first_process():
        make_folder(made.parent)
        _remove_drafts(made.parent)
    _wait()
    try:
        make_folder(draft)
        with _alone_or_not() as no_dist:
            save_tensors(dict(tensors), checkpoint_id=draft / TENSORS, no_dist=no_dist)
        write_adapter(draft / ADAPTER)
        if is_first_process():
            # Prodigy has a limit that is infinite, which Python's JSON writes and reads.
            # The first process coordinates the others, whose parts are on the disk when it gets here.
            whole = {"step": step, **record, "files": _hashes(draft / TENSORS)}
            write_whole(draft / STATE, json.dumps({**whole, "sha256": _digest(whole)}).encode())
    except (OSError, CheckpointException, InputError) as error:
        failure = _at(made, _cause(error))
    if _any_failed(failure):
        if is_first_process():
            shutil.rmtree(draft, ignore_errors=True)
        raise failure or EngineError("Another process could not write its part of a checkpoint; see what it says.")
    if is_first_process():
        if made.exists():
            shutil.rmtree(made)
        draft.rename(made)
        for old in checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    _wait()
    return made


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    if not (folder / FOLDER).is_dir():
        return []
    return sorted(one for one in (folder / FOLDER).iterdir() if NAME.fullmatch(one.name) and (one / STATE).is_file())


def read_record(checkpoint: Path) -> dict[str, Any]:
    """What is no tensor in a checkpoint's state.

    Raises:
        InputError: it cannot be read, or was changed after it was written.
    """
    try:
        record = json.loads((checkpoint / STATE).read_bytes())
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise ValueError("it names no step")
        if record.pop("sha256", None) != _digest(record):
            raise ValueError(f"{STATE} was changed")
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint, error) from error
    return record


def read_tensors(checkpoint: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint; all processes have to call this, and each gets its own part.

    Args:
        checkpoint: its folder.
        like: for the start of a name, a tensor that those of this name are sharded like, where they have its shape:
            an optimiser's averages lie like their parameter. Others are read whole, on the CPU.

    Raises:
        InputError: it is damaged.
    """
    files = read_record(checkpoint)["files"]
    try:
        if changed := sorted(files.items() ^ _hashes(checkpoint / TENSORS).items()):
            raise ValueError(f"{changed[0][0]} is not as it was written")
        metadata = FileSystemReader(checkpoint / TENSORS).read_metadata()
        found = {
            name: _empty(entry, _model_of(name, like))
            for name, entry in metadata.state_dict_metadata.items()
            if isinstance(entry, TensorStorageMetadata)
        }
        with _alone_or_not() as no_dist:
            load_tensors(found, checkpoint_id=checkpoint / TENSORS, no_dist=no_dist)
    except (OSError, CheckpointException, ValueError, RuntimeError, EOFError) as error:
        raise _damaged(checkpoint, _cause(error)) from error
    return found


def optimiser_state(optimiser: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors by name, "optimiser.3.exp_avg" of parameter 3, and as what JSON can hold."""
    content = optimiser.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for number, state in content["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{number}.{name}"] = value
            else:
                values.setdefault(str(number), {})[name] = value
    groups = [
        {name: value.item() if isinstance(value, Tensor) else value for name, value in group.items()}
        for group in content["param_groups"]
    ]
    return tensors, {"values": values, "groups": groups}


def load_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Puts back what `optimiser_state` gave."""
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in record["values"].items()}
    for full_name, tensor in tensors.items():
        kind, _, rest = full_name.partition(".")
        if kind == "optimiser":
            number, _, name = rest.partition(".")
            state.setdefault(int(number), {})[name] = tensor
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()}
        for group in record["groups"]
    ]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder, by its name."""
    found: dict[str, str] = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as opened:
            found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def _digest(record: Mapping[str, Any]) -> str:
    """The SHA-256 of what JSON holds, which is the same before it is written and after it is read."""
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def _empty(entry: TensorStorageMetadata, like: Tensor | None) -> Tensor:
    dtype = entry.properties.dtype
    if isinstance(like, DTensor) and like.shape == entry.size:
        return torch.empty_like(like, dtype=dtype)
    return torch.empty(entry.size, dtype=dtype)


def _model_of(name: str, like: Mapping[str, Tensor]) -> Tensor | None:
    return like.get(name) if name in like else like.get(name.rpartition(".")[0])


def _damaged(checkpoint: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return InputError(
        f"The checkpoint {quoted(str(checkpoint))} is damaged ({reason}); delete it, and the run goes on from the one "
        "before."
    )


def _cause(error: BaseException) -> Exception:
    """The first error of a process, of those that torch.distributed.checkpoint has collected."""
    if isinstance(error, CheckpointException):
        for found, _ in error.failures.values():
            if isinstance(found, Exception):
                return found
    return error if isinstance(error, Exception) else EngineError(str(error))


def _at(checkpoint: Path, error: Exception) -> Exception:
    """The error with a place; torch's own writer names none."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        return OSError(error.errno, error.strerror, str(checkpoint))
    return error


def _remove_drafts(folder: Path) -> None:
    for draft in folder.glob(f"{DRAFT}*"):
        with suppress(OSError):
            shutil.rmtree(draft)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


@contextmanager
def _alone_or_not() -> Iterator[bool]:
    """Whether this is the only process; torch then warns of what is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield not _several()


def _wait() -> None:
    if _several():
        distributed.barrier()


def _any_failed(failure: Exception | None) -> bool:
    """Whether any process has failed; all have to call this."""
    if not _several():
        return failure is not None
    failed: list[bool] = [False] * distributed.get_world_size()
    distributed.all_gather_object(failed, failure is not None)
    return any(failed)
