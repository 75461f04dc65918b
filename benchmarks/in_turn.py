"""Timing work in turn with a yardstick, each case in a process of its own so that its peak memory is its own."""

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

Row = dict[str, Any]


def medians(work: Callable[[], dict[str, float]], yardstick: Callable[[], None], runs: int) -> Row:
    """Times both in turn; a run of each that does not count should come before.

    Args:
        work: what is measured; returns its seconds by stage.
        yardstick: what it is compared to.
        runs: how often.

    Returns:
        Medians of the seconds, by stage as well, and of the ratio of both; and this process's peak memory.
    """
    stages: dict[str, list[float]] = {}
    seconds, ratios = [], []
    for _ in range(runs):
        started = time.perf_counter()
        yardstick()
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


def figures(row: Row) -> tuple[str, str, str]:
    """Seconds, ratio and peak memory of a row, as a table shows them."""
    return f"{row['seconds']:.2f}", f"{row['ratio']:.2f}", f"{row['peak_gigabytes']:.2f}"


def by_stage(row: Row) -> str:
    """The stages of a row in one line."""
    return ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in row["stages"].items())


def measure_apart(measure: Callable[[str, int], Row], cases: Iterable[str], runs: int) -> list[Row]:
    """A row for each case, measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in cases:
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (name, runs)))
    return rows


def options_of(description: str) -> argparse.Namespace:
    """`runs` and `json`, as given on the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each case")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    return parser.parse_args()


def write_json(file: Path, runs: int, rows: list[Row]) -> None:
    """Writes the rows, and what they were measured on."""
    machine = {"processors": multiprocessing.cpu_count(), "system": platform.machine(), "opencv": cv2.__version__}
    file.write_text(json.dumps({"machine": machine, "runs": runs, "cases": rows}, indent=2) + "\n")
