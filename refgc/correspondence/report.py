"""The report: what was done, in a person's words and in numbers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

import cv2
import numpy as np

from refgc import __version__
from refgc.correspondence.find import Finding
from refgc.engine import Progress, Report
from refgc.imaging.arrays import Floats
from refgc.request import RefineRequest

# From this trust on a pixel counts as taken from the reference.
TAKEN = 0.25
NOT_PLACED = "The reference could not be found in the picture with confidence, so the result is a clean upscale."
NOT_TRUSTED = (
    "The reference was found, but nowhere does it fit the picture well enough, so the result is a clean upscale."
)
NOT_WANTED = "Nothing of the reference was asked for (strength 0), so the result is a clean upscale."


@dataclass
class Stopwatch:
    """Wall-clock seconds by stage, told to the watcher as each stage begins."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, begins_at: float) -> Iterator[None]:
        """Times what runs inside; `begins_at` is the share of the whole run that lies behind."""
        self.progress(name, begins_at)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)


def not_placed(request: RefineRequest, seconds: dict[str, float], why: str = NOT_PLACED) -> Report:
    """The report of a plain upscale, with the sentence that says why it is one."""
    return _report(request, seconds, why, placed=False, confidence=0.0, coverage=0.0, matches=0, object_box=None)


def placed(request: RefineRequest, seconds: dict[str, float], found: Finding, taken: Floats) -> Report:
    """The report of a refinement.

    Args:
        request: what was asked for.
        seconds: by stage.
        found: where the object is.
        taken: (height, width) of the output, share of each pixel that may come from the reference.
    """
    rows, columns = np.flatnonzero(taken.max(axis=1) > TAKEN), np.flatnonzero(taken.max(axis=0) > TAKEN)
    if request.strength == 0.0 or len(rows) == 0:
        return not_placed(request, seconds, NOT_WANTED if request.strength == 0.0 else NOT_TRUSTED)
    coverage = float((taken > TAKEN).mean())
    what = "scene" if found.object_mask is None else "object"
    return _report(
        request,
        seconds,
        f"The reference's {what} was found in the picture; {coverage:.0%} of the result has its detail.",
        placed=True,
        confidence=found.confidence,
        coverage=coverage,
        matches=len(found.matches),
        object_box=(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
    )


def _report(
    request: RefineRequest,
    seconds: dict[str, float],
    message: str,
    *,
    placed: bool,
    confidence: float,
    coverage: float,
    matches: int,
    object_box: tuple[int, int, int, int] | None,
) -> Report:
    width, height = request.generated.size
    return Report(
        engine="correspondence",
        placed=placed,
        message=message,
        confidence=confidence,
        coverage=coverage,
        matches=matches,
        object_box=object_box,
        scale=request.scale,
        strength=request.strength,
        seed=request.seed,
        reference_size=request.reference.size,
        generated_size=request.generated.size,
        output_size=(width * request.scale, height * request.scale),
        seconds=seconds,
        versions={"refgc": __version__, "opencv": cv2.__version__, "numpy": version("numpy")},
    )
