"""One refinement for a visitor, whether it was asked for on the page or by a script."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Literal
from uuid import uuid4

from gradio.utils import get_upload_folder

from refgc.demo.display import ShownResult, write_result
from refgc.demo.jobs import Finished, Seen, Working, watched
from refgc.engines import Progress, RefineRequest, Viewer, choose

EngineChoice = Literal["auto", "correspondence", "diffusion"]

LONGEST_SECONDS = 15 * 60.0


def refining(
    request: RefineRequest, visit: str, *, engine: EngineChoice = "auto"
) -> Generator[Working | Seen | Finished[ShownResult], None, None]:
    """Refines and writes everything that is shown of the result; closing the generator cancels.

    Args:
        request: what to refine.
        visit: the visitor's session, by which limits are kept.
        engine: which engine; "auto" takes the best that this machine can run.

    Raises:
        InputError: the visitor has to change something.
        EngineError: it cannot be done here, or took too long.
    """
    folder = Path(get_upload_folder()) / "refined" / uuid4().hex

    def work(progress: Progress, viewer: Viewer) -> ShownResult:
        result = choose(engine).refine(request, progress, viewer)
        progress("saving the pictures", 1.0)
        return write_result(result, folder)

    return watched(work, longest_seconds=LONGEST_SECONDS)
