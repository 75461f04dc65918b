"""Waiting for an engine: first come, first served, one at a time, and no more than can be served in good time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Condition, Event, Thread
from time import monotonic
from typing import Generic, TypeVar

from refgc.engine import Progress, Viewer
from refgc.errors import EngineError, RefGCError
from refgc.imaging.image import Image

# How much the newest run counts in the time that a run is expected to take.
NEWEST = 0.3


class BusyError(RefGCError):
    """There is no room in the line, or the turn did not come in time; to be tried again later."""


class Ticket:
    """One place in a line, from joining to the end of the run."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.joined = monotonic()
        self.begun: float | None = None
        self.given_up = False

    def wait(self) -> bool:
        """Blocks until it is this one's turn, and says so; False where it was given up before."""
        return self._line.begin(self)

    def give_up(self) -> None:
        """Leaves the line where this one still waits; a run that has begun holds its place until it ends."""
        self._line.give_up(self)

    def end(self) -> None:
        """The run is over; the next one's turn comes."""
        self._line.end(self)

    def outlook(self) -> tuple[int, float | None]:
        """How many are before this one, the running one included, and about how many seconds they will take.

        The seconds are None as long as no run has ended, and both are 0 once it has begun.
        """
        return self._line.outlook(self)

    @property
    def waited(self) -> float:
        """Seconds from joining until the turn came, or until now."""
        return (self.begun or monotonic()) - self.joined

    @property
    def ran(self) -> float | None:
        """Seconds since the turn came; None where it did not."""
        return None if self.begun is None else monotonic() - self.begun


class Line:
    """Who waits for one engine, and who is being served."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: Ticket | None = None
        self._usual_seconds: float | None = None

    def join(self, longest: int) -> Ticket:
        """A place at the end of the line.

        Args:
            longest: how many may wait, beside the one that is served.

        Raises:
            BusyError: so many wait already.
        """
        with self._changed:
            if len(self._waiting) + (self._running is not None) > longest:
                raise BusyError("The server is busy and its queue is full; please try again in a minute.")
            ticket = Ticket(self)
            self._waiting.append(ticket)
            return ticket

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        with self._changed:
            return len(self._waiting)

    @property
    def running_seconds(self) -> float | None:
        """For how long the present run has been going on; None while there is none."""
        with self._changed:
            begun = None if self._running is None else self._running.begun
            return None if begun is None else monotonic() - begun

    def begin(self, ticket: Ticket) -> bool:
        """See `Ticket.wait`."""
        with self._changed:
            self._changed.wait_for(lambda: ticket.given_up or (self._running is None and self._waiting[0] is ticket))
            if ticket.given_up:
                return False
            self._running = self._waiting.popleft()
            ticket.begun = monotonic()
            return True

    def give_up(self, ticket: Ticket) -> None:
        """See `Ticket.give_up`."""
        with self._changed:
            ticket.given_up = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self._changed.notify_all()

    def end(self, ticket: Ticket) -> None:
        """See `Ticket.end`."""
        with self._changed:
            self._running = None
            if ticket.begun is not None and not ticket.given_up:
                took = monotonic() - ticket.begun
                usual = took if self._usual_seconds is None else self._usual_seconds
                self._usual_seconds = (1 - NEWEST) * usual + NEWEST * took
            self._changed.notify_all()

    def outlook(self, ticket: Ticket) -> tuple[int, float | None]:
        """See `Ticket.outlook`."""
        with self._changed:
            if ticket not in self._waiting:
                return 0, 0.0
            waiting_before = self._waiting.index(ticket)
            before = waiting_before + (self._running is not None)
            if self._usual_seconds is None:
                return before, None
            begun = None if self._running is None else self._running.begun
            remaining = 0.0 if begun is None else max(0.0, self._usual_seconds - (monotonic() - begun))
            return before, waiting_before * self._usual_seconds + remaining


# ==== jobs
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
    work: Callable[[Progress, Viewer], Finished[Made]], ticket: Ticket, *, run_seconds: float, wait_seconds: float
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
    work: Callable[[Progress, Viewer], Finished[Made]], ticket: Ticket, given_up: Event
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
            ending = work(
                lambda stage, fraction: tell(Working(stage, fraction)),
                lambda stage, picture: tell(Seen(stage, picture)),
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
