"""One refinement for a visitor, whether it was asked for on the page or by a script."""

from __future__ import annotations

from collections.abc import Generator

from refgc.demo.display import ShownResult, write_result
from refgc.demo.engine_call import EngineChoice, refine_with
from refgc.demo.jobs import Finished, Seen, Working
from refgc.demo.made_before import made_by, results
from refgc.demo.service import Job, note_again, served
from refgc.demo.storage import new_folder, remove
from refgc.doctor import may_choose_diffusion
from refgc.engines import EngineName, Progress, RefineRequest, Viewer


def refining(
    request: RefineRequest, visit: str, *, engine: EngineChoice = "auto"
) -> Generator[Working | Seen | Finished[ShownResult], None, None]:
    """Refines and writes everything that is shown of the result; closing the generator cancels.

    What was made before is given again at once: to whoever asks for the same with the same pictures. While others are
    served first, `Working` says how many and for about how long. Something is yielded at least every half second.

    Args:
        request: what to refine.
        visit: the visitor's session, by which limits are kept.
        engine: which engine; "auto" takes the best that this machine can run.

    Raises:
        InputError: the visitor has to change something.
        BusyError: too many wait already, or too many of this visit's runs do.
        EngineError: it cannot be done here, or took too long.
    """
    name = engine_of(engine)
    job = Job("refine", name, request.scale, {"reference": request.reference.size, "generated": request.generated.size})
    cache, folder = results(), new_folder("refined")
    key = cache.key(request, made_by(name)) if cache else ""
    if cache and (found := cache.give(key, folder)):
        note_again(job, visit)
        yield Finished(found, again=True)
        return

    def work(progress: Progress, viewer: Viewer) -> ShownResult:
        # Somebody else may have asked for the same just before.
        if cache and (found := cache.give(key, folder)):
            return found
        try:
            result = refine_with(engine, request, progress, viewer)
            progress("saving the pictures", 1.0)
            shown = write_result(result, folder)
        except BaseException:
            remove(folder)
            raise
        if cache:
            cache.keep(key, shown, folder)
        return shown

    yield from served(job, visit, work)


def engine_of(choice: EngineChoice) -> EngineName:
    """The engine that a choice means on this machine, without loading any."""
    if choice == "auto":
        return "diffusion" if may_choose_diffusion() else "correspondence"
    return choice
