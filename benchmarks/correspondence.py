"""Measures the correspondence engine: seconds by stage, peak memory, and the ratio to plain matching and upscaling.

usage: python -m benchmarks.correspondence [--runs N] [--json FILE]

The baseline runs alternately with the engine: SIFT on the reference and on the generated picture (enlarged to the
engine's matching size where it is smaller), and a Lanczos upscale to the output's size. Every case has a process of its
own, so that the peak memory is that of the case alone. The pictures are the project's own examples.
"""

from pathlib import Path

import cv2
import numpy as np

from benchmarks.timing import Row, run_benchmark, time_alternately
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.correspondence.find import MATCHING_ENLARGEMENT, MATCHING_SIDE
from refgc.correspondence.match import CONTRAST_THRESHOLD, FEATURE_LIMIT
from refgc.imaging.image import Image, open_image
from refgc.imaging.warp import fitted
from refgc.request import RefineRequest, make_request

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def small_object() -> RefineRequest:
    """256 to 1024 pixels, an object on a plain background."""
    return make_request(EXAMPLES / "paperback" / "hrri.jpg", EXAMPLES / "paperback" / "lrgi.png")


def small_faces() -> RefineRequest:
    """256 to 1024 pixels, an object with several faces, which is more work."""
    return make_request(EXAMPLES / "camera" / "hrri.jpg", EXAMPLES / "camera" / "lrgi.png")


def small_cylinder() -> RefineRequest:
    """256 to 1024 pixels, a turned cylinder, whose print is unwrapped and aligned by a map."""
    return make_request(EXAMPLES / "mug" / "hrri.jpg", EXAMPLES / "mug" / "lrgi.png")


def small_plain_object() -> RefineRequest:
    """256 to 1024 pixels, an object with hardly any texture."""
    return make_request(EXAMPLES / "vase" / "hrri.jpg", EXAMPLES / "vase" / "lrgi.png")


def small_copies() -> RefineRequest:
    """320 x 256 to 1280 x 1024 pixels, two copies of one object side by side, both of which are refined."""
    generated = open_image(EXAMPLES / "oats_box" / "lrgi.png", name="generated picture").pixels
    box = generated[:, 48:208]
    return make_request(EXAMPLES / "oats_box" / "hrri.jpg", np.hstack([box, box]))


def small_references() -> RefineRequest:
    """256 to 1024 pixels, two references, of which only the first shows the object of the generated picture."""
    references = [EXAMPLES / "tea_tin" / "hrri.jpg", EXAMPLES / "sauce_bottle" / "hrri.jpg"]
    return make_request(references, EXAMPLES / "tea_tin" / "lrgi.png")


def small_unrelated() -> RefineRequest:
    """256 to 1024 pixels, another object: every placer is tried, and nothing is placed."""
    return make_request(EXAMPLES / "camera" / "hrri.jpg", EXAMPLES / "cushion" / "lrgi.png")


def small_scene() -> RefineRequest:
    """256 to 1024 pixels, one scene in both pictures, so that the whole frame is refined."""
    generated = open_image(EXAMPLES / "shoe_box" / "hrgt.jpg", name="generated picture").pixels
    shifted = np.roll(generated, (6, 10), axis=(0, 1))
    return make_request(shifted, cv2.resize(generated, (256, 256), interpolation=cv2.INTER_AREA))


def large_object() -> RefineRequest:
    """1024 to 4096 pixels, with a reference of 2048 pixels."""
    reference = open_image(EXAMPLES / "paperback" / "hrri.jpg", name="reference").pixels
    sharper = cv2.resize(reference, (2048, 2048), interpolation=cv2.INTER_LANCZOS4)
    return make_request(sharper, EXAMPLES / "paperback" / "hrgt.jpg")


def large_scene() -> RefineRequest:
    """1024 to 4096 pixels, one scene in both pictures."""
    generated = open_image(EXAMPLES / "shoe_box" / "hrgt.jpg", name="generated picture").pixels
    reference = np.roll(cv2.resize(generated, (2048, 2048), interpolation=cv2.INTER_LANCZOS4), (12, 20), axis=(0, 1))
    return make_request(reference, generated)


CASES = {
    "object, 256 to 1024": small_object,
    "faces, 256 to 1024": small_faces,
    "cylinder, 256 to 1024": small_cylinder,
    "plain object, 256 to 1024": small_plain_object,
    "two copies, 256 to 1024": small_copies,
    "two references, 256 to 1024": small_references,
    "another object, 256 to 1024": small_unrelated,
    "scene, 256 to 1024": small_scene,
    "object, 1024 to 4096": large_object,
    "scene, 1024 to 4096": large_scene,
}


def match_and_upscale(request: RefineRequest) -> None:
    """The baseline: features of both pictures, and a Lanczos upscale."""
    sift = cv2.SIFT_create(FEATURE_LIMIT, contrastThreshold=CONTRAST_THRESHOLD)
    enlarged = fitted(request.generated.size, max(MATCHING_SIDE, *request.generated.size), MATCHING_ENLARGEMENT)
    for picture, size in ((request.reference, request.reference.size), (request.generated, enlarged)):
        grey = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY)
        sift.detectAndCompute(cv2.resize(grey, size, interpolation=cv2.INTER_LANCZOS4), None)
    upscaled_size = (request.generated.size[0] * request.scale, request.generated.size[1] * request.scale)
    Image(cv2.resize(request.generated.pixels, upscaled_size, interpolation=cv2.INTER_LANCZOS4))


def measure(name: str, runs: int) -> Row:
    """Medians over `runs` of the engine and the baseline, after one run of each that is not counted."""
    request, engine = CASES[name](), CorrespondenceEngine()
    match_and_upscale(request)
    report = engine.refine(request).report
    timed = time_alternately(lambda: engine.refine(request).report.seconds, lambda: match_and_upscale(request), runs)
    return {"case": name, "placed": report.placed, "coverage": round(report.coverage, 3), **timed}


def placed(row: Row) -> str:
    """How much of the result has the reference's detail."""
    return f"{row['coverage']:.0%}" if row["placed"] else "no"


if __name__ == "__main__":
    run_benchmark(str(__doc__), "correspondence engine", CASES, measure, ("placed", placed))
