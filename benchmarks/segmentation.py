"""Measures the weight-free segmenter on the examples: overlap with the true masks, and time per mark.

usage: python -m benchmarks.segmentation [--json FILE]

Both pictures of each example, 1024x1024 pixels, against their rendered masks. The marks are: the bounding box of the
true mask, exact or with a margin; one click at the centroid of the true mask, then further clicks, each at the deepest
point of the largest remaining error; and none. A picture in which nothing is found counts as 0. Seconds are processor
time of one core, not wall-clock time.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.correspondence import EXAMPLES
from refgc.errors import InputError
from refgc.imaging.image import MARKED, Image, Mask, open_image, open_mask
from refgc.masks import Prompt
from refgc.masks.grabcut import GrabCutSegmenter
from refgc.masks.prompt import Box, Point

SEGMENTER = GrabCutSegmenter()
KINDS = {"hrri": "reference", "hrgt": "scene"}
MARGINS = {"box": 0.0, "box, 5 % wider": 0.05, "box, 10 % wider": 0.1}
CLICKS = 5

Bools = NDArray[np.bool_]
Measured = tuple[str, float, float]
"""The kind of marks, intersection over union with the true mask, and seconds."""


def measure(image: Image, truth: Bools) -> Iterator[Measured]:
    """Every kind of mark in one picture."""
    for name, margin in MARGINS.items():
        found, seconds = find(image, Prompt(image.size, box=box_around(truth, margin)))
        yield name, overlap(found, truth), seconds
    for number, (found, seconds) in enumerate(after_each_click(image, truth), start=1):
        yield f"{number} click{'s' * (number > 1)}", overlap(found, truth), seconds
    found, seconds = find(image, Prompt(image.size))
    yield "no mark", overlap(found, truth), seconds


def after_each_click(image: Image, truth: Bools) -> Iterator[tuple[Bools, float]]:
    """The mask after one click, after two, and so on, each with its seconds."""
    rows, columns = np.nonzero(truth)
    positive: tuple[Point, ...] = ((round(columns.mean()), round(rows.mean())),)
    negative: tuple[Point, ...] = ()
    for _ in range(CLICKS):
        found, seconds = find(image, Prompt(image.size, positive=positive, negative=negative))
        yield found, seconds
        missing, excess = deepest(truth & ~found), deepest(found & ~truth)
        if missing[0] >= excess[0]:
            positive = tuple(dict.fromkeys((*positive, missing[1])))
        else:
            negative = tuple(dict.fromkeys((*negative, excess[1])))


def find(image: Image, prompt: Prompt) -> tuple[Bools, float]:
    """The mask, and the processor time in seconds."""
    started = time.process_time()
    try:
        found = solid(SEGMENTER.segment(image, prompt))
    except InputError:
        found = np.zeros((image.size[1], image.size[0]), np.bool_)
    return found, time.process_time() - started


def solid(mask: Mask) -> Bools:
    return mask.values >= MARKED


def overlap(found: Bools, truth: Bools) -> float:
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)


def box_around(truth: Bools, margin: float) -> Box:
    left, top, width, height = cv2.boundingRect(truth.astype(np.uint8))
    across, down = round(margin * width), round(margin * height)
    return left - across, top - down, left + width + across, top + height + down


def deepest(wrong: Bools) -> tuple[float, Point]:
    """The point of an error that is farthest from the error's edge: its distance in pixels, and (x, y)."""
    depth = cv2.distanceTransform(np.pad(wrong.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(depth[row, column]), (int(column), int(row))


def pictures() -> Iterator[tuple[str, Image, Bools]]:
    """Both pictures of each example with their true masks."""
    for folder in sorted(path.parent for path in EXAMPLES.glob("*/meta.json")):
        for kind, name in KINDS.items():
            image = open_image(folder / f"{kind}.jpg", name=name)
            mask = open_mask(folder / f"{kind}_mask.png", size=image.size, name=f"{name} mask")
            yield f"{folder.name}, {name}", image, solid(mask)


def summary(figures: dict[str, list[Measured]], of: Callable[[list[float]], float], what: int) -> dict[str, float]:
    """One figure for each kind of marks, over all pictures."""
    marks = [name for name, _, _ in next(iter(figures.values()))]
    return {
        name: round(of([float(measured[index][what]) for measured in figures.values()]), 3)
        for index, name in enumerate(marks)
    }


def report(figures: dict[str, list[Measured]]) -> dict[str, Any]:
    """All figures, as they are written to the JSON file."""
    return {
        "machine": {"system": platform.machine(), "opencv": cv2.__version__},
        "mean overlap": summary(figures, statistics.mean, 1),
        "least overlap": summary(figures, min, 1),
        "median seconds of one core": summary(figures, statistics.median, 2),
        "most seconds of one core": summary(figures, max, 2),
        "overlaps": {
            name: {marks: round(value, 3) for marks, value, _ in measured} for name, measured in figures.items()
        },
    }


def main() -> None:
    """Measure every picture and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    file = parser.parse_args().json
    cv2.setNumThreads(1)
    found = report({name: list(measure(image, truth)) for name, image, truth in pictures()})
    table = Table("", *found["mean overlap"], title="intersection over union with the true mask")
    for name, overlaps in found["overlaps"].items():
        table.add_row(name, *(f"{value:.3f}" for value in overlaps.values()))
    table.add_section()
    for name in ("mean overlap", "least overlap", "median seconds of one core", "most seconds of one core"):
        table.add_row(name, *(f"{value:.3f}" for value in found[name].values()))
    Console(width=140).print(table)
    if file:
        file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
