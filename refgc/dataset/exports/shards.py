"""Exports in shards: files of some hundred rows each, written whole, and kept where nothing in them changed.

Beside the shards lies `shards.jsonl`, which says what each shard was made of. An export that was cut off goes on after
the last whole shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refgc.dataset.manifest import Row
from refgc.dataset.rows import Entry
from refgc.engine import Progress, no_progress
from refgc.errors import InputError
from refgc.imaging.files import make_folder, write_whole
from refgc.imaging.journal import append_line, line_of, read_lines
from refgc.machine import is_importable

RECORDS = "shards.jsonl"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        rows: in the whole export, by split.
        written: shards, or samples where there are no shards, that were written now.
        kept: those that were there already.
    """

    rows: dict[str, int]
    written: int
    kept: int


class _Record(Row):
    """A line of `shards.jsonl`; of several lines on one shard the last holds.

    Attributes:
        name: of the shard.
        rows: how many it has.
        key: SHA-256 of the rows, which name their files by hash.
        size: of the shard in bytes; -1 where the shard was removed.
    """

    name: str
    rows: int
    key: str
    size: int


def record_of(entry: Entry) -> dict[str, Any]:
    """All that the manifest says of an entry, as it stands in an export."""
    return {
        "id": entry.id,
        "split": entry.split,
        "verdict": entry.decision,
        "pair": entry.pair.model_dump(mode="json"),
        "triplet": None if entry.triplet is None else entry.triplet.model_dump(mode="json"),
    }


def check_installed(*modules: str) -> None:
    """Refuses an export whose libraries are missing.

    Raises:
        InputError: one of the modules cannot be imported here.
    """
    absent = [module for module in modules if not is_importable(module)]
    if absent:
        raise InputError(f"The export needs {', '.join(absent)}: pip install '.[dataset]' in the project's folder.")


def write_shards(
    folder: Path,
    entries: Iterable[Entry],
    content_of: Callable[[list[Entry]], bytes | Iterable[bytes]],
    *,
    suffix: str,
    rows_per_shard: int,
    progress: Progress = no_progress,
) -> ExportResult:
    """Write shards called SPLIT-NUMBER.suffix, in the order of the entries.

    Args:
        folder: of the shards.
        entries: all that is to be exported.
        content_of: the bytes of a shard with some entries.
        suffix: of the files, without a dot.
        rows_per_shard: at most.
        progress: told of the stage "shards"; how many there will be is not known before.

    Raises:
        InputError: a file of the dataset is missing or damaged, or the folder cannot be written.
    """
    if rows_per_shard < 1:
        raise InputError(f"A shard cannot have {rows_per_shard} rows; give 1 or more.")
    make_folder(folder)
    before = {record.name: record for record in map(_Record.model_validate, read_lines(folder / RECORDS))}
    rows, names, written = dict[str, int](), set[str](), 0
    for split, number, chunk in _chunks(entries, rows_per_shard):
        name = f"{split}-{number:06d}.{suffix}"
        progress(f"shard {name}", 0.0)
        key = hashlib.sha256(b"".join(line_of(record_of(entry)) for entry in chunk)).hexdigest()
        if not _is_kept(folder, before.get(name), name, key):
            write_whole(folder / name, content_of(chunk))
            size = (folder / name).stat().st_size
            append_line(folder / RECORDS, _Record(name=name, rows=len(chunk), key=key, size=size).model_dump())
            written += 1
        rows[split] = rows.get(split, 0) + len(chunk)
        names.add(name)
    for name, record in before.items():
        if name not in names and record.size >= 0:
            (folder / Path(name).name).unlink(missing_ok=True)
            append_line(folder / RECORDS, record.model_copy(update={"size": -1}).model_dump())
    return ExportResult(rows, written, len(names) - written)


def _is_kept(folder: Path, record: _Record | None, name: str, key: str) -> bool:
    path = folder / name
    return record is not None and record.key == key and path.is_file() and path.stat().st_size == record.size


def _chunks(entries: Iterable[Entry], most: int) -> Iterator[tuple[str, int, list[Entry]]]:
    """Split, number of the shard in its split, and its entries; one unfinished shard a split is in memory."""
    waiting, numbers = dict[str, list[Entry]](), dict[str, int]()
    for entry in entries:
        chunk = waiting.setdefault(entry.split, [])
        chunk.append(entry)
        if len(chunk) == most:
            yield entry.split, numbers.get(entry.split, 0), waiting.pop(entry.split)
            numbers[entry.split] = numbers.get(entry.split, 0) + 1
    for split, chunk in sorted(waiting.items()):
        yield split, numbers.get(split, 0), chunk
