"""WebDataset: tar files that are read from one end to the other, as training on many machines wants them.

The members of a sample are KEY.hrri.png, KEY.hrri_mask.png, KEY.hrgt.png, KEY.hrgt_mask.png, KEY.lrgi.png,
KEY.lrgi_panel.png where there is one, and KEY.json with the rows of the manifest. The key is the row's id with "~" for
each dot, since the library `webdataset` ends a key at its first dot.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from refgc.dataset.exports.shards import ExportResult, record_of, write_shards
from refgc.dataset.rows import Entry, check_some_entries, read_entries
from refgc.dataset.store import file_content
from refgc.engine import Progress, no_progress
from refgc.imaging.journal import line_of

# Of pictures of 1024 pixels this makes about a gigabyte. Chosen by hand.
ROWS_PER_SHARD = 200


def export_webdataset(
    root: Path,
    output: Path,
    *,
    unreviewed: bool = False,
    rows_per_shard: int = ROWS_PER_SHARD,
    progress: Progress = no_progress,
) -> ExportResult:
    """Write the dataset as tar files; the same dataset gives the same bytes.

    Args:
        root: folder of the dataset.
        output: folder of the shards; made where it does not exist.
        unreviewed: take rows that nobody has looked at.
        rows_per_shard: at most.
        progress: told of each shard.

    Raises:
        InputError: nothing can be exported, a file is missing or damaged, or the folder cannot be written.
    """
    check_some_entries(root, unreviewed=unreviewed)
    return write_shards(
        output,
        read_entries(root, unreviewed=unreviewed),
        lambda entries: _tar(root, entries),
        suffix="tar",
        rows_per_shard=rows_per_shard,
        progress=progress,
    )


def _tar(root: Path, entries: list[Entry]) -> Iterator[bytes]:
    """A tar file in pieces. Owner and times are left out, so that they do not change its bytes."""
    for entry in entries:
        key = entry.id.replace(".", "~")
        for name, file in entry.files().items():
            yield from _member(f"{key}.{name}.png", file_content(root, file))
        yield from _member(f"{key}.json", line_of(record_of(entry)))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, content: bytes) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    yield header.tobuf(tarfile.GNU_FORMAT)
    yield content
    yield bytes(-len(content) % tarfile.BLOCKSIZE)
