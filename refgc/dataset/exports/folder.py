"""A folder that `datasets.load_dataset` reads: parquet files with the pictures inside, and a dataset card.

Parquet and not loose pictures, because the Hugging Face Hub and most file systems take a few large files far better
than a million small ones.
"""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

from refgc.dataset.exports.card import CARD, dataset_card
from refgc.dataset.exports.shards import ExportResult, check_installed, record_of, write_shards
from refgc.dataset.rows import FILE_NAMES, Entry, check_some_entries, read_entries
from refgc.dataset.store import file_content
from refgc.engine import Progress, no_progress
from refgc.imaging.files import write_whole

DATA = "data"
# A shard is made in memory; of pictures of 1024 pixels it has about half a gigabyte. Chosen by hand.
ROWS_PER_SHARD = 100
# Rows that a reader has to load together. Chosen by hand.
ROWS_PER_GROUP = 10


def export_folder(
    root: Path,
    output: Path,
    *,
    unreviewed: bool = False,
    rows_per_shard: int = ROWS_PER_SHARD,
    repository: str | None = None,
    progress: Progress = no_progress,
) -> ExportResult:
    """Write the dataset as parquet files with a card.

    Args:
        root: folder of the dataset.
        output: folder that `datasets.load_dataset` is given; made where it does not exist.
        unreviewed: take rows that nobody has looked at.
        rows_per_shard: at most.
        repository: where the folder is to be published; the card names it. None for a folder that stays.
        progress: told of each shard.

    Raises:
        InputError: a library is missing, nothing can be exported, a file is missing or
            damaged, or the folder cannot be written.
    """
    check_installed("datasets", "huggingface_hub", "pyarrow")
    check_some_entries(root, unreviewed=unreviewed)
    result = write_shards(
        output / DATA,
        read_entries(root, unreviewed=unreviewed),
        lambda entries: _parquet(root, entries),
        suffix="parquet",
        rows_per_shard=rows_per_shard,
        progress=progress,
    )
    write_card(root, output, unreviewed=unreviewed, repository=repository)
    return result


def write_card(root: Path, output: Path, *, unreviewed: bool, repository: str | None = None) -> None:
    """Write the dataset card alone; see `export_folder`."""
    entries = read_entries(root, unreviewed=unreviewed)
    if repository is None:
        card = dataset_card(entries, name=root.resolve().name)
    else:
        card = dataset_card(entries, name=repository.rpartition("/")[2], address=repository)
    write_whole(output / CARD, card.encode())


def _parquet(root: Path, entries: list[Entry]) -> bytes:
    import pyarrow as pa
    from datasets import Features, Image, Value
    from pyarrow import parquet

    texts = {name: Value("bool" if name == "simulated" else "string") for name in _told(entries[0])}
    features = Features({**texts, **{name: Image() for name in FILE_NAMES}})
    schema = features.arrow_schema
    sink = io.BytesIO()
    # Chunks that follow the content let the Hub keep what two versions of a file have in common once.
    with parquet.ParquetWriter(sink, schema, use_content_defined_chunking=True, write_page_index=True) as writer:
        remaining = iter(entries)
        while group := list(itertools.islice(remaining, ROWS_PER_GROUP)):
            rows = [{**_told(entry), **_pictures(root, entry)} for entry in group]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return sink.getvalue()


def _told(entry: Entry) -> dict[str, str | bool | None]:
    """The columns beside the pictures; `row` has all that the manifest says, as JSON."""
    pair, made = entry.pair, None if entry.triplet is None else entry.triplet.made
    return {
        "id": entry.id,
        "object_id": pair.object_id,
        "object_name": pair.object_name,
        "category": pair.category,
        "caption": pair.caption,
        "source": pair.source.name,
        "licence": pair.source.licence,
        "generator": None if made is None else made.generator,
        "task": None if made is None else made.task,
        "simulated": None if made is None else made.simulated,
        "verdict": entry.decision,
        "row": json.dumps(record_of(entry), ensure_ascii=False),
    }


def _pictures(root: Path, entry: Entry) -> dict[str, Any]:
    files = entry.files()
    return {
        name: {"bytes": file_content(root, files[name]), "path": f"{files[name].sha256}.png"} if name in files else None
        for name in FILE_NAMES
    }
