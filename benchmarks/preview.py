"""Measures the preview: seconds by stage, peak memory, and the ratio to plain matching and upscaling.

usage: python -m benchmarks.preview [--runs N] [--json FILE]

No GPU and no weights: the generated picture is simulated. The time is that from the files of a pair to the files of its
preview. The baseline, which runs alternately with the preview, is that of the correspondence engine: SIFT on the
reference and on the enlarged generated picture, and a Lanczos upscale to the scene's size. Every case has a process of
its own, so that the peak memory is that of the case alone. The pictures are the project's own examples.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.correspondence import EXAMPLES, match_and_upscale
from benchmarks.timing import Row, run_benchmark, time_alternately
from refgc.diptych.preview import PreviewResult, make_preview_request, preview
from refgc.imaging.arrays import resized
from refgc.imaging.image import Image, ImageSource, open_image
from refgc.outputs.preview import write_preview
from refgc.request import RefineRequest

EXAMPLE = EXAMPLES / "paperback"
LARGE_SIDE = 3072


def masks_given() -> dict[str, ImageSource]:
    """1024x1024 pixels, with the masks of both pictures."""
    return {
        **masks_found(),
        "reference_mask": EXAMPLE / "hrri_mask.png",
        "scene_mask": EXAMPLE / "hrgt_mask.png",
    }


def masks_found() -> dict[str, ImageSource]:
    """1024x1024 pixels, without masks."""
    return {"reference": EXAMPLE / "hrri.jpg", "scene": EXAMPLE / "hrgt.jpg"}


def large() -> dict[str, ImageSource]:
    """The size of a telephone's photo: 3072x3072 pixels, without masks."""
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
    """Medians over `runs` of the preview and the baseline, after one run of each that is not counted."""
    sources = CASES[name]()
    report = make(sources).report
    reference = open_image(sources["reference"], name="reference")
    scene = open_image(sources["scene"], name="scene")
    baseline_request = RefineRequest(
        reference, Image(resized(scene.pixels, report.generated_size)), scale=report.factor
    )
    match_and_upscale(baseline_request)
    truth = f"{report.truth_size[0]}x{report.truth_size[1]}"
    timed = time_alternately(lambda: make(sources).report.seconds, lambda: match_and_upscale(baseline_request), runs)
    return {"case": name, "truth": truth, **timed}


def truth(row: Row) -> str:
    """The size of the true picture."""
    return str(row["truth"])


if __name__ == "__main__":
    run_benchmark(str(__doc__), "preview, simulated", CASES, measure, ("truth", truth))
