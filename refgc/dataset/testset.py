"""Frozen sets of cases to measure on: the test split of a dataset, and pictures of named generators from anywhere.

A set is a folder:

    benchmark.json   a `Benchmark`: kind, numbers, and the SHA-256 of the list
    cases.jsonl      a `Case` a line, sorted by id: the list, which names every picture by its hash
    files/           the pictures

The hash of the list stands for the whole set: another picture, row or order gives another hash. Figures that name it
can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from refgc.dataset.manifest import Category, Digest, Id, Row, Source, StoredFile, Task, read_rows
from refgc.dataset.rows import Entry, check_some_entries, read_entries
from refgc.dataset.settings import read_toml
from refgc.dataset.store import file_content, store_image, store_mask
from refgc.engine import Progress, no_progress
from refgc.errors import InputError, first_fault, quoted
from refgc.imaging.files import write_files
from refgc.imaging.image import open_image, open_mask
from refgc.imaging.journal import line_of

LIST, HEAD = "cases.jsonl", "benchmark.json"
Kind: TypeAlias = Literal["test", "wild"]
WILD_TASKS: tuple[Task, ...] = ("compositing", "customisation")
CASE_FILE = "case.toml"


class Case(Row):
    """One thing to refine, and what is known of the truth.

    Attributes:
        version: of this schema.
        id: of the case.
        object_id: cases of one object are not independent.
        object_name: in a word or two, for prompts.
        category: None where nobody said.
        generator: what made the LRGI.
        task: how the generator was used.
        simulated: whether no generative model took part.
        source: where the pictures come from.
        hrri: the reference.
        hrri_mask: None where nobody drew one.
        lrgi: what is to be refined.
        lrgi_mask: None where nobody drew one, which is the rule.
        hrgt: the truth; None for pictures in the wild that have none.
        hrgt_mask: None where there is no truth, or nobody drew one.
    """

    version: Literal[1] = 1
    id: Id
    object_id: Id
    object_name: str
    category: Category | None = None
    generator: str
    task: Task
    simulated: bool
    source: Source
    hrri: StoredFile
    hrri_mask: StoredFile | None = None
    lrgi: StoredFile
    lrgi_mask: StoredFile | None = None
    hrgt: StoredFile | None = None
    hrgt_mask: StoredFile | None = None

    def files(self) -> list[StoredFile]:
        """All pictures and masks that it has."""
        files = (self.hrri, self.hrri_mask, self.lrgi, self.lrgi_mask, self.hrgt, self.hrgt_mask)
        return [file for file in files if file is not None]


class Benchmark(BaseModel):
    """The head of a frozen set.

    Attributes:
        version: of the schema.
        kind: "test" for the test split of a dataset, "wild" for pictures of named generators.
        cases: how many.
        objects: how many different ones.
        with_truth: cases that have an HRGT.
        sha256: of cases.jsonl.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    kind: Kind
    cases: int
    objects: int
    with_truth: int
    sha256: Digest


class _CaseNote(BaseModel):
    """What `case.toml` beside the pictures of a case may say; all of it is optional."""

    model_config = ConfigDict(extra="forbid")

    object: str = "object"
    object_id: Id | None = None
    category: Category | None = None
    licence: str | None = None
    source: str | None = None
    address: str | None = None


def freeze_test_split(
    root: Path, output: Path, *, unreviewed: bool = False, progress: Progress = no_progress
) -> Benchmark:
    """Copy the triplets of the test split into a frozen set.

    Args:
        root: folder of the dataset.
        output: folder of the set; made where it does not exist. A set that is there must have the same list.
        unreviewed: take rows as well that not enough people have looked at.
        progress: told of each case.

    Raises:
        InputError: the test split has no triplets that may be used, an object of it stands in another split as well, a
            picture is missing or damaged, or `output` holds another set.
    """
    check_some_entries(root, unreviewed=unreviewed)
    cases, objects, elsewhere = list[Case](), set[str](), set[str]()
    for entry in read_entries(root, unreviewed=unreviewed):
        if entry.split == "test" and entry.triplet is not None:
            progress(f"case {entry.id}", 0.0)
            cases.append(_case_of(entry))
            objects.add(entry.pair.object_id)
        elif entry.split != "test":
            elsewhere.add(entry.pair.object_id)
    if not cases:
        raise InputError(
            f"The test split of the dataset in {quoted(str(root))} has no triplets; run `refgc dataset split` and "
            "`refgc dataset triplets` first."
        )
    if both := sorted(objects & elsewhere):
        raise InputError(f"The object {quoted(both[0])} stands in the test split and outside of it; split anew.")
    files = {file.path: file for case in cases for file in case.files()}
    return freeze(output, "test", cases, ((path, root, file) for path, file in files.items()))


def freeze_wild(folder: Path, output: Path, *, progress: Progress = no_progress) -> Benchmark:
    """Make a frozen set of pictures that named generators made.

    The folder has `GENERATOR/TASK/CASE/` with the task compositing or customisation, and in it pictures of any readable
    format called `hrri`, `lrgi` and, where they exist, `hrgt`, `hrri_mask`, `lrgi_mask` and `hrgt_mask`. `case.toml` in
    it may have `object` (its name), `object_id`, `category`, `source`, `address` and `licence`. Cases of the same
    reference are of one object where no `object_id` says otherwise.

    Args:
        folder: as above.
        output: folder of the set; made where it does not exist. A set that is there must have the same list.
        progress: told of each case.

    Raises:
        InputError: there are no cases, one of them cannot be used, or `output` holds another set.
    """
    places = sorted(place for place in folder.glob("*/*/*") if place.is_dir())
    if not places:
        raise InputError(f"{quoted(str(folder))} has no folders GENERATOR/TASK/CASE; make one for each picture.")
    cases = []
    for number, place in enumerate(places):
        progress(f"case {place.name}", number / len(places))
        cases.append(_wild_case(place, output))
    return freeze(output, "wild", cases, ())


def read_benchmark(root: Path) -> tuple[Benchmark, list[Case]]:
    """The head and the cases of a frozen set; pictures are loaded by `refgc.dataset.store`, which checks their hashes.

    Raises:
        InputError: there is no set, or its list is not the one that was frozen.
    """
    try:
        head = Benchmark.model_validate_json((root / HEAD).read_bytes())
        content = (root / LIST).read_bytes()
    except OSError as error:
        raise InputError(f"There is no benchmark in {quoted(str(root))} ({error.strerror}).") from error
    except ValidationError as error:
        raise InputError(f"{quoted(str(root / HEAD))} is no head of a benchmark; freeze the benchmark anew.") from error
    if hashlib.sha256(content).hexdigest() != head.sha256:
        raise InputError(f"The list of the benchmark in {quoted(str(root))} was changed; freeze the benchmark anew.")
    return head, list(read_rows(root / LIST, Case))


def _case_of(entry: Entry) -> Case:
    assert entry.triplet is not None
    pair, made = entry.pair, entry.triplet.made
    return Case(
        id=entry.id,
        object_id=pair.object_id,
        object_name=pair.object_name,
        category=pair.category,
        generator=made.generator,
        task=made.task,
        simulated=made.simulated,
        source=pair.source,
        hrri=pair.hrri.picture,
        hrri_mask=pair.hrri.mask,
        lrgi=entry.triplet.lrgi,
        hrgt=pair.hrgt.picture,
        hrgt_mask=pair.hrgt.mask,
    )


def _wild_case(place: Path, output: Path) -> Case:
    generator, task = place.parts[-3:-1]
    if task not in WILD_TASKS:
        raise InputError(
            f"{quoted(str(place))} has the task {quoted(task)}; call its folder {' or '.join(WILD_TASKS)}."
        )
    note = _read_note(place / CASE_FILE)
    files: dict[str, StoredFile] = {}
    for name in ("hrri", "lrgi", "hrgt"):
        path = _picture_in(place, name)
        if path is None and name != "hrgt":
            raise InputError(f"{quoted(str(place))} has no picture called {name}; put it there.")
        if path is None:
            continue
        image = open_image(path, name=name)
        files[name] = store_image(output, image)
        if (mask := _picture_in(place, f"{name}_mask")) is not None:
            files[f"{name}_mask"] = store_mask(output, open_mask(mask, size=image.size, name=f"{name} mask"))
    name = hashlib.sha256(f"{generator}/{task}/{place.name}".encode(errors="surrogateescape")).hexdigest()
    values: dict[str, Any] = {**files, "task": task}
    return Case(
        id=f"wild-{name[:16]}",
        object_id=note.object_id or f"wild-{files['hrri'].sha256[:16]}",
        object_name=note.object,
        category=note.category,
        generator=generator,
        simulated=False,
        source=Source(kind="photos", name=note.source or "in the wild", licence=note.licence, address=note.address),
        **values,
    )


def _picture_in(place: Path, name: str) -> Path | None:
    found = sorted(path for path in place.glob(f"{name}.*") if path.is_file())
    if len(found) > 1:
        raise InputError(f"{quoted(str(place))} has {len(found)} files called {name}; leave one.")
    return found[0] if found else None


def _read_note(path: Path) -> _CaseNote:
    if not path.exists():
        return _CaseNote()
    try:
        return _CaseNote.model_validate(read_toml(path))
    except ValidationError as error:
        field, fault = first_fault(error)
        raise InputError(f"{quoted(str(path))} cannot be used: {field}: {fault}.") from error


def freeze(
    output: Path, kind: Kind, cases: Iterable[Case], files: Iterable[tuple[str, Path, StoredFile]] = ()
) -> Benchmark:
    """Make a frozen set of cases; files come first and the head last, so that a set with a head is whole.

    Args:
        output: folder of the set; made where it does not exist.
        kind: of the set.
        cases: in any order.
        files: that are not in the folder yet: the place in it, the folder that it is copied from, and the file there.

    Raises:
        InputError: the folder holds another set or cannot be written, or a file is missing or damaged.
    """
    ordered = sorted(cases, key=lambda case: case.id)
    content = b"".join(line_of(case.model_dump(mode="json")) for case in ordered)
    head = Benchmark(
        kind=kind,
        cases=len(ordered),
        objects=len({case.object_id for case in ordered}),
        with_truth=sum(case.hrgt is not None for case in ordered),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    if (output / HEAD).is_file():
        there, _ = read_benchmark(output)
        if there.sha256 != head.sha256:
            raise InputError(
                f"{quoted(str(output))} holds another benchmark, with the list {there.sha256}, and a frozen one does "
                "not change; choose another folder."
            )
        return there
    try:
        for path, root, file in files:
            if not (output / path).is_file():
                write_files({output / path: partial(file_content, root, file)})
        write_files({output / LIST: lambda: content, output / HEAD: lambda: head.model_dump_json(indent=2).encode()})
    except OSError as error:
        raise InputError(
            f"{quoted(str(output))} cannot be written ({error.strerror}); choose another place."
        ) from error
    return head
