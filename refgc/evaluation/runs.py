"""Runs: each method on each item, its result kept, and scored by each metric.

A folder of runs has:

    journal.jsonl           a `Run` a line, written when it is over; a later one of the same key replaces an earlier one
    pictures/LABEL/ID.png   the results
    evaluation.json         what was compared and how, see `refgc.evaluation.results`
    results.jsonl           the scores, a line a method and item, sorted
    table.*                 see `refgc.evaluation.tables`

A run's key is the hash of all that its result depends on: the item's pictures, the method, its options and versions. A
run whose key is in the journal and whose picture is there unchanged is not made again, and a metric whose protocol it
was scored by is not computed again. Failed runs are tried again. So a comparison can be killed at any moment.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from refgc.dataset.lock import only_run
from refgc.engine import Progress, no_progress
from refgc.errors import InputError, RefGCError, quoted, sentence_about
from refgc.evaluation.items import Collection, Item, Pictures, open_pictures
from refgc.evaluation.method_list import NamedMethod
from refgc.evaluation.methods import Maker
from refgc.imaging.files import make_folder, write_files
from refgc.imaging.image import Image, encoded, open_image
from refgc.imaging.journal import append_line, read_lines
from refgc.metrics.metric import Metric, has_all
from refgc.metrics.registry import Backbones, Selection, select
from refgc.metrics.sample import Sample
from refgc.runner import Finished, RunnerName, run

JOURNAL, PICTURES = "journal.jsonl", "pictures"
# Where one of these stops one result, it stops the next ones too.
DISK_FAULTS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG))
Status: TypeAlias = Literal["done", "failed", "unreadable"]


class Scored(BaseModel):
    """What a metric said of a result.

    Attributes:
        protocol: the SHA-256 of the metric's protocol.
        figures: by name, such as "psnr" and "psnr_inside"; empty where the item does not allow it.
        fault: one sentence where the metric failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    protocol: str
    figures: dict[str, float] = {}
    fault: str | None = None


class Run(BaseModel):
    """A method on an item.

    Attributes:
        key: of all that the result depends on.
        id: of the item.
        method: its label.
        status: "failed" where the method has no result, "unreadable" where a picture of the item cannot be used.
        fault: why, in one sentence.
        placed: whether the reference was placed; None where the method does not tell.
        message: what the method said.
        resized: whether the result had another size than the truth.
        picture: the SHA-256 of the result's file.
        seconds: wall-clock time of making the result.
        scores: by the metric's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    key: str
    id: str
    method: str
    status: Status
    fault: str | None = None
    placed: bool | None = None
    message: str = ""
    resized: bool = False
    picture: str | None = None
    seconds: float = 0.0
    scores: dict[str, Scored] = {}


@dataclass(frozen=True, slots=True)
class MetricChoice:
    """Which metrics are computed, as `refgc.metrics.registry.select` takes it; small and picklable.

    Attributes:
        names: of the metrics; None takes all whose weights and packages are there.
        backbones: the networks of those that need one.
    """

    names: tuple[str, ...] | None = None
    backbones: Backbones = field(default_factory=Backbones)

    def open(self) -> Selection:
        """The metrics.

        Raises:
            InputError: there is no metric or network of that name.
        """
        return select(self.names, backbones=self.backbones)


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is to do: make a result where there is none, and score it.

    Attributes:
        key: of the run.
        item: that is refined.
        method: its number in the list.
        metrics: names of the metrics that are computed.
        earlier: the run as it is, where its result is there already.
    """

    key: str
    item: Item
    method: int
    metrics: tuple[str, ...]
    earlier: Run | None = None


def picture_place(output: Path, method: NamedMethod, item: Item) -> Path:
    """Where the result of a run lies."""
    return output / PICTURES / method.folder / f"{item.id}.png"


def protocol_digest(metric: Metric) -> str:
    """The SHA-256 of a metric's name and protocol."""
    return hashlib.sha256(f"{metric.name}\n{metric.protocol}".encode()).hexdigest()


def run_all(
    output: Path,
    collection: Collection,
    methods: Sequence[NamedMethod],
    choice: MetricChoice,
    metrics: Sequence[Metric],
    *,
    runner: RunnerName = "local",
    workers: int | None = None,
    gpus_per_worker: int | None = None,
    progress: Progress = no_progress,
) -> dict[tuple[str, str], Run]:
    """Make and score what is not there yet.

    Args:
        output: the folder of runs; made where it is missing.
        collection: of the items.
        methods: as `refgc.evaluation.method_list.check_methods` returns them.
        choice: of the metrics, which each worker opens for itself.
        metrics: those that `choice` opens.
        runner: see `refgc.runner.run`.
        workers: see there. One local worker is this process itself.
        gpus_per_worker: see there; None takes 1 where a method wants a GPU and this machine may have one.
        progress: told of each run.

    Returns:
        The runs of all items and methods, by the item's id and the method's label.

    Raises:
        InputError: another process writes into the folder, the journal cannot be read, or no worker can open a metric.
        OSError: the disk is full. What was written before stays, and the next call goes on there.
    """
    make_folder(output)
    with only_run(output):
        # What a process was writing when it was killed.
        for draft in (*output.glob(".refgc-*.tmp"), *(output / PICTURES).glob("*/.refgc-*.tmp")):
            draft.unlink(missing_ok=True)
        earlier = read_journal(output / JOURNAL)
        found: dict[tuple[str, str], Run] = {}
        tasks = list[Task]()
        # Method by method, so that a worker holds one model at a time.
        for number, method in enumerate(methods):
            for item in collection.items:
                one = _task_or_run(output, item, number, method, metrics, earlier)
                if isinstance(one, Run):
                    found[one.id, one.method] = one
                else:
                    tasks.append(one)
        _work_through(output, tasks, methods, choice, found, runner, workers, gpus_per_worker, progress)
    progress("done", 1.0)
    return found


def read_journal(path: Path) -> dict[str, Run]:
    """The last run of each key.

    Raises:
        InputError: the journal cannot be read, or a line is no run.
    """
    found = dict[str, Run]()
    for number, value in enumerate(read_lines(path), 1):
        try:
            one = Run.model_validate(value)
        except ValidationError as error:
            raise InputError(f"Line {number} of {quoted(str(path))} is no run; delete that line.") from error
        found[one.key] = one
    return found


def run_key(item: Item, method: NamedMethod) -> str:
    """The hash of all that a result depends on.

    Raises:
        InputError: a file that the method needs for the item is not there.
    """
    named = {"item": [item.id, item.object_name, item.hashes], "method": method.method.identity(item)}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


class RunWork:
    """What a worker does: makes a result, keeps it, and scores it."""

    def __init__(self, output: Path, methods: Sequence[NamedMethod], choice: MetricChoice) -> None:
        """Opens the metrics; a method is opened when its first item comes.

        Args:
            output: the folder of runs.
            methods: of the comparison.
            choice: of the metrics.
        """
        self._output = output
        self._methods = methods
        self._metrics = {metric.name: metric for metric in choice.open().metrics}
        self._open: tuple[int, Maker] | None = None
        # Of methods that could not be opened, which would fail at every item anew.
        self._refused: dict[int, RefGCError] = {}

    def __call__(self, task: Task) -> Run:
        """The run, with its result written; what goes wrong with this item is told in it.

        Raises:
            OSError: the disk is full.
        """
        method = self._methods[task.method]
        begun = Run(key=task.key, id=task.item.id, method=method.label, status="unreadable")
        try:
            pictures = open_pictures(task.item)
        except InputError as error:
            return begun.model_copy(update={"fault": sentence_about(error)})
        try:
            made, image = self._result(task, method, pictures, begun)
        except OSError as error:
            if error.errno in DISK_FAULTS:
                raise
            return begun.model_copy(update={"status": "failed", "fault": sentence_about(error)})
        except RefGCError as error:
            return begun.model_copy(update={"status": "failed", "fault": sentence_about(error)})
        return made.model_copy(update={"scores": made.scores | self._scores(task, method, pictures, image)})

    def _result(self, task: Task, method: NamedMethod, pictures: Pictures, begun: Run) -> tuple[Run, Image]:
        place = picture_place(self._output, method, task.item)
        if task.earlier is not None:
            return task.earlier, open_image(place, name="result")
        started = time.perf_counter()
        made = self._maker(task.method)(task.item, pictures)
        seconds = time.perf_counter() - started
        flat = Image(made.image.pixels)
        content = encoded(flat, place)
        write_files({place: lambda: content})
        update = {
            "status": "done",
            "placed": made.placed,
            "message": made.message,
            "resized": made.resized,
            "picture": hashlib.sha256(content).hexdigest(),
            "seconds": round(seconds, 3),
        }
        return begun.model_copy(update=update), flat

    def _maker(self, number: int) -> Maker:
        if number in self._refused:
            raise self._refused[number]
        if self._open is None or self._open[0] != number:
            # The earlier model goes first, so that both are never in memory.
            self._open = None
            try:
                self._open = number, self._methods[number].method.open()
            except RefGCError as error:
                self._refused[number] = error
                raise
        return self._open[1]

    def _scores(self, task: Task, method: NamedMethod, pictures: Pictures, image: Image) -> dict[str, Scored]:
        sample = Sample(image, pictures.hrgt, pictures.hrgt_mask, pictures.hrri, pictures.hrri_mask)
        return {name: _scored(self._metrics[name], sample, method) for name in task.metrics}


def _scored(metric: Metric, sample: Sample, method: NamedMethod) -> Scored:
    protocol = protocol_digest(metric)
    # Compared with itself, the truth says nothing.
    if not has_all(sample, metric.needs) or (method.is_oracle and "truth" in metric.needs):
        return Scored(protocol=protocol)
    try:
        figures = metric(sample)
    except Exception as error:
        # Whatever is wrong with one metric, the result is there, and the other metrics are still to be computed.
        return Scored(protocol=protocol, fault=sentence_about(error))
    if endless := [name for name, figure in figures.items() if not math.isfinite(figure)]:
        return Scored(protocol=protocol, fault=f"The figure {endless[0]} is no finite number.")
    return Scored(protocol=protocol, figures=figures)


def _task_or_run(
    output: Path,
    item: Item,
    number: int,
    method: NamedMethod,
    metrics: Sequence[Metric],
    earlier: Mapping[str, Run],
) -> Task | Run:
    """What is left to be done of a run; the run itself where nothing is."""
    try:
        key = run_key(item, method)
    except InputError as error:
        return Run(key="", id=item.id, method=method.label, status="failed", fault=sentence_about(error))
    names = tuple(metric.name for metric in metrics)
    known = earlier.get(key)
    if known is None or known.status != "done" or not _is_there(picture_place(output, method, item), known):
        return Task(key, item, number, names)
    # The same method may have been called otherwise.
    known = known.model_copy(update={"id": item.id, "method": method.label})
    wanted = tuple(
        metric.name
        for metric in metrics
        if (scored := known.scores.get(metric.name)) is None
        or scored.protocol != protocol_digest(metric)
        or scored.fault is not None
    )
    return Task(key, item, number, wanted, known) if wanted else known


def _is_there(place: Path, known: Run) -> bool:
    try:
        return hashlib.sha256(place.read_bytes()).hexdigest() == known.picture
    except OSError:
        return False


def _work_through(
    output: Path,
    tasks: Sequence[Task],
    methods: Sequence[NamedMethod],
    choice: MetricChoice,
    found: dict[tuple[str, str], Run],
    runner: RunnerName,
    workers: int | None,
    gpus_per_worker: int | None,
    progress: Progress,
) -> None:
    if not tasks:
        return
    build = partial(RunWork, output, tuple(methods), choice)
    gpus = _gpus(methods) if gpus_per_worker is None else gpus_per_worker
    here = runner == "local" and workers == 1
    under_way = (
        _one_by_one(build, tasks) if here else run(build, tasks, runner=runner, workers=workers, gpus_per_worker=gpus)
    )
    progress(f"0 of {len(tasks)} runs", 0.0)
    with closing(under_way):
        for number, one in enumerate(under_way, 1):
            outcome = one.outcome
            if outcome is None:
                assert one.error is not None, "either is set"
                if isinstance(one.error, OSError) and one.error.errno in DISK_FAULTS:
                    raise one.error
                task = one.item
                outcome = Run(
                    key=task.key,
                    id=task.item.id,
                    method=methods[task.method].label,
                    status="failed",
                    fault=sentence_about(one.error),
                )
            append_line(output / JOURNAL, outcome.model_dump(mode="json"))
            found[outcome.id, outcome.method] = outcome
            progress(f"{number} of {len(tasks)} runs", number / len(tasks))


def _gpus(methods: Iterable[NamedMethod]) -> int:
    from refgc.machine import find_gpus

    return int(any(method.method.wants_gpu for method in methods) and bool(find_gpus()))


def _one_by_one(build: Any, tasks: Iterable[Task]) -> Generator[Finished[Task, Run], None, None]:
    """As `refgc.runner.run`, in this process."""
    work = build()
    for task in tasks:
        try:
            finished: Finished[Task, Run] = Finished(task, work(task))
        except Exception as error:  # whatever is wrong with one run, the others are still to be made
            finished = Finished(task, error=error)
        yield finished
