"""One refinement for a visitor, whether it was asked for on the page or by a script."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from refgc.demo.display import ShownResult, write_result
from refgc.demo.jobs import Finished, Seen, Working
from refgc.demo.service import Job, served
from refgc.demo.storage import new_folder, remove
from refgc.doctor import may_choose_diffusion
from refgc.engines import EngineName, Progress, RefineRequest, Viewer, choose

EngineChoice = Literal["auto", "correspondence", "diffusion"]


def refining(
    request: RefineRequest, visit: str, *, engine: EngineChoice = "auto"
) -> Generator[Working | Seen | Finished[ShownResult], None, None]:
    """Refines and writes everything that is shown of the result; closing the generator cancels.

    While others are served first, `Working` says how many and for about how long. Something is yielded at least every
    half second.

    Args:
        request: what to refine.
        visit: the visitor's session, by which limits are kept.
        engine: which engine; "auto" takes the best that this machine can run.

    Raises:
        InputError: the visitor has to change something.
        BusyError: too many wait already, or too many of this visit's runs do.
        EngineError: it cannot be done here, or took too long.
    """
    folder = new_folder("refined")

    def work(progress: Progress, viewer: Viewer) -> ShownResult:
        try:
            result = choose(engine).refine(request, progress, viewer)
            progress("saving the pictures", 1.0)
            return write_result(result, folder)
        except BaseException:
            remove(folder)
            raise

    sizes = {"reference": request.reference.size, "generated": request.generated.size}
    return served(Job("refine", engine_of(engine), request.scale, sizes), visit, work)


def engine_of(choice: EngineChoice) -> EngineName:
    """The engine that a choice means on this machine, without loading any."""
    if choice == "auto":
        return "diffusion" if may_choose_diffusion() else "correspondence"
    return choice
