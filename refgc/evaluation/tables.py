"""Tables of a comparison: means with intervals and tests, best and second, and what has to be said beside them.

A mean is taken over the items for which every method of the table has the figure, so that methods are compared on the
same items. A method that has no result for an item therefore takes the item out of the whole column, and the table
says how many: scoring a missing result as an enlargement would flatter a method that fails, and leaving the item out
for that method alone would let it choose its items. A method without any value of a figure has an empty cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from refgc.errors import InputError, quoted
from refgc.evaluation.results import Comparison, Head, MethodNote, MetricNote, Result
from refgc.evaluation.statistics import LEAST_OBJECTS, LEVEL, RESAMPLES, holm, interval, paired_test
from refgc.metrics.metric import Region

BEST, SECOND = 1, 2
# A p-value below it is marked in a table.
SIGNIFICANT = 0.05
# How many failures of a method a table tells, each in a sentence.
FAULTS_TOLD = 3
REGIONS: Mapping[Region, str] = {"whole": "Whole picture", "inside": "Inside the object", "outside": "Outside the object"}
PaperTable: TypeAlias = Literal["2", "3"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TableSettings(_Frozen):
    """How a table is computed.

    Attributes:
        against: the label of the method that the others are tested against; None takes the best of each column.
        level: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    against: str | None = None
    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = 0


class Column(_Frozen):
    """A figure.

    Attributes:
        figure: such as "psnr_inside".
        metric: its label, such as "PSNR".
        region: of the picture.
        unit: "dB" or empty.
        digits: behind the point.
        higher_is_better: whether more is better.
        items: over which the means are taken.
        objects: that these show.
        left_out: items that have the figure by some methods and not by all.
        against: the method that the others are tested against; None where there is no test.
    """

    figure: str
    metric: str
    region: Region
    unit: str
    digits: int
    higher_is_better: bool
    items: int
    objects: int
    left_out: int
    against: str | None


class Cell(_Frozen):
    """A method's figure.

    Attributes:
        mean: over the items of the column.
        low: lower bound of the interval; None for too few objects.
        high: upper bound.
        p: of the test against the column's method, adjusted for the number of methods; None where there is no test.
        rank: 1 for the best, 2 for the second, by the printed digits; None for the others and for an oracle.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    rank: Literal[1, 2] | None


class Row(_Frozen):
    """A method.

    Attributes:
        label: of the method.
        finetuned: whether it was tuned on the dataset.
        oracle: whether it is a bound and no method.
        components: what an ablation switched on for it.
        failed: items without a result.
        unplaced: results into which the reference was not placed; None where the method does not tell.
        cells: by figure.
    """

    label: str
    finetuned: bool
    oracle: bool
    components: tuple[str, ...]
    failed: int
    unplaced: int | None
    cells: dict[str, Cell]

    @property
    def name(self) -> str:
        """The label with its asterisk."""
        return f"{self.label}*" if self.finetuned else self.label


class Table(_Frozen):
    """A whole table.

    Attributes:
        head: what stands above it, a sentence each: items, protocol of each metric, statistics, versions.
        components: names of the columns of an ablation; empty where it is none.
        columns: in their order.
        rows: in their order.
        warnings: what went wrong, a sentence each.
    """

    head: tuple[str, ...]
    components: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    def regions(self) -> list[Region]:
        """The regions of the picture that have columns."""
        return [region for region in REGIONS if any(column.region == region for column in self.columns)]


def make_table(comparison: Comparison, settings: TableSettings | None = None) -> Table:
    """The table of a comparison; the same results give the same table.

    Raises:
        InputError: no method has the label that the others are to be tested against.
    """
    chosen = settings or TableSettings()
    head = comparison.head
    labels = [method.label for method in head.methods if not method.oracle]
    if chosen.against is not None and chosen.against not in labels:
        raise InputError(f"No method is called {quoted(chosen.against)}; there are {', '.join(labels)}.")
    by_method = {
        method.label: {one.id: one for one in comparison.results if one.method == method.label}
        for method in head.methods
    }
    columns, cells = list[Column](), {method.label: dict[str, Cell]() for method in head.methods}
    for metric in head.metrics:
        for region in metric.regions:
            figure = metric.name if region == "whole" else f"{metric.name}_{region}"
            found = _column(figure, metric, region, head, by_method, chosen)
            if found is not None:
                columns.append(found[0])
                for label, cell in found[1].items():
                    cells[label][figure] = cell
    rows = [_row(method, list(by_method[method.label].values()), cells[method.label]) for method in head.methods]
    components = list(dict.fromkeys(name for method in head.methods for name in method.components))
    return Table(
        head=tuple(_head(head, chosen)),
        components=tuple(components),
        columns=tuple(sorted(columns, key=lambda column: list(REGIONS).index(column.region))),
        rows=tuple(rows),
        warnings=tuple(_warnings(head, rows, columns, comparison.results)),
    )


def _column(
    figure: str,
    metric: MetricNote,
    region: Region,
    head: Head,
    by_method: Mapping[str, Mapping[str, Result]],
    settings: TableSettings,
) -> tuple[Column, dict[str, Cell]] | None:
    """A column with its cells by method; None where no method has the figure on any common item."""
    scores = {
        label: {name: one.scores[figure] for name, one in results.items() if figure in one.scores}
        for label, results in by_method.items()
    }
    scores = {label: values for label, values in scores.items() if values}
    if not scores:
        return None
    common = [name for name in next(iter(scores.values())) if all(name in values for values in scores.values())]
    every = {name for values in scores.values() for name in values}
    objects = [by_method[next(iter(scores))][name].object_id for name in common]
    values = {label: [of_label[name] for name in common] for label, of_label in scores.items()}
    means = {label: sum(one) / len(one) for label, one in values.items() if one}
    competing = [method.label for method in head.methods if not method.oracle and method.label in means]
    ranks = _ranks({label: means[label] for label in competing}, metric)
    against = settings.against if settings.against in competing else _best(means, competing, metric)
    p_values = _tests(values, objects, competing, against)
    column = Column(
        figure=figure,
        metric=metric.label,
        region=region,
        unit=metric.unit,
        digits=metric.digits,
        higher_is_better=metric.higher_is_better,
        items=len(common),
        objects=len(set(objects)),
        left_out=len(every) - len(common),
        against=against if p_values else None,
    )
    cells = {}
    for label, mean in means.items():
        bounds = interval(
            values[label], objects, level=settings.level, resamples=settings.resamples, seed=settings.seed
        )
        low, high = bounds or (None, None)
        cells[label] = Cell(mean=mean, low=low, high=high, p=p_values.get(label), rank=ranks.get(label))
    return column, cells


def _best(means: Mapping[str, float], labels: Sequence[str], metric: MetricNote) -> str | None:
    if not labels:
        return None
    return (max if metric.higher_is_better else min)(labels, key=lambda label: means[label])


def _ranks(means: Mapping[str, float], metric: MetricNote) -> dict[str, Literal[1, 2]]:
    """Best and second by the printed digits, so that equal figures are marked alike; none of a single method."""
    if len(means) < 2:
        return {}
    rounded = {label: round(mean, metric.digits) for label, mean in means.items()}
    order = sorted(set(rounded.values()), reverse=metric.higher_is_better)
    places: dict[float, Literal[1, 2]] = dict(zip(order, (1, 2), strict=False))
    return {label: places[value] for label, value in rounded.items() if value in places}


def _tests(
    values: Mapping[str, Sequence[float]], objects: Sequence[str], labels: Sequence[str], against: str | None
) -> dict[str, float]:
    others = [label for label in labels if label != against]
    if against is None or not others or len(set(objects)) < LEAST_OBJECTS:
        return {}
    found = [paired_test(values[label], values[against], objects) for label in others]
    return dict(zip(others, holm(found), strict=True))


def _row(method: MethodNote, results: Sequence[Result], cells: dict[str, Cell]) -> Row:
    told = [one.placed for one in results if one.placed is not None]
    return Row(
        label=method.label,
        finetuned=method.finetuned,
        oracle=method.oracle,
        components=method.components,
        failed=sum(one.status == "failed" for one in results),
        unplaced=sum(not placed for placed in told) if told else None,
        cells=cells,
    )


def _head(head: Head, settings: TableSettings) -> list[str]:
    truth = "all with a truth" if head.with_truth == head.items else f"{head.with_truth} with a truth"
    if head.with_truth == 0:
        truth = "none with a truth, so that only metrics that need none are given"
    lines = [
        f"{_many(head.items, 'entry', 'entries')} of {_many(head.objects, 'object', 'objects')}, {truth}: {head.name} "
        f"({head.kind}), list {head.sha256[:16]}. RefGC-SR2 {head.refgc}."
    ]
    lines += [f"{metric.label}: {metric.protocol}" for metric in head.metrics]
    lines.append(
        f"Means are over the entries for which all methods have the figure. In brackets stand {settings.level:.0%} "
        f"bootstrap intervals over objects ({settings.resamples} resamples, seed {settings.seed}); for fewer than "
        f"{LEAST_OBJECTS} objects there are none. Best is bold, second underlined."
    )
    other = "the best of each column" if settings.against is None else settings.against
    lines.append(
        f"A dagger marks what differs from {other} with p < {SIGNIFICANT:g} (Wilcoxon's signed-rank test over objects, "
        "two-sided, adjusted after Holm for the number of methods)."
    )
    if any(method.finetuned for method in head.methods):
        lines.append("An asterisk marks methods that were tuned on this dataset.")
    if any(method.oracle for method in head.methods):
        lines.append(
            "The oracle is the truth itself, a real photo of the object, compared with the reference, another real "
            "photo of it. It is not ranked."
        )
    return lines


def _warnings(head: Head, rows: Sequence[Row], columns: Sequence[Column], results: Sequence[Result]) -> list[str]:
    told = [f"Left out: {sentence}" for sentence in head.missing]
    if head.bad:
        one = head.bad[0]
        told.append(
            f"{_many(len(head.bad), 'entry', 'entries')} could not be read and no method was run on them; the first, "
            f"{one.id}: {one.reason}"
        )
    for row in rows:
        if row.failed:
            faults = [f"{one.id}: {one.fault}" for one in results if one.method == row.label and one.status == "failed"]
            more = f" And {row.failed - FAULTS_TOLD} more." if row.failed > FAULTS_TOLD else ""
            told.append(
                f"{row.name} has no result for {row.failed} of {_many(head.items, 'entry', 'entries')}. "
                f"{' '.join(faults[:FAULTS_TOLD])}{more}"
            )
        if row.unplaced:
            told.append(
                f"{row.name} did not place the reference in {row.unplaced} of {_many(head.items, 'entry', 'entries')}; "
                "these results are plain enlargements and are counted."
            )
        resized = sum(one.resized for one in results if one.method == row.label)
        if resized:
            told.append(
                f"{row.name} gave {_many(resized, 'result', 'results')} of another size than the truth; they were "
                "brought to its size by bicubic interpolation."
            )
    for column in columns:
        if column.left_out:
            told.append(
                f"{_title(column)}: {_many(column.left_out, 'entry is', 'entries are')} left out of the column, since "
                "not every method has the figure there."
            )
    for name in dict.fromkeys(name for one in results for name in one.faults):
        failed = [one for one in results if name in one.faults]
        told.append(
            f"The metric {name} failed for {_many(len(failed), 'result', 'results')}; the first, {failed[0].id} by "
            f"{failed[0].method}: {failed[0].faults[name]}"
        )
    return told


def _title(column: Column) -> str:
    return f"{column.metric}, {REGIONS[column.region].lower()}"


def _many(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def write_tables(output: Path, comparison: Comparison, settings: TableSettings | None = None, paper: Sequence[PaperTable] = ()) -> Table:
    """Write table.json, table.csv, table.md and table.tex; the same results give the same bytes.

    Args:
        output: the folder of the comparison.
        comparison: its results.
        settings: how the table is computed.
        paper: tables of the paper whose figures are printed beside.

    Returns:
        The table.

    Raises:
        InputError: as for `make_table`, or a file cannot be written.
    """
    from refgc.evaluation.table_formats import csv_of, json_of, latex_of, markdown_of
    from refgc.evaluation.paper import paper_table
    from refgc.imaging.files import write_whole

    table, others = make_table(comparison, settings), [paper_table(number) for number in paper]
    for suffix, write in (("json", json_of), ("csv", csv_of), ("md", markdown_of), ("tex", latex_of)):
        write_whole(output / f"table.{suffix}", write(table, others).encode())
    return table
