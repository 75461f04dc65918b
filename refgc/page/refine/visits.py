"""What the server remembers of visits: what each cancelled, its newest run, and its results."""

from __future__ import annotations

import re
from collections import OrderedDict
from threading import Lock
from time import monotonic
from typing import TypeVar
from uuid import uuid4

from refgc.page.refine.result import History

# A run ends soon after it is cancelled, long before this many other visits have cancelled something.
MOST_VISITS = 10_000
Value = TypeVar("Value")


class Cancellations:
    """When each visit last cancelled.

    A run looks here, and ends its own answers. Where Gradio ends the event from outside, an answer that is under way to
    the browser may arrive after the answer to Cancel, and take its place.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._times: OrderedDict[str, float] = OrderedDict()

    def cancel(self, visit: str) -> None:
        """Cancel everything that the visit has submitted until now."""
        with self._lock:
            _put(self._times, visit, monotonic())

    def covers(self, visit: str, submitted_at: float) -> bool:
        """Whether the visit has cancelled since the time `submitted_at`, in seconds of `time.monotonic`."""
        with self._lock:
            return self._times.get(visit, submitted_at) > submitted_at


class LatestRuns:
    """The newest run of each visit; earlier ones that still go on look here, and end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: OrderedDict[str, str] = OrderedDict()

    def begin(self, visit: str) -> str:
        """A name for a new run of the visit, which is the newest from now on."""
        with self._lock:
            run = uuid4().hex
            _put(self._runs, visit, run)
            return run

    def is_latest(self, visit: str, run: str) -> bool:
        """Whether the visit has begun no other run since."""
        with self._lock:
            return self._runs.get(visit, run) == run


class KeptResults:
    """The results of each browser, so that a page that is loaded again shows them again.

    The browser keeps a token that nobody can guess. What is kept here names files only; those are deleted after some
    hours, and results without files are left out.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._histories: OrderedDict[str, History] = OrderedDict()

    def open(self, visit: str, token: object) -> tuple[str, History]:
        """The token and the results of a browser that has opened the page; one without a token gets a new one.

        Args:
            visit: the visitor's session.
            token: what the browser had kept.
        """
        with self._lock:
            known = token if isinstance(token, str) and re.fullmatch(r"[0-9a-f]{32}", token) else uuid4().hex
            _put(self._tokens, visit, known)
            return known, self._histories.get(known, History()).without_deleted()

    def keep(self, visit: str, history: History) -> None:
        """Keep the results of a visit; a visit that was never opened, or long ago, has none kept."""
        with self._lock:
            token = self._tokens.get(visit)
            if token is not None:
                _put(self._histories, token, history)


def _put(kept: OrderedDict[str, Value], key: str, value: Value) -> None:
    """Remember the value as the newest; the oldest of too many is forgotten."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MOST_VISITS:
        kept.popitem(last=False)
