"""Heavy work done beside the page: it waits for its turn, is watched as it goes, and ends when nobody wants it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Generic, TypeVar

from refgc.demo.line import BusyError, Ticket
from refgc.engines import Progress, Viewer
from refgc.errors import EngineError
from refgc.images import Image

Made = TypeVar("Made")

# Something is told at least so often, so that a visitor who has gone, or cancels, is noticed.
HEARTBEAT_SECONDS = 0.5
TOO_LONG = (
    "This took longer than {limit} and was ended; choose a smaller scale or smaller pictures, or run it "
    "on a machine of your own."
)
WAITED_TOO_LONG = "The server is busy: your turn did not come within {limit}; please try again later."


@dataclass(frozen=True, slots=True)
class Working:
    """A stage has begun, or advanced, or goes on; `fraction` is in [0, 1] over the whole work."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A picture made on the way, by its stage's name."""

    stage: str
    picture: Image


@dataclass(frozen=True, slots=True, eq=False)
class Finished(Generic[Made]):
    """The end, with what was made; `again` where it was made before, and nothing was run."""

    made: Made
    again: bool = False


class TooLongError(EngineError):
    """The work took longer than it may, and was given up."""


class _NobodyWaitsError(Exception):
    """Raised inside the work to end it."""


def watched(
    work: Callable[[Progress, Viewer], Made], ticket: Ticket, *, run_seconds: float, wait_seconds: float
) -> Generator[Working | Seen | Finished[Made], None, None]:
    """Does heavy work in a thread of its own when its turn has come, and yields what it tells, `Finished` last.

    Closing the iterator gives the work up: it leaves the line, or ends the next time it tells its progress; its turn
    ends with it.

    Args:
        work: called with the progress and the viewer it is to tell.
        ticket: the place in the line, just taken.
        run_seconds: how long the work may take.
        wait_seconds: how long the turn may be waited for.

    Raises:
        BusyError: the turn did not come in time.
        TooLongError: so did the work, which was given up.
        Exception: what the work raised.
    """
    given_up = Event()
    told = _start(work, ticket, given_up)
    last = Working("starting", 0.0)
    try:
        while True:
            left = _seconds_left(ticket, run_seconds, wait_seconds)
            try:
                note = told.get(timeout=min(HEARTBEAT_SECONDS, left))
            except Empty:
                yield Working(waiting_stage(*ticket.outlook()), 0.0) if ticket.begun is None else last
                continue
            if isinstance(note, Exception):
                raise note
            if isinstance(note, Working):
                last = note
            yield note
            if isinstance(note, Finished):
                return
    finally:
        given_up.set()
        ticket.give_up()


def waiting_stage(before: int, seconds: float | None) -> str:
    """What someone who waits is told: how many come first, and about how long that takes."""
    who = "you are next" if before <= 1 else f"{before} runs before yours"
    if seconds is None:
        return f"waiting for your turn, {who}"
    if seconds < 5:
        return f"waiting for your turn, {who}, a few seconds"
    return f"waiting for your turn, {who}, about {spoken(seconds)}"


def spoken(seconds: float) -> str:
    """A length of time as people say it, rounded."""
    if seconds < 90:
        return f"{5 * max(1, round(seconds / 5))} seconds"
    return f"{round(seconds / 60)} minutes"


def _start(
    work: Callable[[Progress, Viewer], Made], ticket: Ticket, given_up: Event
) -> SimpleQueue[Working | Seen | Finished[Made] | Exception]:
    """Starts the thread; what it tells comes through the queue."""
    told: SimpleQueue[Working | Seen | Finished[Made] | Exception] = SimpleQueue()

    def tell(note: Working | Seen) -> None:
        if given_up.is_set():
            raise _NobodyWaitsError
        told.put(note)

    def run() -> None:
        if not ticket.wait():
            return
        ending: Finished[Made] | Exception
        try:
            ending = Finished(
                work(
                    lambda stage, fraction: tell(Working(stage, fraction)),
                    lambda stage, picture: tell(Seen(stage, picture)),
                )
            )
        except _NobodyWaitsError:
            return
        except Exception as error:
            ending = error
        finally:
            ticket.end()
        told.put(ending)

    # In the caller's context, by which Gradio and what stands around it know whose request this is.
    Thread(target=copy_context().run, args=(run,), name="work", daemon=True).start()
    return told


def _seconds_left(ticket: Ticket, run_seconds: float, wait_seconds: float) -> float:
    begun = ticket.begun
    left = wait_seconds - ticket.waited if begun is None else begun + run_seconds - monotonic()
    if left > 0:
        return left
    if begun is None:
        raise BusyError(WAITED_TOO_LONG.format(limit=spoken(wait_seconds)))
    raise TooLongError(TOO_LONG.format(limit=spoken(run_seconds)))
