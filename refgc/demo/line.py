"""Waiting for an engine: first come, first served, one at a time, and no more than can be served in good time."""

from __future__ import annotations

from collections import deque
from threading import Condition
from time import monotonic

from refgc.errors import RefGCError

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
