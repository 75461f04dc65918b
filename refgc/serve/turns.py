"""The common queue of an engine for runs of several pages: first come, first served, each place held for a while."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

# A page that says nothing about a run for so long has gone, and its place with it. Chosen by hand: a page speaks every
# half second, and may be busy.
LEASE_SECONDS = 20.0


@dataclass(slots=True)
class _Place:
    """One run.

    Attributes:
        seconds: about how long it takes.
        heard: when its page was last heard of.
        begun: when its turn came; None where it waits.
    """

    seconds: float
    heard: float
    begun: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands.

    Attributes:
        begun: whether its turn has come.
        before: how many runs come before it, those under way among them; 0 once it has begun.
        seconds: about how long these take.
    """

    begun: bool
    before: int
    seconds: float


class Turns:
    """The runs that wait for an engine, and those that are under way; used by one thread."""

    def __init__(self, at_once: int, clock: Callable[[], float] = monotonic) -> None:
        """No runs.

        Args:
            at_once: how many may be under way.
            clock: seconds that only go forward.
        """
        self.at_once = at_once
        self._clock = clock
        # In the order in which they came: those under way first.
        self._places: dict[str, _Place] = {}

    def enter(self, seconds: float, max_waiting: int | None) -> str | None:
        """A ticket for a place at the end; None where the queue is full.

        Args:
            seconds: about how long the run takes.
            max_waiting: how many may wait beside those under way; None for any number.
        """
        self._advance()
        if max_waiting is not None and len(self._places) >= self.at_once + max_waiting:
            return None
        ticket = secrets.token_hex(16)
        self._places[ticket] = _Place(seconds, self._clock())
        self._advance()
        return ticket

    def standing(self, ticket: str, seconds: float | None = None) -> Standing | None:
        """How a run stands, which holds its place; None where the ticket is not known, or no longer.

        Args:
            ticket: of the run.
            seconds: about how long it takes, where more is known now.
        """
        place = self._places.get(ticket)
        if place is None:
            return None
        place.heard = self._clock()
        place.seconds = place.seconds if seconds is None else seconds
        self._advance()
        if place.begun is not None:
            return Standing(True, 0, 0.0)
        before = list(self._places)[: list(self._places).index(ticket)]
        return Standing(False, len(before), sum(self._left(self._places[one]) for one in before) / self.at_once)

    def leave(self, ticket: str) -> None:
        """Gives a place up, whether the run waits or has ended."""
        self._places.pop(ticket, None)
        self._advance()

    @property
    def waiting(self) -> int:
        """How many runs wait."""
        self._advance()
        return sum(place.begun is None for place in self._places.values())

    @property
    def running(self) -> list[float]:
        """How long each run has been under way, in seconds."""
        self._advance()
        now = self._clock()
        return [now - place.begun for place in self._places.values() if place.begun is not None]

    def _left(self, place: _Place) -> float:
        ran = 0.0 if place.begun is None else self._clock() - place.begun
        return max(0.0, place.seconds - ran)

    def _advance(self) -> None:
        """Drops the places of pages that have gone, and begins the runs whose turn has come."""
        now = self._clock()
        for ticket in [ticket for ticket, place in self._places.items() if place.heard < now - LEASE_SECONDS]:
            del self._places[ticket]
        for place in list(self._places.values())[: self.at_once]:
            if place.begun is None:
                place.begun = now
