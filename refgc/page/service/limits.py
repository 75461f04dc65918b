"""What one visit may ask for, and a number for each that tells nothing about the visitor."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

from refgc.page.service.queue import BusyError

HOUR = 3600.0
# Of those remembered; a visit that runs nothing for an hour is forgotten before this many others have come.
MOST_VISITS = 10_000


@dataclass
class _Visit:
    number: int
    jobs: int = 0
    started: deque[float] = field(default_factory=deque)


class Visits:
    """Everyone who has asked for something since this process began, as far as it still matters."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        self._numbered = 0

    def number(self, visit: str) -> int:
        """1 for the first visit of this process, 2 for the next; for logs, in which no session may stand."""
        with self._lock:
            return self._find(visit).number

    @contextmanager
    def job(self, visit: str, *, most: int, per_hour: int) -> Iterator[None]:
        """Counts one run of a visit, from asking for it until it has ended or was given up.

        Args:
            visit: the session.
            most: how many may run or wait at the same time.
            per_hour: how many may be started within an hour.

        Raises:
            BusyError: it would be too many.
        """
        with self._lock:
            known = self._find(visit)
            while known.started and known.started[0] < monotonic() - HOUR:
                known.started.popleft()
            if known.jobs >= most:
                raise BusyError(
                    f"You have {_runs(known.jobs)} under way; wait until it has ended or cancel it, then try again."
                    if known.jobs == 1
                    else f"You have {known.jobs} runs under way; wait until one has ended or cancel it, then try again."
                )
            if len(known.started) >= per_hour:
                minutes = max(1, round((known.started[0] + HOUR - monotonic()) / 60))
                raise BusyError(
                    f"You have started {_runs(per_hour)} within an hour, as many as one visit may; "
                    f"try again in {minutes} {'minute' if minutes == 1 else 'minutes'}."
                )
            started = monotonic()
            known.started.append(started)
            known.jobs += 1
        try:
            yield
        except BusyError:
            # Nothing was started.
            with self._lock, suppress(ValueError):
                known.started.remove(started)
            raise
        finally:
            with self._lock:
                known.jobs -= 1

    def _find(self, visit: str) -> _Visit:
        if visit not in self._visits:
            self._numbered += 1
            self._visits[visit] = _Visit(self._numbered)
        self._visits.move_to_end(visit)
        if len(self._visits) > MOST_VISITS:
            self._visits.popitem(last=False)
        return self._visits[visit]


def _runs(number: int) -> str:
    return "one run" if number == 1 else f"{number} runs"
