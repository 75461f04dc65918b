"""Heavy work done beside the page: watched as it goes, given up when nobody waits for it, ended when it is too long."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Generic, TypeVar

from refgc.engines import Progress, Viewer
from refgc.errors import EngineError
from refgc.images import Image

Made = TypeVar("Made")

TOO_LONG = (
    "This took longer than {minutes:.0f} minutes and was ended; choose a smaller scale or smaller pictures, or run it "
    "on a machine of your own."
)


@dataclass(frozen=True, slots=True)
class Working:
    """A stage has begun, or advanced; `fraction` is in [0, 1] over the whole work."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A picture made on the way, by its stage's name."""

    stage: str
    picture: Image


@dataclass(frozen=True, slots=True, eq=False)
class Finished(Generic[Made]):
    """The end, with what was made."""

    made: Made


class _NobodyWaitsError(Exception):
    """Raised inside the work to end it."""


# After so long without news the last is told again: whoever passes it on to somebody notices when they have left.
SILENCE_SECONDS = 1.0

# What is heavy uses every core, or the GPU's memory; also what was given up may still be running its last step.
_one_at_a_time = Lock()


def watched(
    work: Callable[[Progress, Viewer], Made], *, longest_seconds: float
) -> Generator[Working | Seen | Finished[Made], None, None]:
    """Does heavy work in a thread of its own and yields what it tells, `Finished` last.

    While there is no news, the last `Working` comes again every second. Closing the iterator gives the work up: it
    ends the next time it tells its progress. Only one work is done at a time in a process.

    Args:
        work: called with the progress and the viewer it is to tell.
        longest_seconds: how long the caller waits, the turn included.

    Raises:
        EngineError: the work took too long, and was given up.
        Exception: what the work raised.
    """
    told: SimpleQueue[Working | Seen | Finished[Made] | Exception] = SimpleQueue()
    given_up = Event()

    def tell(note: Working | Seen) -> None:
        if given_up.is_set():
            raise _NobodyWaitsError
        told.put(note)

    def run() -> None:
        try:
            with _one_at_a_time:
                made = work(
                    lambda stage, fraction: tell(Working(stage, fraction)),
                    lambda stage, picture: tell(Seen(stage, picture)),
                )
        except _NobodyWaitsError:
            return
        except Exception as error:
            told.put(error)
        else:
            told.put(Finished(made))

    Thread(target=run, name="work", daemon=True).start()
    try:
        yield from _news(told, monotonic() + longest_seconds, longest_seconds)
    finally:
        given_up.set()


def _news(
    told: SimpleQueue[Working | Seen | Finished[Made] | Exception], ends_at: float, longest_seconds: float
) -> Generator[Working | Seen | Finished[Made], None, None]:
    last = Working("waiting for the engine", 0.0)
    while True:
        remaining = ends_at - monotonic()
        try:
            note = told.get(timeout=min(SILENCE_SECONDS, max(0.0, remaining)))
        except Empty:
            if remaining <= SILENCE_SECONDS:
                raise EngineError(TOO_LONG.format(minutes=longest_seconds / 60)) from None
            note = last
        if isinstance(note, Exception):
            raise note
        if isinstance(note, Working):
            last = note
        yield note
        if isinstance(note, Finished):
            return
