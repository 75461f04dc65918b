"""The queue of an engine: first come, first served, one run at a time, and no more than can be served in good time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Condition, Event, Thread
from time import monotonic
from typing import Generic, Protocol, TypeAlias, TypeVar

from refgc.engine import Progress
from refgc.errors import EngineError
from refgc.imaging.image import Image
from refgc.page.service.limits import BusyError
from refgc.page.service.rates import Rates, RunSize

Clock = Callable[[], float]

# Longest silence, so that it is soon noticed when a visitor has left or cancels.
HEARTBEAT_SECONDS = 0.5
QUEUE_FULL = "The server is busy and its queue is full; please try again in a minute."
TOO_LONG = (
    "This took longer than {limit} and was ended; choose a smaller scale or smaller pictures, or run it "
    "on a machine of your own."
)
WAITED_TOO_LONG = "The server is busy: your turn did not come within {limit}; please try again later."


class Entry(ABC):
    """One run in a queue, from when it enters the queue to its end."""

    def __init__(self, clock: Clock, size: RunSize) -> None:
        """It waits.

        Args:
            clock: of the queue.
            size: the work of the run, as far as it is known.
        """
        self._clock = clock
        # Whoever runs it says more when more is known.
        self.size = size
        self.entered = clock()
        self.begun: float | None = None
        self.cancelled = Event()

    @abstractmethod
    def wait(self) -> bool:
        """Waits for this run's turn; False where the run was cancelled before."""

    @abstractmethod
    def cancel(self) -> None:
        """Leaves the queue if the run still waits; a run that has begun keeps its turn until it ends."""

    @abstractmethod
    def end(self) -> None:
        """Ends the run, so that the next one's turn comes."""

    @abstractmethod
    def expected_wait(self) -> tuple[int, float]:
        """The number of runs before this one, and about how many seconds they take, each by its size.

        Those under way count. Both are 0 once the run has begun.
        """

    @property
    def waited(self) -> float:
        """Seconds from entering the queue until the turn came, or until now."""
        return (self._clock() if self.begun is None else self.begun) - self.entered

    @property
    def ran(self) -> float | None:
        """Seconds since the turn came; None where it has not."""
        return None if self.begun is None else self._clock() - self.begun


class Queue(Protocol):
    """The runs that wait for one engine, and those that are under way.

    Attributes:
        rates: how long runs take.
        at_once: how many may be under way.
    """

    rates: Rates
    at_once: int

    def enter(self, max_waiting: int, size: RunSize | None = None) -> Entry:
        """A place at the end of the queue; raises `BusyError` where so many wait already."""
        ...

    @property
    def waiting(self) -> int:
        """The number of runs of this page that wait for their turn."""
        ...

    @property
    def running_seconds(self) -> float | None:
        """How long the longest run of this page has been going on; None while there is none."""
        ...


class QueueEntry(Entry):
    """One run in the queue of an engine of this machine."""

    def __init__(self, queue: EngineQueue, clock: Clock, size: RunSize) -> None:
        """As `EngineQueue.enter` makes it."""
        super().__init__(clock, size)
        self._queue = queue

    def wait(self) -> bool:
        """Waits for this run's turn; False where the run was cancelled before."""
        return self._queue.begin(self)

    def cancel(self) -> None:
        """Leaves the queue if the run still waits; a run that has begun keeps its turn until it ends."""
        self._queue.cancel(self)

    def end(self) -> None:
        """Ends the run, so that the next one's turn comes."""
        self._queue.end()

    def expected_wait(self) -> tuple[int, float]:
        """The number of runs before this one, and about how many seconds they take, each by its size.

        The running one counts. Both are 0 once the run has begun.
        """
        return self._queue.expected_wait(self)


class EngineQueue:
    """The runs that wait for one engine of this machine, and the one that is running.

    Attributes:
        rates: how long runs take.
        at_once: how many may be under way.
    """

    at_once = 1

    def __init__(self, clock: Clock = monotonic, rates: Rates | None = None) -> None:
        """An empty queue.

        Args:
            clock: seconds that only go forward.
            rates: how long runs take; None takes those that were measured.
        """
        self.rates = rates or Rates()
        self._clock = clock
        self._changed = Condition()
        self._waiting: deque[QueueEntry] = deque()
        self._running: QueueEntry | None = None

    def enter(self, max_waiting: int, size: RunSize | None = None) -> QueueEntry:
        """A place at the end of the queue.

        Args:
            max_waiting: how many runs may wait, beside the running one.
            size: the work of the run, as far as it is known; None where nothing is.

        Raises:
            BusyError: so many wait already.
        """
        with self._changed:
            if len(self._waiting) + (self._running is not None) > max_waiting:
                raise BusyError(QUEUE_FULL)
            entry = QueueEntry(self, self._clock, size or RunSize())
            self._waiting.append(entry)
            return entry

    @property
    def waiting(self) -> int:
        """The number of runs that wait for their turn."""
        with self._changed:
            return len(self._waiting)

    @property
    def running_seconds(self) -> float | None:
        """How long the present run has been going on; None while there is none."""
        with self._changed:
            return None if self._running is None else self._running.ran

    def begin(self, entry: QueueEntry) -> bool:
        """See `QueueEntry.wait`."""

        def is_due() -> bool:
            return entry.cancelled.is_set() or (self._running is None and self._waiting[0] is entry)

        with self._changed:
            self._changed.wait_for(is_due)
            if entry.cancelled.is_set():
                return False
            self._running = self._waiting.popleft()
            entry.begun = self._clock()
            return True

    def cancel(self, entry: QueueEntry) -> None:
        """See `QueueEntry.cancel`."""
        with self._changed:
            entry.cancelled.set()
            if entry in self._waiting:
                self._waiting.remove(entry)
            self._changed.notify_all()

    def end(self) -> None:
        """See `QueueEntry.end`."""
        with self._changed:
            self._running = None
            self._changed.notify_all()

    def expected_wait(self, entry: QueueEntry) -> tuple[int, float]:
        """See `QueueEntry.expected_wait`."""
        with self._changed:
            if entry not in self._waiting:
                return 0, 0.0
            waiting = list(self._waiting)[: self._waiting.index(entry)]
            seconds = sum(self.rates.expected(one.size) for one in waiting)
            running = self._running
            if running is not None:
                seconds += max(0.0, self.rates.expected(running.size) - (running.ran or 0.0))
            return len(waiting) + (running is not None), seconds


Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Working:
    """A stage has begun, advances or goes on; `fraction` is in [0, 1] over the whole run."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True, eq=False)
class Seen(Generic[Made]):
    """A picture made on the way, or a result that a better one replaces, by the name of its stage."""

    stage: str
    picture: Image | Made


@dataclass(frozen=True, slots=True, eq=False)
class Finished(Generic[Made]):
    """The end, with what was made; `cached` where it came from the cache, and nothing was run."""

    made: Made
    cached: bool = False


# As `refgc.engine.Viewer`, with what is made in the place of an engine's result.
Show: TypeAlias = Callable[[str, Image | Made], None]
# The last argument is set when the run is cancelled or takes too long.
Work: TypeAlias = Callable[[Progress, Show[Made], Event], Finished[Made]]


class TooLongError(EngineError):
    """The run took longer than it may, and was cancelled."""


class RunCancelledError(Exception):
    """Raised by the progress and the viewer of a cancelled run, to end it."""


def run_in_turn(
    work: Work[Made], entry: Entry, *, run_seconds: float, wait_seconds: float
) -> Generator[Working | Seen[Made] | Finished[Made], None, None]:
    """Does heavy work in a thread of its own when its turn has come; yields its events, `Finished` last.

    Closing the generator cancels the run. A run that waits leaves the queue; one that has begun ends the next time it
    reports its progress, and keeps its turn until then.

    Args:
        work: called with its progress, its viewer, and an event that is set when the run is cancelled.
        entry: the place in the queue.
        run_seconds: longest run.
        wait_seconds: longest wait for the turn.

    Raises:
        BusyError: the turn did not come in time.
        TooLongError: the run took too long.
        Exception: what the work raised.
    """
    last = Working("starting", 0.0)
    try:
        # Within, so that a run whose thread cannot be started leaves the queue as well.
        events = _start(work, entry)
        while True:
            left = _seconds_left(entry, run_seconds, wait_seconds)
            try:
                event = events.get(timeout=min(HEARTBEAT_SECONDS, left))
            except Empty:
                yield Working(waiting_stage(*entry.expected_wait()), 0.0) if entry.begun is None else last
                continue
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Working):
                last = event
            yield event
            if isinstance(event, Finished):
                return
    finally:
        entry.cancel()


def waiting_stage(before: int, seconds: float) -> str:
    """The stage of a run that waits: the number of runs before it, and about how long they take."""
    place = "you are next" if before <= 1 else f"{before} runs before yours"
    return f"waiting for your turn, {place}, {rough_time(seconds)}"


def rough_time(seconds: float) -> str:
    """An estimate in words."""
    return "a few seconds" if seconds < 5 else f"about {rounded_time(seconds)}"


def rounded_time(seconds: float) -> str:
    """A length of time in words, rounded to 5 seconds or to minutes."""
    if seconds < 90:
        return f"{5 * max(1, round(seconds / 5))} seconds"
    return f"{round(seconds / 60)} minutes"


def _start(work: Work[Made], entry: Entry) -> SimpleQueue[Working | Seen[Made] | Finished[Made] | Exception]:
    """Starts the thread; its events, and at last its result or error, come through the queue."""
    events: SimpleQueue[Working | Seen[Made] | Finished[Made] | Exception] = SimpleQueue()

    def report(event: Working | Seen[Made]) -> None:
        if entry.cancelled.is_set():
            raise RunCancelledError
        events.put(event)

    def run() -> None:
        try:
            if not entry.wait():
                return
        except Exception as error:
            events.put(error)
            return
        ending: Finished[Made] | Exception
        try:
            ending = work(
                lambda stage, fraction: report(Working(stage, fraction)),
                lambda stage, picture: report(Seen(stage, picture)),
                entry.cancelled,
            )
        except Exception as error:
            ending = error
        finally:
            entry.end()
        events.put(ending)

    # In the caller's context, by which Gradio and the `spaces` package know whose request this is.
    Thread(target=copy_context().run, args=(run,), name="run", daemon=True).start()
    return events


def _seconds_left(entry: Entry, run_seconds: float, wait_seconds: float) -> float:
    ran = entry.ran
    left = wait_seconds - entry.waited if ran is None else run_seconds - ran
    if left > 0:
        return left
    if ran is None:
        raise BusyError(WAITED_TOO_LONG.format(limit=rounded_time(wait_seconds)))
    raise TooLongError(TOO_LONG.format(limit=rounded_time(run_seconds)))
