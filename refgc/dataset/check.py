"""Whether a dataset is sound, and what is in it."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, Field, computed_field

from refgc.dataset.corrections import CORRECTIONS, Correction
from refgc.dataset.manifest import (
    PAIRS,
    REJECTIONS,
    TRIPLETS,
    ObjectView,
    Pair,
    Rejection,
    StoredFile,
    Triplet,
    read_rows,
)
from refgc.dataset.store import FOLDER, load_image
from refgc.dataset.verdicts import read_decisions
from refgc.engine import Progress, no_progress
from refgc.errors import InputError, quoted
from refgc.imaging.journal import has_cut_line

# Sentences that are kept of each kind of fault. Chosen by hand: enough to see what went wrong.
SHOWN = 20
# Files that are looked at between two reports of progress, by all threads together.
BATCH = 256
# From this level on a pixel of a mask belongs to the object.
MARKED = 128

FaultKind: TypeAlias = Literal[
    "unreadable row",
    "missing file",
    "damaged file",
    "bad mask",
    "duplicate id",
    "duplicate picture",
    "unknown pair",
    "leak",
]


class Faults(BaseModel):
    """Faults of one kind.

    Attributes:
        kind: what they have in common.
        count: how many there are.
        first: a sentence on each of the first `SHOWN`.
    """

    kind: FaultKind
    count: int = 0
    first: list[str] = []


class Summary(BaseModel):
    """What is in a dataset, and what is wrong with it.

    Attributes:
        pairs: rows of pairs.jsonl that could be read.
        triplets: rows of triplets.jsonl that could be read.
        rejections: rows of rejections.jsonl.
        objects: different objects.
        files: different files that the rows and corrections name.
        mended: masks that a person mended, those that were mended again among them.
        categories: pairs of each category.
        sources: pairs of each collection.
        licences: pairs of each licence; "unknown" where nobody said.
        splits: pairs of each split; "unsplit" before `refgc dataset split`.
        pair_verdicts: pairs by what becomes of them; see `refgc.dataset.verdicts.verdict_of`.
        triplet_verdicts: triplets likewise.
        generators: triplets of each generator.
        simulated_share: triplets that no generative model took part in, over all; None without triplets.
        orphans: files that no row and no correction names. They are no fault: a row may have been deleted by hand.
        first_orphans: the first `SHOWN` of them.
        faults: by kind; kinds without a fault are left out.
    """

    pairs: int = 0
    triplets: int = 0
    rejections: int = 0
    objects: int = 0
    files: int = 0
    mended: int = 0
    categories: dict[str, int] = {}
    sources: dict[str, int] = {}
    licences: dict[str, int] = {}
    splits: dict[str, int] = {}
    pair_verdicts: dict[str, int] = {}
    triplet_verdicts: dict[str, int] = {}
    generators: dict[str, int] = {}
    simulated_share: float | None = Field(default=None, ge=0.0, le=1.0)
    orphans: int = 0
    first_orphans: list[str] = []
    faults: list[Faults] = []

    @computed_field  # type: ignore[prop-decorator] # as pydantic documents it
    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return not self.faults


def check_dataset(root: Path, *, quick: bool = False, progress: Progress = no_progress) -> Summary:
    """Read the whole manifest and every file that it names.

    Rows are read one after the other. What has to be compared across rows lies in a temporary SQLite database, which
    goes to the disk where it grows large, so that memory does not limit the number of rows.

    Args:
        root: folder of the dataset.
        quick: only look whether the files are there; neither hashes nor masks are checked.
        progress: told of the stages "rows" and "files".

    Raises:
        InputError: there is no dataset, or a file of its manifest cannot be read at all.
    """
    check_is_dataset(root)
    faults = _FaultList()
    with closing(open_tables()) as database:
        progress("rows", 0.0)
        summary = _read(root, database, faults)
        for sentence in leaks(database):
            faults.add("leak", sentence)
        for digest, one, other in database.execute(SHARED_PICTURES):
            sentence = f"The picture {digest} belongs to {quoted(one)} and to {quoted(other)}."
            faults.add("duplicate picture", sentence)
        _look_at_files(root, database, faults, quick=quick, progress=progress)
        summary.orphans, summary.first_orphans = _orphans(root, database)
    summary.faults = faults.listed()
    return summary


def check_is_dataset(root: Path) -> None:
    """Refuses a folder without a manifest.

    Raises:
        InputError: it has no pairs.
    """
    if not (root / PAIRS).is_file():
        raise InputError(
            f"There is no dataset in {quoted(str(root))}: it has no {PAIRS}; give the folder that has one."
        )


def check_no_row_is_cut(path: Path) -> None:
    """Refuses a file of the manifest whose last line is cut off, of which a row is lost where others are written anew.

    Raises:
        InputError: it is, or the file cannot be read.
    """
    if has_cut_line(path):
        raise InputError(
            f"The last line of {quoted(str(path))} is cut off; repeat the command that made its rows, which makes "
            "this one again, or delete the line."
        )


TABLES = """
    CREATE TABLE pairs (
        id TEXT PRIMARY KEY, object TEXT, split TEXT, hrri_size TEXT, hrgt_size TEXT
    ) WITHOUT ROWID;
    CREATE TABLE triplets (id TEXT PRIMARY KEY, pair TEXT) WITHOUT ROWID;
    CREATE TABLE uses (digest TEXT, pair TEXT);
    CREATE INDEX by_digest ON uses (digest);
    CREATE TABLE files (
        path TEXT, digest TEXT, width INTEGER, height INTEGER, is_mask INTEGER, row TEXT,
        PRIMARY KEY (path, digest, width, height, is_mask)
    ) WITHOUT ROWID;
"""
SHARED_PICTURES = """
    SELECT digest, min(object), max(object) FROM uses JOIN pairs ON pairs.id = uses.pair
    GROUP BY digest HAVING min(object) <> max(object)
"""
DIVIDED_OBJECTS = """
    SELECT object, min(split), max(split) FROM pairs GROUP BY object HAVING min(split) <> max(split)
"""
DIVIDED_PICTURES = """
    SELECT digest, min(split), max(split), min(object), max(object) FROM uses JOIN pairs ON pairs.id = uses.pair
    GROUP BY digest HAVING min(split) <> max(split) AND min(object) <> max(object)
"""
UNKNOWN_PAIRS = "SELECT id, pair FROM triplets WHERE pair NOT IN (SELECT id FROM pairs)"
CLASHES = "SELECT id FROM triplets WHERE id IN (SELECT id FROM pairs)"


def open_tables() -> sqlite3.Connection:
    """An empty database of what has to be compared across rows.

    It has no name: SQLite keeps it in memory while it is small, and deletes it when it is closed.
    """
    database = sqlite3.connect("")
    database.executescript(TABLES)
    return database


def leaks(database: sqlite3.Connection) -> Iterator[str]:
    """A sentence on each object, and on each picture of two objects, that stands in two splits."""
    for name, one, other in database.execute(DIVIDED_OBJECTS):
        yield f"The object {quoted(name)} stands in {one} and in {other}."
    for digest, one, other, first, second in database.execute(DIVIDED_PICTURES):
        yield (
            f"The picture {digest} stands in {one} and in {other}: it belongs to the objects {quoted(first)} and "
            f"{quoted(second)}."
        )


def picture_uses(pair: Pair) -> list[tuple[str, str]]:
    """Digest and pair of a pair's two pictures."""
    return [(view.picture.sha256, pair.id) for view in (pair.hrri, pair.hrgt)]


class _Use(NamedTuple):
    """A file as a row names it; the columns of the table of files."""

    path: str
    digest: str
    width: int
    height: int
    is_mask: bool
    row: str


@dataclass(slots=True)
class _FaultList:
    """Faults by kind, in the order in which the kinds were first seen."""

    kinds: dict[FaultKind, Faults]

    def __init__(self) -> None:
        self.kinds = {}

    def add(self, kind: FaultKind, sentence: str) -> None:
        faults = self.kinds.setdefault(kind, Faults(kind=kind, first=[]))
        faults.count += 1
        if faults.count <= SHOWN:
            faults.first.append(sentence)

    def unreadable(self, error: InputError) -> None:
        self.add("unreadable row", str(error))

    def listed(self) -> list[Faults]:
        return list(self.kinds.values())


def _read(root: Path, database: sqlite3.Connection, faults: _FaultList) -> Summary:
    # What a person or a run was about to add to the other files was not yet given.
    for name in (PAIRS, TRIPLETS):
        try:
            check_no_row_is_cut(root / name)
        except InputError as error:
            faults.unreadable(error)
    said = read_decisions(root, faults.unreadable)
    categories, sources, licences, splits, pair_verdicts = (Counter[str]() for _ in range(5))
    for pair in read_rows(root / PAIRS, Pair, faults.unreadable):
        _note_pair(database, pair, faults)
        categories[pair.category] += 1
        sources[pair.source.name] += 1
        licences[pair.source.licence or "unknown"] += 1
        splits[pair.split or "unsplit"] += 1
        pair_verdicts[said.get(pair.id, "unreviewed")] += 1
    generators, triplet_verdicts, simulated = Counter[str](), Counter[str](), 0
    for triplet in read_rows(root / TRIPLETS, Triplet, faults.unreadable):
        _note_triplet(database, triplet, faults)
        generators[triplet.made.generator] += 1
        triplet_verdicts[said.get(triplet.id, "unreviewed")] += 1
        simulated += triplet.made.simulated
    mended = 0
    for correction in read_rows(root / CORRECTIONS, Correction, faults.unreadable):
        _note_correction(database, correction, faults)
        mended += 1
    for (name,) in database.execute(CLASHES):
        faults.add("duplicate id", f"The id {quoted(name)} is that of a pair and of a triplet.")
    for name, pair_id in database.execute(UNKNOWN_PAIRS):
        faults.add("unknown pair", f"The triplet {quoted(name)} is of the pair {quoted(pair_id)}, which is not there.")
    return Summary(
        pairs=categories.total(),
        triplets=generators.total(),
        rejections=sum(1 for _ in read_rows(root / REJECTIONS, Rejection, faults.unreadable)),
        objects=_number(database, "SELECT count(DISTINCT object) FROM pairs"),
        files=_number(database, "SELECT count(DISTINCT path) FROM files"),
        mended=mended,
        categories=_sorted(categories),
        sources=_sorted(sources),
        licences=_sorted(licences),
        splits=_sorted(splits),
        pair_verdicts=_sorted(pair_verdicts),
        triplet_verdicts=_sorted(triplet_verdicts),
        generators=_sorted(generators),
        simulated_share=simulated / generators.total() if generators else None,
    )


def _note_pair(database: sqlite3.Connection, pair: Pair, faults: _FaultList) -> None:
    values = (pair.id, pair.object_id, pair.split, _size_of(pair.hrri.picture), _size_of(pair.hrgt.picture))
    if not database.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?, ?)", values).rowcount:
        faults.add("duplicate id", f"The id {quoted(pair.id)} is that of two pairs.")
    for name, view in (("HRRI", pair.hrri), ("HRGT", pair.hrgt)):
        if (view.mask.width, view.mask.height) != (view.picture.width, view.picture.height):
            faults.add("bad mask", f"The mask of the {name} of {quoted(pair.id)} has another size than its picture.")
    _note_files(database, [use for view in (pair.hrri, pair.hrgt) for use in _uses_of_view(view, pair.id)])
    database.executemany("INSERT INTO uses VALUES (?, ?)", picture_uses(pair))


def _note_triplet(database: sqlite3.Connection, triplet: Triplet, faults: _FaultList) -> None:
    if not database.execute("INSERT OR IGNORE INTO triplets VALUES (?, ?)", (triplet.id, triplet.pair)).rowcount:
        faults.add("duplicate id", f"The id {quoted(triplet.id)} is that of two triplets.")
    files = [triplet.lrgi] if triplet.lrgi_panel is None else [triplet.lrgi, triplet.lrgi_panel]
    _note_files(database, [_use(file, triplet.id) for file in files])
    database.execute("INSERT INTO uses VALUES (?, ?)", (triplet.lrgi.sha256, triplet.pair))


def _note_correction(database: sqlite3.Connection, correction: Correction, faults: _FaultList) -> None:
    """Every one, also where a later one has taken its place: what people drew is kept."""
    mask, name = correction.mask, correction.view.upper()
    query = f"SELECT {correction.view}_size FROM pairs WHERE id = ?"
    found = database.execute(query, (correction.row,)).fetchone()
    if found is None:
        faults.add("unknown pair", f"A mended mask is of the pair {quoted(correction.row)}, which is not there.")
    elif found[0] != _size_of(mask):
        faults.add(
            "bad mask", f"The mended mask of the {name} of {quoted(correction.row)} has another size than its picture."
        )
    _note_files(database, [_use(mask, correction.row, is_mask=True)])


def _size_of(file: StoredFile) -> str:
    return f"{file.width}x{file.height}"


def _uses_of_view(view: ObjectView, row: str) -> list[_Use]:
    return [_use(view.picture, row), _use(view.mask, row, is_mask=True)]


def _use(file: StoredFile, row: str, *, is_mask: bool = False) -> _Use:
    return _Use(file.path, file.sha256, file.width, file.height, is_mask, row)


def _note_files(database: sqlite3.Connection, uses: Iterable[_Use]) -> None:
    database.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?)", uses)


def _look_at_files(
    root: Path, database: sqlite3.Connection, faults: _FaultList, *, quick: bool, progress: Progress
) -> None:
    total, done = _number(database, "SELECT count(*) FROM files"), 0
    found = database.execute("SELECT * FROM files")
    look = partial(_file_fault, root, quick=quick)
    with ThreadPoolExecutor() as threads:
        while batch := [_Use(*values) for values in found.fetchmany(BATCH)]:
            progress("files", done / total)
            for fault in threads.map(look, batch):
                if fault is not None:
                    faults.add(*fault)
            done += len(batch)


def _file_fault(root: Path, use: _Use, *, quick: bool) -> tuple[FaultKind, str] | None:
    """What is wrong with a file; None where nothing is."""
    named = f"{quoted(use.path)}, which {quoted(use.row)} names,"
    if not (root / use.path).is_file():
        return "missing file", f"{named} is not there."
    if quick:
        return None
    try:
        image = load_image(root, StoredFile(path=use.path, sha256=use.digest, width=use.width, height=use.height))
    except InputError as error:
        return "damaged file", f"{error} The row is {quoted(use.row)}."
    if use.is_mask and image.pixels.max() < MARKED:
        return "bad mask", f"{named} marks nothing."
    return None


def _orphans(root: Path, database: sqlite3.Connection) -> tuple[int, list[str]]:
    """How many files no row and no correction names, and the first of them by name."""
    count, first = 0, list[str]()
    for folder, folders, names in os.walk(root / FOLDER):
        folders.sort()
        for name in sorted(names):
            path = (Path(folder) / name).relative_to(root).as_posix()
            if not _number(database, "SELECT count(*) FROM files WHERE path = ?", path):
                count += 1
                first += [path] if count <= SHOWN else []
    return count, first


def _number(database: sqlite3.Connection, query: str, *values: str) -> int:
    return int(database.execute(query, values).fetchone()[0])


def _sorted(counter: Counter[str]) -> dict[str, int]:
    """The most frequent first, and by name where two are as frequent."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
