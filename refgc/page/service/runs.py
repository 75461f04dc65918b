"""What stands between a visitor and the engines: whose turn it is, for how long, with how much room; noted down."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from refgc.diptych import sources
from refgc.diptych.preview import GeneratorChoice, PreviewRequest, preview
from refgc.doctor import may_choose_diffusion
from refgc.engine import EngineName, Progress, Viewer
from refgc.errors import InputError
from refgc.imaging.files import MEGABYTE
from refgc.page.preview.pictures import ShownPreview, ShownRefinement, write_refinement, write_shown
from refgc.page.refine.pictures import ShownResult, write_result
from refgc.page.service.cache import made_by, results
from refgc.page.service.gpu import EngineChoice, refine_with
from refgc.page.service.limits import Visits
from refgc.page.service.logs import Outcome, note_job
from refgc.page.service.queue import BusyError, Finished, Line, Seen, Ticket, TooLongError, Working, watched
from refgc.page.service.storage import NoRoomError, free_bytes, new_folder, remove, room_watched
from refgc.request import RefineRequest, make_request
from refgc.settings import Settings, settings

# One line for what keeps every core busy, one for what fills the GPU: the refinements and previews of an engine share
# theirs, since two at a time would only make both slower, or run out of memory; one on the processor does not have to
# wait for the GPU, nor the other way round.
LINES: dict[EngineName, Line] = {"correspondence": Line(), "diffusion": Line()}
VISITS = Visits()


@dataclass(frozen=True, slots=True)
class Job:
    """What may be written down of a run: nothing that is in a picture, or in its name.

    Attributes:
        kind: "refine" or "preview".
        engine: whose line it waits in.
        scale: output size over generated size.
        sizes: width and height in pixels of the pictures, by what they are.
    """

    kind: str
    engine: EngineName
    scale: int
    sizes: dict[str, tuple[int, int]]


class Reported(Protocol):
    """What a run makes: it has a report, with the seconds each stage took."""

    @property
    def report(self) -> object:
        """The report."""
        ...


Made = TypeVar("Made", bound=Reported)


def served(
    job: Job, visit: str, work: Callable[[Progress, Viewer], Made]
) -> Generator[Working | Seen | Finished[Made], None, None]:
    """Does one heavy job for a visitor when its turn comes, and yields what `refgc.page.service.queue.watched` does.

    Args:
        job: what is noted of it.
        visit: the visitor's session.
        work: called with the progress and the viewer that it is to tell.

    Raises:
        BusyError: too many wait, too many of this visit do, or the turn did not come in time.
        NoRoomError: the disk is full.
        TooLongError: the work took too long.
        Exception: what the work raised.
    """
    limits = settings()
    outcome: Outcome = "failed"
    ticket: Ticket | None = None
    made: Made | None = None
    failure: Exception | None = None
    try:
        make_room(limits)
        with VISITS.job(visit, most=limits.visit_jobs, per_hour=limits.visit_jobs_per_hour):
            ticket = LINES[job.engine].join(limits.max_waiting)
            for note in watched(
                room_watched(work), ticket, run_seconds=limits.run_seconds, wait_seconds=limits.wait_seconds
            ):
                if isinstance(note, Finished):
                    made = note.made
                    outcome = "done" if getattr(made.report, "placed", True) else "unplaced"
                yield note
    except GeneratorExit:
        outcome = "cancelled" if made is None else outcome
        raise
    except Exception as error:
        outcome, failure = _outcome_of(error), error
        raise
    finally:
        note_job(
            job.kind,
            outcome,
            visit=VISITS.number(visit),
            engine=job.engine,
            scale=job.scale,
            sizes=job.sizes,
            waited=None if ticket is None else ticket.waited,
            ran=None if ticket is None else ticket.ran,
            seconds=getattr(made and made.report, "seconds", None),
            failure=failure,
        )


def note_again(job: Job, visit: str) -> None:
    """Notes that a visitor was given what had been made before."""
    note_job(
        job.kind,
        "done",
        visit=VISITS.number(visit),
        engine=job.engine,
        scale=job.scale,
        sizes=job.sizes,
        again=True,
    )


def make_room(limits: Settings) -> None:
    """Forgets results made before where their room is needed.

    Raises:
        NoRoomError: the disk is full even so.
    """
    needed = limits.spare_megabytes * MEGABYTE
    if free_bytes() >= needed:
        return
    cache = results()
    if cache:
        cache.trim(0)
    if free_bytes() < needed:
        raise NoRoomError


def _outcome_of(error: Exception) -> Outcome:
    match error:
        case BusyError():
            return "busy"
        case TooLongError():
            return "timeout"
        case InputError():
            return "refused"
        case _:
            return "failed"


# ==== refining
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


# ==== previewing
# A preview's generated picture is so many times smaller than the truth; noted as the scale of making it.
SAME_SIZE = 1


def previewing(
    request: PreviewRequest, reference: Path, visit: str, *, generator: GeneratorChoice = "auto"
) -> Generator[Working | Seen | Finished[ShownPreview], None, None]:
    """Makes a generated picture and writes everything that is shown of it; closing the generator cancels.

    It waits in the line of the engine that it shares the machine's processor or GPU with, and yields as
    `refgc.page.service.runs.refining` does.

    Args:
        request: what to make.
        reference: the reference's file, which is shown as it is.
        visit: the visitor's session, by which limits are kept.
        generator: which one; "auto" takes the best that this machine can run.

    Raises:
        InputError: the visitor has to change something.
        BusyError: too many wait already, or too many of this visit's runs do.
        EngineError: it cannot be done here, or took too long.
    """

    def work(progress: Progress, viewer: Viewer) -> ShownPreview:  # noqa: ARG001 (it has no pictures on the way)
        folder = new_folder("preview")
        try:
            result = preview(request, generator=generator, progress=progress)
            progress("saving the pictures", 1.0)
            return write_shown(result, request, reference, folder)
        except BaseException:
            remove(folder)
            raise

    sizes = {"reference": request.reference.size, "scene": request.scene.size}
    return served(Job("preview", _line_of(generator), SAME_SIZE, sizes), visit, work)


def refining_preview(
    shown: ShownPreview, visit: str
) -> Generator[Working | Seen | Finished[ShownRefinement], None, None]:
    """Refines a preview with its own masks and compares the result to the truth; as `previewing`.

    Raises:
        InputError: the preview's files have been deleted for their age.
        BusyError: too many wait already, or too many of this visit's runs do.
        EngineError: it cannot be done here, or took too long.
    """
    reference_mask, generated_mask = shown.masks
    request = make_request(
        shown.reference,
        shown.generated,
        scale=shown.report.factor,
        reference_mask=reference_mask,
        generated_mask=generated_mask,
        seed=shown.report.seed,
    )

    def work(progress: Progress, viewer: Viewer) -> ShownRefinement:
        refined = refine_with("auto", request, progress, viewer)
        progress("comparing it with the truth", 1.0)
        return write_refinement(shown, refined)

    sizes = {"reference": request.reference.size, "generated": request.generated.size}
    yield from served(Job("refine preview", engine_of("auto"), request.scale, sizes), visit, work)


def _line_of(generator: GeneratorChoice) -> EngineName:
    """Whose line a preview waits in: the simulator needs the processor, DipRefGC the GPU."""
    if generator == "auto":
        return "correspondence" if sources.obstacle() or settings().device == "cpu" else "diffusion"
    return "correspondence" if generator == "simulated" else "diffusion"
