"""Measures the correspondence engine: seconds by stage, peak memory, and the ratio to plain matching and upscaling.

usage: python -m benchmarks.correspondence [--runs N] [--json FILE]

The yardstick is measured in the same run, in turn with the engine: SIFT on the reference and on the generated picture
(enlarged to the engine's matching size where it is smaller), and a Lanczos upscale to the output's size. Every case
runs in a process of its own, so that its peak memory is its own. The pictures are the project's own examples.
"""

from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.in_turn import Row, by_stage, figures, measure_apart, medians, options_of, write_json
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.correspondence.find import MATCHING_ENLARGEMENT, MATCHING_SIDE
from refgc.correspondence.match import CONTRAST_THRESHOLD, FEATURE_LIMIT
from refgc.imaging.image import Image, open_image
from refgc.imaging.warp import fitted
from refgc.request import RefineRequest, make_request

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def small_object() -> RefineRequest:
    """256 to 1024: an object, cut out of its photo."""
    return make_request(EXAMPLES / "paperback" / "hrri.jpg", EXAMPLES / "paperback" / "lrgi.png")


def small_faces() -> RefineRequest:
    """256 to 1024: an object of several faces, which is more work."""
    return make_request(EXAMPLES / "camera" / "hrri.jpg", EXAMPLES / "camera" / "lrgi.png")


def small_scene() -> RefineRequest:
    """256 to 1024: one scene in both pictures, the whole frame refined."""
    generated = open_image(EXAMPLES / "shoe_box" / "hrgt.jpg", name="generated picture").pixels
    shifted = np.roll(generated, (6, 10), axis=(0, 1))
    return make_request(shifted, cv2.resize(generated, (256, 256), interpolation=cv2.INTER_AREA))


def large_object() -> RefineRequest:
    """1024 to 4096, with a reference of 2048."""
    reference = open_image(EXAMPLES / "paperback" / "hrri.jpg", name="reference").pixels
    sharper = cv2.resize(reference, (2048, 2048), interpolation=cv2.INTER_LANCZOS4)
    return make_request(sharper, EXAMPLES / "paperback" / "hrgt.jpg")


def large_scene() -> RefineRequest:
    """1024 to 4096, one scene in both pictures."""
    generated = open_image(EXAMPLES / "shoe_box" / "hrgt.jpg", name="generated picture").pixels
    reference = np.roll(cv2.resize(generated, (2048, 2048), interpolation=cv2.INTER_LANCZOS4), (12, 20), axis=(0, 1))
    return make_request(reference, generated)


CASES = {
    "object, 256 to 1024": small_object,
    "faces, 256 to 1024": small_faces,
    "scene, 256 to 1024": small_scene,
    "object, 1024 to 4096": large_object,
    "scene, 1024 to 4096": large_scene,
}


def match_and_upscale(request: RefineRequest) -> None:
    """The yardstick."""
    sift = cv2.SIFT_create(FEATURE_LIMIT, contrastThreshold=CONTRAST_THRESHOLD)
    enlarged = fitted(request.generated.size, max(MATCHING_SIDE, *request.generated.size), MATCHING_ENLARGEMENT)
    for picture, size in ((request.reference, request.reference.size), (request.generated, enlarged)):
        grey = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY)
        sift.detectAndCompute(cv2.resize(grey, size, interpolation=cv2.INTER_LANCZOS4), None)
    upscaled_size = (request.generated.size[0] * request.scale, request.generated.size[1] * request.scale)
    Image(cv2.resize(request.generated.pixels, upscaled_size, interpolation=cv2.INTER_LANCZOS4))


def measure(name: str, runs: int) -> Row:
    """Medians over `runs`, the engine and the yardstick in turn after one run of each that does not count."""
    request, engine = CASES[name](), CorrespondenceEngine()
    match_and_upscale(request)
    report = engine.refine(request).report
    timed = medians(lambda: engine.refine(request).report.seconds, lambda: match_and_upscale(request), runs)
    return {"case": name, "placed": report.placed, "coverage": round(report.coverage, 3), **timed}


def main() -> None:
    """Measure every case and print the table."""
    options = options_of(__doc__)
    rows = measure_apart(measure, CASES, options.runs)
    table = Table(title="correspondence engine")
    for heading in ("case", "seconds", "times the yardstick", "peak GB", "placed", "by stage"):
        table.add_column(heading)
    for row in rows:
        placed = f"{row['coverage']:.0%}" if row["placed"] else "no"
        table.add_row(row["case"], *figures(row), placed, by_stage(row))
    Console(width=140).print(table)
    if options.json:
        write_json(options.json, options.runs, rows)


if __name__ == "__main__":
    main()
