"""Which of the things asked for nobody wants any more."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from time import monotonic

# A run ends soon after it is cancelled, long before this many other visits have cancelled something.
MOST_VISITS = 10_000


class Cancellations:
    """When each visit last cancelled.

    A run asks this, and ends its own answers. Gradio's own way, to end the event from outside, lets what is already
    on its way to the browser come after the answer to Cancel, and take its place.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._at: OrderedDict[str, float] = OrderedDict()

    def cancel(self, visit: str) -> None:
        """Everything that this visit has asked for until now is cancelled."""
        with self._lock:
            self._at[visit] = monotonic()
            self._at.move_to_end(visit)
            if len(self._at) > MOST_VISITS:
                self._at.popitem(last=False)

    def meant(self, visit: str, asked_at: float) -> bool:
        """Whether a visit cancelled since the time `asked_at`, in seconds of `time.monotonic`."""
        with self._lock:
            return self._at.get(visit, asked_at) > asked_at
