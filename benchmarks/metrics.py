"""Measures the metrics that need no weights: seconds for a pair, pairs a minute, and memory, on two processes.

usage: python -m benchmarks.metrics [--fidelity N] [--pairs N] [--processes N] [--loaded] [--json FILE]

The results are the examples' LRGIs, enlarged by Lanczos interpolation to 1024x1024 pixels, against their HRGT, with both
masks, so that every region has its figure. Each pair is shifted by some pixels, so that no reference comes twice and
nothing is kept from one pair to the next. Two runs: PSNR and SSIM alone, and all metrics without weights together; for the
second one the seconds of each metric are the processor's, and the others wall-clock. The time of the first pair of each
process, in which libraries are imported, is not counted.
"""

import argparse
import json
import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.correspondence import EXAMPLES
from refgc.imaging.image import Image, Mask, open_image, open_mask
from refgc.metrics.metric import Metric
from refgc.metrics.registry import select
from refgc.metrics.sample import Sample

FIDELITY = ("psnr", "ssim")
WEIGHT_FREE = ("psnr", "ssim", "flip", "inliers", "legibility")
PRODUCTS = tuple(sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "hrgt.jpg").is_file()))
# The bars: 1,000 results in ten minutes and 2 GB, and 15 pairs a minute.
PARTS = {"PSNR and SSIM": FIDELITY, "all without weights": WEIGHT_FREE}


@cache
def example(product: str) -> Sample:
    """An example at full size, its LRGI enlarged."""
    folder = EXAMPLES / product
    truth, reference = (open_image(folder / f"{name}.jpg", name=name) for name in ("hrgt", "hrri"))
    generated = open_image(folder / "lrgi.png", name="lrgi")
    return Sample(
        Image(cv2.resize(generated.pixels, truth.size, interpolation=cv2.INTER_LANCZOS4).astype(np.uint8)),
        truth,
        open_mask(folder / "hrgt_mask.png", size=truth.size, name="mask"),
        reference,
        open_mask(folder / "hrri_mask.png", size=reference.size, name="mask"),
    )


def pair(number: int) -> Sample:
    """One of any number of pairs, no two of which are the same."""
    given = example(PRODUCTS[number % len(PRODUCTS)])
    shift = number // len(PRODUCTS) + 1

    def moved(image: Image | None) -> Image:
        assert image is not None
        return Image(np.roll(image.pixels, shift, axis=1))

    def moved_mask(mask: Mask | None) -> Mask:
        assert mask is not None
        return Mask(np.roll(mask.values, shift, axis=1))

    return Sample(
        moved(given.result),
        moved(given.truth),
        moved_mask(given.truth_mask),
        moved(given.reference),
        moved_mask(given.reference_mask),
    )


@cache
def metrics_of(names: tuple[str, ...]) -> tuple[Metric, ...]:
    """The metrics of a process."""
    cv2.setNumThreads(1)
    selection = select(names)
    if selection.missing:
        raise SystemExit("\n".join(selection.missing))
    return selection.metrics


def measure(names: tuple[str, ...], number: int) -> tuple[dict[str, float], float]:
    """Processor seconds of one pair by metric, and the peak memory of this process in GB."""
    sample = pair(number)
    seconds = {}
    for metric in metrics_of(names):
        started = time.process_time()
        metric(sample)
        seconds[metric.name] = time.process_time() - started
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def run(names: tuple[str, ...], count: int, processes: int) -> dict[str, Any]:
    """Spreads pairs over processes."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        first = [pool.submit(measure, names, -1 - number) for number in range(2 * processes)]
        for one in first:
            one.result()
        started = time.perf_counter()
        found = list(pool.map(measure, [names] * count, range(count)))
        wall = time.perf_counter() - started
    return {
        "pairs": count,
        "processes": processes,
        "wall_seconds_per_pair": round(wall / count, 3),
        "pairs_per_minute": round(60 * count / wall, 1),
        "minutes_for_1000": round(1000 * wall / count / 60, 1),
        "peak_gigabytes_in_all": round(processes * max(memory for _, memory in found), 2),
        "processor_seconds": {name: round(float(np.mean([one[name] for one, _ in found])), 3) for name in names},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the metrics that need no weights.")
    parser.add_argument("--fidelity", type=int, default=200, metavar="N", help="pairs for PSNR and SSIM")
    parser.add_argument("--pairs", type=int, default=40, metavar="N", help="pairs for all metrics without weights")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--loaded", action="store_true", help="note that other work ran on the machine")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    counts = (options.fidelity, options.pairs)
    rows = {part: run(names, count, options.processes) for (part, names), count in zip(PARTS.items(), counts)}
    table = Table("metrics", "pairs", "s a pair", "pairs a minute", "minutes for 1,000", "GB in all")
    for part, row in rows.items():
        cells = [row[key] for key in ("pairs", "wall_seconds_per_pair", "pairs_per_minute", "minutes_for_1000")]
        table.add_row(part, *map(str, cells), str(row["peak_gigabytes_in_all"]))
    Console().print(table)
    if options.json:
        report = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "machine_was_loaded": options.loaded,
            "size": [1024, 1024],
            "runs": rows,
            "protocols": {metric.name: metric.protocol for metric in metrics_of(WEIGHT_FREE)},
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
