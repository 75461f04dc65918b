"""Measures the preview: seconds by stage, peak memory, and the ratio to plain matching and upscaling.

usage: python -m benchmarks.preview [--runs N] [--json FILE]

No GPU and no weights: the generated picture is simulated. Counted is all from the files of a pair to the files of its
preview. The yardstick is that of the correspondence engine, measured in the same run, in turn with the preview: SIFT on
the reference and on the generated picture, enlarged, and a Lanczos upscale to the scene's size. Every case runs in a
process of its own, so that its peak memory is its own. The pictures are the project's own examples.
"""

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.correspondence import EXAMPLES, match_and_upscale
from benchmarks.in_turn import Row, by_stage, figures, measure_apart, medians, options_of, write_json
from refgc.diptych.preview import PreviewResult, make_preview_request, preview
from refgc.imaging.arrays import resized
from refgc.imaging.image import Image, ImageSource, open_image
from refgc.outputs.preview import write_preview
from refgc.request import RefineRequest

EXAMPLE = EXAMPLES / "paperback"
LARGE_SIDE = 3072


def masks_given() -> dict[str, ImageSource]:
    """1024x1024, with the masks of both pictures."""
    return {
        **masks_found(),
        "reference_mask": EXAMPLE / "hrri_mask.png",
        "scene_mask": EXAMPLE / "hrgt_mask.png",
    }


def masks_found() -> dict[str, ImageSource]:
    """1024x1024, the objects to be found."""
    return {"reference": EXAMPLE / "hrri.jpg", "scene": EXAMPLE / "hrgt.jpg"}


def large() -> dict[str, ImageSource]:
    """As from a telephone: 3072x3072, the objects to be found."""
    pictures = {name: open_image(path, name=name).pixels for name, path in masks_found().items() if path is not None}
    return {name: resized(pixels, (LARGE_SIDE, LARGE_SIDE)) for name, pixels in pictures.items()}


CASES = {
    "1024x1024, masks given": masks_given,
    "1024x1024, masks found": masks_found,
    "3072x3072, masks found": large,
}


def make(sources: dict[str, Any]) -> PreviewResult:
    """One preview, from files to files."""
    result = preview(make_preview_request(**sources), generator="simulated")
    with tempfile.TemporaryDirectory() as folder:
        write_preview(result, Path(folder))
    return result


def measure(name: str, runs: int) -> Row:
    """Medians over `runs`, the preview and the yardstick in turn after one run of each that does not count."""
    sources = CASES[name]()
    report = make(sources).report
    reference = open_image(sources["reference"], name="reference")
    scene = open_image(sources["scene"], name="scene")
    yardstick_request = RefineRequest(
        reference, Image(resized(scene.pixels, report.generated_size)), scale=report.factor
    )
    match_and_upscale(yardstick_request)
    truth = f"{report.truth_size[0]}x{report.truth_size[1]}"
    timed = medians(lambda: make(sources).report.seconds, lambda: match_and_upscale(yardstick_request), runs)
    return {"case": name, "truth": truth, **timed}


def main() -> None:
    """Measure every case and print the table."""
    options = options_of(__doc__)
    rows = measure_apart(measure, CASES, options.runs)
    table = Table(title="preview, simulated")
    for heading in ("case", "seconds", "times the yardstick", "peak GB", "truth", "by stage"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row["case"], *figures(row), row["truth"], by_stage(row))
    Console(width=140).print(table)
    if options.json:
        write_json(options.json, options.runs, rows)


if __name__ == "__main__":
    main()
