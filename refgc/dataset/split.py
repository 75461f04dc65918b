"""Training, validation and test, by object.

The split of an object follows from its id and a seed alone. Objects that come later move none of the earlier ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refgc.dataset.check import check_is_dataset, check_no_row_is_cut, leaks, open_tables, picture_uses
from refgc.dataset.lock import only_run
from refgc.dataset.manifest import PAIRS, TRIPLETS, Pair, Split, Triplet, read_rows, write_rows
from refgc.dataset.settings import read_toml
from refgc.errors import InputError, quoted

# The lists of a file that fixes objects. benchmarks/split.toml calls two of them by other names.
LISTS: Mapping[str, Split] = {
    "train": "train",
    "fit": "train",
    "validation": "validation",
    "test": "test",
    "held_out": "test",
}


@dataclass(frozen=True, slots=True)
class SplitResult:
    """How a dataset was split.

    Attributes:
        objects: by split, how many objects it has.
        pairs: by split, how many pairs.
        moved: objects that stood in another split before.
        fixed: objects of the dataset that the file of fixed objects names.
    """

    objects: dict[str, int]
    pairs: dict[str, int]
    moved: int
    fixed: int


def split_of(object_id: str, *, test: float, validation: float, seed: int) -> Split:
    """The split of an object: a hash of its id and the seed, as a number from 0 to 1, against the shares."""
    digest = hashlib.sha256(f"{seed}:{object_id}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def split_dataset(
    root: Path,
    *,
    test: float = 0.1,
    validation: float = 0.05,
    seed: int = 0,
    fixed: Mapping[str, Split] | None = None,
) -> SplitResult:
    """Write the split of every object into pairs.jsonl, which is replaced whole or stays as it is.

    Args:
        root: folder of the dataset.
        test: share of the objects that are for the test, from 0 to 1. Of few objects the share can be another.
        validation: share of those for validation.
        seed: another one gives another split.
        fixed: splits of objects by their ids, whatever the hash says; see `read_fixed`.

    Raises:
        InputError: the shares make more than 1; objects of different splits have a picture in common; the last pair's
            line is cut off; the manifest cannot be read or written; or another run is at work in the folder.
    """
    if not (0 <= test <= 1 and 0 <= validation <= 1 and test + validation <= 1):
        raise InputError(
            f"The shares of test ({test:g}) and validation ({validation:g}) should lie between 0 and 1, and make no "
            "more than 1 together."
        )
    known = fixed or {}

    def split_pairs() -> Iterator[tuple[Pair, Split]]:
        for pair in read_rows(root / PAIRS, Pair):
            found = known.get(pair.object_id)
            yield pair, found or split_of(pair.object_id, test=test, validation=validation, seed=seed)

    check_is_dataset(root)
    # A run that adds pairs meanwhile would lose them.
    with only_run(root):
        check_no_row_is_cut(root / PAIRS)
        result = _refuse_leaks(root, split_pairs(), known)
        write_rows(root / PAIRS, (pair.model_copy(update={"split": split}) for pair, split in split_pairs()))
    return result


def read_fixed(path: Path) -> dict[str, Split]:
    """The splits of objects that a TOML file fixes, such as benchmarks/split.toml.

    It has lists of object ids that are called train (or fit), validation, and test (or held_out), in any table or in
    none.

    Raises:
        InputError: the file cannot be read, holds something else, or puts an object into two splits.
    """
    content = read_toml(path)
    fixed: dict[str, Split] = {}
    for key, names in _lists_in(content):
        if key not in LISTS or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(
                f"{quoted(key)} of {quoted(str(path))} is no list of object ids called {', '.join(LISTS)}; mend it."
            )
        for name in names:
            if fixed.setdefault(name, LISTS[key]) != LISTS[key]:
                raise InputError(f"{quoted(str(path))} puts {quoted(name)} into two splits; leave it in one.")
    return fixed


def _lists_in(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lists_in(value)
        else:
            yield key, value


def _refuse_leaks(root: Path, pairs: Iterator[tuple[Pair, Split]], fixed: Mapping[str, Split]) -> SplitResult:
    """What the split would be; refused where objects of different splits share a picture."""
    numbers = Counter[str]()
    with closing(open_tables()) as database:
        moved = set[str]()
        for pair, split in pairs:
            database.execute(
                "INSERT OR REPLACE INTO pairs (id, object, split) VALUES (?, ?, ?)", (pair.id, pair.object_id, split)
            )
            database.executemany("INSERT INTO uses VALUES (?, ?)", picture_uses(pair))
            numbers[split] += 1
            if pair.split not in (None, split):
                moved.add(pair.object_id)
        for triplet in read_rows(root / TRIPLETS, Triplet):
            database.execute("INSERT INTO uses VALUES (?, ?)", (triplet.lrgi.sha256, triplet.pair))
        leaking = list(leaks(database))
        if leaking:
            raise InputError(
                f"{leaking[0]} {len(leaking) - 1} more pictures are like it. Put such objects into one split with "
                "--fixed, or give them one object_id; nothing was changed."
            )
        query = "SELECT split, count(DISTINCT object) FROM pairs GROUP BY split"
        objects = dict(database.execute(query))
        named = sum(1 for (name,) in database.execute("SELECT DISTINCT object FROM pairs") if name in fixed)
    return SplitResult(objects=objects, pairs=dict(numbers), moved=len(moved), fixed=named)
