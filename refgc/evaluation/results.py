"""The results of a comparison: what was compared and how, and the scores of each method on each item.

Both files follow from the runs alone and hold no times, so that a comparison that was killed and went on gives the same
bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from refgc import __version__
from refgc.errors import InputError, first_fault, quoted
from refgc.evaluation.items import Collection
from refgc.evaluation.method_list import NamedMethod
from refgc.evaluation.runs import PICTURES, Run, Status
from refgc.imaging.files import write_whole
from refgc.imaging.journal import line_of, read_lines
from refgc.metrics.metric import Metric, Region

HEAD, RESULTS = "evaluation.json", "results.jsonl"
# Of scores in files. More digits differ from one processor to another.
DIGITS = 6


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MethodNote(_Frozen):
    """A method in the head; see `refgc.evaluation.method_list.NamedMethod`."""

    label: str
    method: str
    folder: str
    finetuned: bool
    components: tuple[str, ...]
    oracle: bool


class MetricNote(_Frozen):
    """A metric in the head; see `refgc.metrics.metric.Metric`."""

    name: str
    label: str
    unit: str
    digits: int
    higher_is_better: bool
    regions: tuple[Region, ...]
    protocol: str


class BadNote(_Frozen):
    """An entry that no method could be run on."""

    id: str
    reason: str


class Head(_Frozen):
    """What was compared and how.

    Attributes:
        version: of the schema.
        refgc: the version of the package.
        kind: where the items come from, in words.
        name: of the folder or list.
        sha256: of the list of items with the hashes of their pictures.
        items: how many could be used.
        objects: how many different objects they show.
        with_truth: items that have an HRGT.
        bad: entries that no method could be run on.
        methods: in the order of the tables.
        metrics: in the order of the tables.
        missing: one sentence for each metric that was left out.
    """

    version: Literal[1] = 1
    refgc: str = __version__
    kind: str
    name: str
    sha256: str
    items: int
    objects: int
    with_truth: int
    bad: tuple[BadNote, ...]
    methods: tuple[MethodNote, ...]
    metrics: tuple[MetricNote, ...]
    missing: tuple[str, ...]


class Result(_Frozen):
    """A method on an item.

    Attributes:
        id: of the item.
        object_id: items of one object are not independent.
        method: its label.
        status: see `refgc.evaluation.runs.Run`.
        fault: one sentence where the run failed.
        placed: whether the reference was placed; None where the method does not tell.
        resized: whether the result had another size than the truth.
        picture: its file, inside the folder of the comparison; None where there is none.
        scores: by the name of the figure, such as "psnr_inside".
        faults: one sentence for each metric that failed, by its name.
    """

    id: str
    object_id: str
    method: str
    status: Status
    fault: str | None = None
    placed: bool | None = None
    resized: bool = False
    picture: str | None = None
    scores: dict[str, float] = {}
    faults: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        head: what was compared and how.
        results: by item and then by method, both in the order of the head.
    """

    head: Head
    results: tuple[Result, ...]


def summarised(
    collection: Collection,
    methods: Sequence[NamedMethod],
    metrics: Sequence[Metric],
    missing: Sequence[str],
    runs: Mapping[tuple[str, str], Run],
) -> Comparison:
    """The results of all runs.

    Args:
        collection: of the items.
        methods: of the comparison.
        metrics: that were computed.
        missing: one sentence for each metric that was not.
        runs: by item and method, as `refgc.evaluation.runs.run_all` returns them.
    """
    unreadable = {
        item.id: run.fault
        for item in collection.items
        for method in methods
        if (run := runs[item.id, method.label]).status == "unreadable"
    }
    items = [item for item in collection.items if item.id not in unreadable]
    names = [metric.name for metric in metrics]
    results = tuple(
        _result(runs[item.id, method.label], item.object_id, method, names) for item in items for method in methods
    )
    bad = [BadNote(id=one.id, reason=one.reason) for one in collection.bad]
    bad += [BadNote(id=name, reason=fault or "") for name, fault in unreadable.items()]
    head = Head(
        kind=collection.kind,
        name=collection.name,
        sha256=collection.sha256,
        items=len(items),
        objects=len({item.object_id for item in items}),
        with_truth=sum(item.hrgt is not None for item in items),
        bad=tuple(bad),
        methods=tuple(
            MethodNote(
                label=one.label,
                method=one.description,
                folder=one.folder,
                finetuned=one.finetuned,
                components=one.components,
                oracle=one.is_oracle,
            )
            for one in methods
        ),
        metrics=tuple(
            MetricNote(
                name=one.name,
                label=one.label,
                unit=one.unit,
                digits=one.digits,
                higher_is_better=one.higher_is_better,
                regions=tuple(one.regions),
                protocol=one.protocol,
            )
            for one in metrics
        ),
        missing=tuple(missing),
    )
    return Comparison(head, results)


def write_results(output: Path, comparison: Comparison) -> None:
    """Write evaluation.json and results.jsonl; the same results give the same bytes.

    Raises:
        InputError: they cannot be written.
    """
    write_whole(output / RESULTS, [line_of(one.model_dump(mode="json")) for one in comparison.results])
    write_whole(output / HEAD, (comparison.head.model_dump_json(indent=2) + "\n").encode())


def read_results(output: Path) -> Comparison:
    """The results in a folder.

    Raises:
        InputError: there are none, or a file cannot be read.
    """
    try:
        head = Head.model_validate_json((output / HEAD).read_bytes())
    except OSError as error:
        raise InputError(
            f"There are no results in {quoted(str(output))} ({error.strerror}); make them by `refgc evaluate`."
        ) from error
    except ValidationError as error:
        field, fault = first_fault(error)
        raise InputError(
            f"{quoted(str(output / HEAD))} cannot be used: {field}: {fault}; run `refgc evaluate` again."
        ) from error
    results = []
    for number, value in enumerate(read_lines(output / RESULTS), 1):
        try:
            results.append(Result.model_validate(value))
        except ValidationError as error:
            field, fault = first_fault(error)
            raise InputError(
                f"Line {number} of {quoted(str(output / RESULTS))} cannot be used: {field}: {fault}; run "
                "`refgc evaluate` again."
            ) from error
    if len(results) != head.items * len(head.methods):
        raise InputError(
            f"{quoted(str(output / RESULTS))} has {len(results)} lines, and {head.items} items by "
            f"{len(head.methods)} methods are expected; run `refgc evaluate` again."
        )
    return Comparison(head, tuple(results))


def _result(run: Run, object_id: str, method: NamedMethod, metrics: Sequence[str]) -> Result:
    scored = {name: run.scores[name] for name in metrics if name in run.scores}
    return Result(
        id=run.id,
        object_id=object_id,
        method=run.method,
        status=run.status,
        fault=run.fault,
        placed=run.placed,
        resized=run.resized,
        picture=f"{PICTURES}/{method.folder}/{run.id}.png" if run.status == "done" else None,
        scores={
            name: round(value, DIGITS)
            for one in scored.values()
            for name, value in one.figures.items()
        },
        faults={name: one.fault for name, one in scored.items() if one.fault is not None},
    )
