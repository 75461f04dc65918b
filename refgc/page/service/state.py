"""What pages that serve the same visitors have in common: in this process and its folder, or behind `refgc serve`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic

from limits.storage import MemoryStorage, Storage

from refgc.engine import EngineName
from refgc.errors import EngineError, quoted
from refgc.page.service.cache import ResultCache, open_cache
from refgc.page.service.limits import BusyError
from refgc.page.service.queue import QUEUE_FULL, Clock, EngineQueue, Entry, Queue
from refgc.page.service.rates import MEASURED, Rates, RunSize
from refgc.serve.client import Place, ServeClient
from refgc.settings import Settings

# A run that waits asks for its turn in questions of this length, so that it is soon noticed when it is cancelled.
ASK_SECONDS = 0.5
# A run that is under way says so now and then; see `refgc.serve.turns.LEASE_SECONDS`.
HOLD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SharedState:
    """The interface to everything that pages have in common.

    Attributes:
        queues: of refinements, by engine.
        counts: what each address has begun in an hour, as the package `limits` keeps it.
        cache: the results of earlier runs; None where none are kept.
        visits: the folder in which each browser's results are kept; None keeps them in this process.
    """

    queues: Mapping[EngineName, Queue]
    counts: Storage
    cache: ResultCache | None = None
    visits: Path | None = None


def own_state(cache: ResultCache | None = None, clock: Clock = monotonic) -> SharedState:
    """The state of a page that is alone.

    Args:
        cache: the results of earlier runs.
        clock: seconds that only go forward.
    """
    return SharedState({name: EngineQueue(clock, Rates(name)) for name in MEASURED}, MemoryStorage(), cache)


def open_state(settings: Settings, served: ServeClient | None, clock: Clock = monotonic) -> SharedState:
    """The state as the settings say: queues and counts behind `refgc serve`, results in the folder of all pages.

    Args:
        settings: `serve` and `shared` among them.
        served: the client of `settings.serve`; None where that is not set.
        clock: seconds that only go forward.

    Raises:
        EngineError: nobody answers at `settings.serve`, or the folder cannot be used.
    """
    cache, visits = open_cache(settings), None
    if settings.shared is not None:
        visits = Path(settings.shared).absolute() / "visits"
        try:
            visits.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"REFGC_SHARED, {quoted(settings.shared)}, cannot be used ({error.strerror}); give a folder that all "
                "pages can write to."
            ) from error
    if served is None:
        own = own_state(cache, clock)
        return SharedState(own.queues, own.counts, cache, visits)
    queues: dict[EngineName, Queue] = {
        name: ServedQueue(served, name, engine.slots, clock) for name, engine in served.engines().items()
    }
    return SharedState(queues, ServedCounts(served), cache, visits)


class ServedQueue:
    """The common queue of an engine, as one page sees it.

    Attributes:
        rates: how long the runs of this page take.
        at_once: how many runs of all pages may be under way.
    """

    def __init__(self, client: ServeClient, engine: EngineName, at_once: int, clock: Clock = monotonic) -> None:
        """Without runs of this page.

        Args:
            client: asks the common state.
            engine: whose queue.
            at_once: how many runs may be under way.
            clock: seconds that only go forward.
        """
        self.rates = Rates(engine)
        self.at_once = at_once
        self._client, self._engine, self._clock = client, engine, clock
        self._lock = Lock()
        self._entries: set[ServedEntry] = set()

    def enter(self, max_waiting: int, size: RunSize | None = None) -> ServedEntry:
        """A place at the end of the queue of all pages.

        Args:
            max_waiting: how many runs of all pages may wait.
            size: the work of the run, as far as it is known; None where nothing is.

        Raises:
            BusyError: so many wait already.
            EngineError: the common state does not answer.
        """
        known = size or RunSize()
        ticket = self._client.enter(self._engine, self.rates.expected(known), max_waiting)
        if ticket is None:
            raise BusyError(QUEUE_FULL)
        entry = ServedEntry(self, ticket, known)
        with self._lock:
            self._entries.add(entry)
        return entry

    @property
    def waiting(self) -> int:
        """How many runs of this page wait."""
        with self._lock:
            return sum(entry.begun is None for entry in self._entries)

    @property
    def running_seconds(self) -> float | None:
        """How long the longest run of this page has been going on; None while there is none."""
        with self._lock:
            return max((entry.ran for entry in self._entries if entry.ran is not None), default=None)

    def now(self) -> float:
        """The time."""
        return self._clock()

    def renewed(self, size: RunSize) -> str:
        """The ticket of a run whose place was forgotten, as where the common state has begun anew."""
        ticket = self._client.enter(self._engine, self.rates.expected(size), None)
        assert ticket is not None, "it was entered without a limit"
        return ticket

    def place(self, ticket: str, size: RunSize, wait: float) -> Place | None:
        """See `ServeClient.place`."""
        return self._client.place(self._engine, ticket, self.rates.expected(size), wait)

    def leave(self, entry: ServedEntry, ticket: str) -> None:
        """Gives up a place."""
        with self._lock:
            self._entries.discard(entry)
        self._client.leave(self._engine, ticket)


class ServedEntry(Entry):
    """One run of this page in the common queue."""

    def __init__(self, queue: ServedQueue, ticket: str, size: RunSize) -> None:
        """As `ServedQueue.enter` makes it."""
        super().__init__(queue.now, size)
        self._served = queue
        self._ticket = ticket
        self._place: Place | None = None
        self._over = Event()

    def wait(self) -> bool:
        """Waits for this run's turn; False where the run was cancelled before.

        Raises:
            EngineError: the common state does not answer for long.
        """
        while not self.cancelled.is_set():
            place = self._served.place(self._ticket, self.size, ASK_SECONDS)
            if place is not None and place.begun and not self.cancelled.is_set():
                self.begun = self._clock()
                Thread(target=self._hold, name="holds its turn", daemon=True).start()
                return True
            if place is None and not self.cancelled.is_set():
                self._ticket = self._served.renewed(self.size)
            self._place = place
        self._served.leave(self, self._ticket)
        return False

    def cancel(self) -> None:
        """Leaves the queue if the run still waits; a run that has begun keeps its turn until it ends."""
        self.cancelled.set()
        if self.begun is None:
            self._served.leave(self, self._ticket)

    def end(self) -> None:
        """Ends the run, so that the next one's turn comes."""
        self._over.set()
        self._served.leave(self, self._ticket)

    def expected_wait(self) -> tuple[int, float]:
        """As of the last answer of the common state."""
        if self._place is None or self.begun is not None:
            return 0, 0.0
        return self._place.before, self._place.seconds

    def _hold(self) -> None:
        while not self._over.wait(HOLD_SECONDS):
            # A place that was forgotten is not asked for again: the run is under way.
            with suppress(EngineError):
                self._served.place(self._ticket, self.size, 0.0)


class ServedCounts(Storage):
    """Counts of the common state, as the package `limits` asks for them."""

    STORAGE_SCHEME = None

    def __init__(self, client: ServeClient) -> None:
        """Nothing is asked yet."""
        super().__init__()
        self._client = client

    @property
    def base_exceptions(self) -> type[Exception]:
        """What a failure raises."""
        return EngineError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Counts one more; how many there are."""
        assert amount == 1, "runs are counted one by one"
        return self._client.count(key, expiry)

    def get(self, key: str) -> int:
        """How many there are."""
        return self._client.counted(key)[0]

    def get_expiry(self, key: str) -> float:
        """When they are forgotten, in seconds since the epoch."""
        return self._client.counted(key)[1]

    def check(self) -> bool:
        """Whether the common state answers."""
        return bool(self._client.engines())

    def reset(self) -> int | None:
        """No page may forget what the others have counted."""
        raise NotImplementedError

    def clear(self, key: str) -> None:
        """No page may forget what the others have counted."""
        raise NotImplementedError
