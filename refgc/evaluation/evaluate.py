"""A comparison from its source to its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refgc.dataset.manifest import Task
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError
from refgc.evaluation.items import SplitChoice, read_items
from refgc.evaluation.method_list import NamedMethod, check_methods
from refgc.evaluation.results import Comparison, summarised, write_results
from refgc.evaluation.runs import MetricChoice, run_all
from refgc.metrics.registry import NAMES
from refgc.outputs.result import check_folder
from refgc.runner import RunnerName


def evaluate(
    source: Path,
    output: Path,
    methods: Sequence[NamedMethod],
    metrics: MetricChoice | None = None,
    *,
    split: SplitChoice = "test",
    task: Task | None = None,
    unreviewed: bool = False,
    runner: RunnerName = "local",
    workers: int | None = None,
    gpus_per_worker: int | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Run methods on the items of a source, score them, and write the results.

    It can be killed at any moment; called again it goes on where it was. Tables are written by
    `refgc.evaluation.table_files.write_tables`.

    Args:
        source: see `refgc.evaluation.items.read_items`.
        output: the folder of the comparison; made where it is missing.
        methods: see `refgc.evaluation.method_list`.
        metrics: which metrics; None takes all whose weights and packages are here.
        split: of a dataset.
        task: of the generators; None takes all.
        unreviewed: of a dataset, take rows as well that not enough people have looked at.
        runner: see `refgc.runner.run`.
        workers: see there.
        gpus_per_worker: see `refgc.evaluation.runs.run_all`.
        progress: told of each run.

    Raises:
        InputError: the source, a method, a metric or the output cannot be used.
        EngineError: a method cannot run here, or no metric can be computed.
        OSError: the disk is full; what was written stays.
    """
    choice = metrics or MetricChoice()
    selection = choice.open()
    if choice.names == ():
        raise InputError(f"No metric is named; choose from {', '.join(NAMES)}, or leave the choice out for all.")
    if not selection.metrics:
        raise EngineError(f"No metric can be computed here. {' '.join(selection.missing)}")
    checked = check_methods(methods)
    collection = read_items(source, split=split, task=task, unreviewed=unreviewed)
    if not collection.with_truth and any(method.is_oracle for method in checked):
        raise InputError("The pictures have no truth, so that there is no oracle; leave it out of the methods.")
    check_folder(output, "output folder", make_folders=True)
    runs = run_all(
        output,
        collection,
        checked,
        choice,
        selection.metrics,
        runner=runner,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        progress=progress,
    )
    comparison = summarised(collection, checked, selection.metrics, selection.missing, runs)
    write_results(output, comparison)
    return comparison
