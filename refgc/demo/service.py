"""What stands between a visitor and the engines: whose turn it is, for how long, with how much room; noted down."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from refgc.demo.jobs import Finished, Seen, TooLongError, Working, watched
from refgc.demo.line import BusyError, Line, Ticket
from refgc.demo.logs import Outcome, note_job
from refgc.demo.made_before import MEGABYTE, results
from refgc.demo.service_settings import ServiceSettings, settings
from refgc.demo.storage import NoRoomError, free_bytes, room_watched
from refgc.demo.visits import Visits
from refgc.engines import EngineName, Progress, Viewer
from refgc.errors import InputError

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
    """Does one heavy job for a visitor when its turn comes, and yields what `refgc.demo.jobs.watched` does.

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


def make_room(limits: ServiceSettings) -> None:
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
