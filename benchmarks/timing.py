"""Timing relative to a baseline: the two run alternately, each case in a process of its own to measure its memory."""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def time_alternately(work: Callable[[], dict[str, float]], baseline: Callable[[], None], runs: int) -> Row:
    """Time the work and the baseline alternately; one run of each that is not counted should come before.

    Args:
        work: what is measured; returns its seconds by stage.
        baseline: what it is compared to.
        runs: how often each is run.

    Returns:
        Medians of the seconds, in total and by stage, and of the ratio to the baseline; and the process's peak memory.
    """
    stages: dict[str, list[float]] = {}
    seconds, ratios = [], []
    for _ in range(runs):
        started = time.perf_counter()
        baseline()
        between = time.perf_counter()
        by_stage = work()
        ended = time.perf_counter()
        seconds.append(ended - between)
        ratios.append((ended - between) / (between - started))
        for stage, taken in by_stage.items():
            stages.setdefault(stage, []).append(taken)
    return {
        "seconds": round(statistics.median(seconds), 2),
        "stages": {stage: round(statistics.median(taken), 3) for stage, taken in stages.items()},
        "ratio": round(statistics.median(ratios), 2),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def run_benchmark(
    description: str,
    title: str,
    cases: Iterable[str],
    measure: Callable[[str, int], Row],
    column: tuple[str, Callable[[Row], str]],
) -> None:
    """Measure every case in a process of its own, print the table, and write the JSON file that was asked for.

    Args:
        description: of the command, for its help.
        title: of the table.
        cases: their names.
        measure: from the name of a case and the number of runs to its row.
        column: heading and content of one more column of the table.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each case")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    rows = _measure_apart(measure, cases, options.runs)
    heading, content = column
    table = Table("case", "seconds", "times the baseline", "peak GB", heading, "by stage", title=title)
    for row in rows:
        figures = (f"{row[name]:.2f}" for name in ("seconds", "ratio", "peak_gigabytes"))
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in row["stages"].items())
        table.add_row(row["case"], *figures, content(row), stages)
    Console(width=140).print(table)
    if options.json:
        machine = {"processors": multiprocessing.cpu_count(), "system": platform.machine(), "opencv": cv2.__version__}
        report = {"machine": machine, "runs": options.runs, "cases": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _measure_apart(measure: Callable[[str, int], Row], cases: Iterable[str], runs: int) -> list[Row]:
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in cases:
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (name, runs)))
    return rows
