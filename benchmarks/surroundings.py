"""Measures the surroundings: gain over a Lanczos enlargement of plain, fast and best, with time and peak memory.

usage: python -m benchmarks.surroundings [--data FOLDER] [--json FILE]

Two kinds of small pictures are made of each example's truth: the example's own generated picture, compared around the
object only, and the truth shrunk four times. Of --data, each picture named hrgt.* in its folders, and the first
photograph of each folder of `dreambooth`, is shrunk as well. Every method runs in a process of its own, so that the
peak memory is its own; that of one picture from 1024 to 4096 pixels is measured last. The time is
that of all cores together, since other work on the machine changes it little: "processor seconds". Weights are those of
`refgc setup --surroundings`. All of it takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from skimage.metrics import structural_similarity

from refgc.imaging.arrays import Bytes
from refgc.imaging.image import open_image, open_mask
from refgc.imaging.upscale import clean_upscale
from refgc.machine import cores, processor
from refgc.request import Surroundings
from refgc.surroundings.enlarge import draw_surroundings

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
METHODS: tuple[Surroundings, ...] = ("plain", "fast", "best")
SCALE = 4
# Pixels of the truth around the object that are left out, since its edge is not that of the mask.
AROUND = 12
PHOTO_SIDE = 1024


class Case(NamedTuple):
    """One small picture, its truth, and which pixels of the truth count."""

    kind: str
    name: str
    small: Bytes
    truth: Bytes
    counts: NDArray[np.bool_]


def cases(data: Path | None) -> Iterator[Case]:
    for folder in sorted(path.parent for path in EXAMPLES.glob("*/hrgt.jpg")):
        truth_picture = open_image(folder / "hrgt.jpg", name="truth")
        truth = truth_picture.pixels
        mask = open_mask(folder / "hrgt_mask.png", size=truth_picture.size, name="mask").values
        grown = cv2.dilate(np.asarray(mask, np.float32), np.ones((2 * AROUND + 1,) * 2, np.uint8))
        generated = open_image(folder / "lrgi.png", name="generated picture").pixels
        yield Case("generated, around the object", folder.name, generated, truth, grown == 0)
        yield shrunk("truth, shrunk", folder.name, truth)
    if data is not None:
        for file in sorted(data.glob("*/hrgt.*")):
            yield shrunk("photo, shrunk", file.parent.name, open_image(file, name="photo").pixels)
        for folder in sorted(path for path in data.glob("dreambooth/*") if path.is_dir()):
            file = next(path for path in sorted(folder.iterdir()) if "mask" not in path.name)
            yield shrunk("photo, shrunk", folder.name, open_image(file, name="photo").pixels)


def shrunk(kind: str, name: str, truth: Bytes) -> Case:
    """A picture shrunk four times, cropped to whole pixels."""
    height, width = (min(side, PHOTO_SIDE) // SCALE * SCALE for side in truth.shape[:2])
    part = truth[:height, :width]
    small = cv2.resize(part, (width // SCALE, height // SCALE), interpolation=cv2.INTER_AREA)
    return Case(kind, name, np.asarray(small, np.uint8), part, np.ones((height, width), bool))


def measured(method: Surroundings, data: Path | None) -> dict[str, Any]:
    """Gains of one method over Lanczos by kind and picture, and its time and peak memory."""
    gains: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    seconds = []
    for case in cases(data):
        size = (case.truth.shape[1], case.truth.shape[0])
        plain = clean_upscale(case.small, size)
        started = time.process_time()
        result = draw_surroundings(case.small, plain, method)
        seconds.append(time.process_time() - started)
        lanczos = np.asarray(cv2.resize(case.small, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)
        (decibels, similarity), (before, similarity_before) = (quality(picture, case) for picture in (result, lanczos))
        gains[case.kind][case.name] = (round(decibels - before, 3), round(similarity - similarity_before, 4))
    return {
        "gains": gains,
        "processor seconds, 256 to 1024": round(float(np.median(seconds)), 2),
        "peak gigabytes, 256 to 1024": peak(),
    }


def quality(picture: Bytes, case: Case) -> tuple[float, float]:
    """PSNR in dB and SSIM of the luma, of the pixels that count."""
    error = ((picture.astype(np.float64) - case.truth) ** 2).mean(axis=2)[case.counts].mean()
    grey = [cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in (picture, case.truth)]
    _, similarity = structural_similarity(  # type: ignore[no-untyped-call]
        *grey, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return float(10 * np.log10(255**2 / error)), float(similarity[case.counts].mean())


def large(method: Surroundings) -> dict[str, float]:
    """Time and peak memory of one picture from 1024 to 4096 pixels."""
    pixels = open_image(EXAMPLES / "shoe_box" / "hrgt.jpg", name="picture").pixels
    plain = clean_upscale(pixels, (pixels.shape[1] * SCALE, pixels.shape[0] * SCALE))
    started = time.process_time()
    draw_surroundings(pixels, plain, method)
    return {
        "processor seconds, 1024 to 4096": round(time.process_time() - started, 2),
        "peak gigabytes, 1024 to 4096": peak(),
    }


def peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of photographs")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = {}
    for method in METHODS:
        figures = {}
        for work, arguments in ((measured, (method, options.data)), (large, (method,))):
            with context.Pool(1) as pool:
                figures.update(pool.apply(work, arguments))
        results[method] = figures
    machine = {"processor": processor(), "cores": cores(), "opencv": cv2.__version__}
    show(results, machine)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "methods": results}, indent=2) + "\n")


def show(results: dict[Surroundings, dict[str, Any]], machine: dict[str, Any]) -> None:
    table = Table("method", "pictures", "dB, mean", "dB, worst", "SSIM, mean", "SSIM, worst")
    costs = Table("method", *(name for name in results["plain"] if name != "gains"))
    for method, figures in results.items():
        for kind, by_name in figures["gains"].items():
            gains = np.array(list(by_name.values()))
            mean, worst = gains.mean(axis=0), gains.min(axis=0)
            table.add_row(method, kind, f"{mean[0]:+.2f}", f"{worst[0]:+.2f}", f"{mean[1]:+.3f}", f"{worst[1]:+.3f}")
        costs.add_row(method, *(str(value) for name, value in figures.items() if name != "gains"))
    console = Console(width=140)
    console.print("Gain over a Lanczos enlargement;", ", ".join(f"{name} {value}" for name, value in machine.items()))
    console.print(table, costs)


if __name__ == "__main__":
    main()
