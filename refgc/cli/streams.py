"""The process around a command: its standard streams, which may be closed or break, and the signals that end it."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from refgc.engine import Progress

# Signals that come this soon after the first one do not interrupt the removal of unfinished files.
GRACE_SECONDS = 5.0
SENTENCES = {
    "SIGINT": "Interrupted; every file that was written is whole.",
    "SIGTERM": "Terminated; every file that was written is whole.",
    "SIGHUP": "The terminal was closed; every file that was written is whole.",
}


# Number and time of the first signal; empty until there is one.
_first: list[tuple[int, float]] = []
# Numbers of the standard streams that the process was started without.
_closed: set[int] = set()
# Holds something while the first signal waits for `check_stopped`.
_waits: list[bool] = []


class StoppedError(BaseException):
    """A signal asked the process to end; no handler of errors is to catch it.

    Attributes:
        status: the exit status that shells give such a process, 128 and the signal's number.
        sentence: what to tell.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        self.sentence = SENTENCES[signal.Signals(number).name]
        super().__init__(self.sentence)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP into `StoppedError` inside, so that unfinished files are removed.

    A signal that is ignored, as `nohup` does with SIGHUP, stays so. Python delivers signals to the main thread only;
    elsewhere nothing is changed. Some libraries swallow every exception while they are imported, OpenCV for one, and
    this one with it; `check_stopped` raises it again.
    """
    _first.clear()
    _waits.clear()

    def stop(number: int, _: FrameType | None) -> None:
        if not _first:
            _first.append((number, time.monotonic()))
            if _waits:
                return
        elif time.monotonic() < _first[0][1] + GRACE_SECONDS:
            return
        raise StoppedError(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in SENTENCES if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
    replaced = [number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    try:
        for number in replaced:
            signal.signal(number, stop)
        yield
        check_stopped()
    except BaseException as error:
        # Writing to a terminal that is gone fails as well, and is not the reason for the end.
        if not isinstance(error, StoppedError):
            check_stopped()
        raise
    finally:
        for number in replaced:
            signal.signal(number, before[number])


def check_stopped() -> None:
    """Ends the work where a signal has come, though its exception may have been swallowed.

    Raises:
        StoppedError: a signal has come.
    """
    if _first:
        raise StoppedError(_first[0][0])


def stoppable(progress: Progress, *, between_steps: bool = False) -> Progress:
    """The same progress, which ends the work where a signal has come.

    Args:
        progress: told of each step.
        between_steps: whether the first signal waits until a step is done, from the first step to the last, so that
            the work can keep what it has. A second one ends it at once. Only for a process that is alone: others would
            wait for the one that has ended.
    """

    def advance(stage: str, fraction: float) -> None:
        _waits.clear()
        check_stopped()
        if between_steps and 0 < fraction < 1:
            _waits.append(True)
        progress(stage, fraction)

    return advance


def end_by_signals(last: Callable[[], object]) -> None:
    """Gives the signals back to Python, for a command that has a way of its own to end.

    Args:
        last: what is done before SIGTERM or SIGHUP ends the process; a second signal ends it at once.
    """

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        last()
        signal.raise_signal(number)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
            signal.signal(getattr(signal, name), end)


def open_streams() -> None:
    """Opens standard streams that the process was started without, and lets stdout print any file name.

    A number that is free would be given to the next file that is opened, and messages meant for stderr would be
    written into that file.
    """
    _closed.clear()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            _closed.add(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 (open to the end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def was_closed(number: int) -> bool:
    """Whether the process was started without that standard stream, such as 1 for `>&-`."""
    return number in _closed


@contextmanager
def native_messages_off() -> Iterator[None]:
    """Keeps what native libraries print off the terminal, such as libtiff's remarks on a damaged file.

    They write to file number 2 past Python. Inside, that number leads nowhere, and `sys.stderr` to where it led.
    """
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError):  # stderr is no file, as in tests
        number = -1
    if number != 2:
        yield
        return
    before, kept, nowhere = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    before.flush()
    os.dup2(nowhere, 2)
    os.close(nowhere)
    shown = sys.stderr = open(kept, "w", errors="backslashreplace", buffering=1)  # noqa: SIM115, PTH123
    try:
        yield
    finally:
        os.dup2(kept, 2)
        sys.stderr = before
        with suppress(OSError):
            shown.close()


def tell(line: str) -> None:
    """Prints news of the work on stdout; nobody reading it any more is no reason to end the work."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _discard(sys.stdout)


def complain(line: str) -> None:
    """Prints on stderr, where it can be written to."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _discard(sys.stderr)


def finish(status: int) -> int:
    """Writes out what was printed, and returns the exit status: 1 instead of 0 where it cannot be written.

    Args:
        status: of the work; where it is not 0, a sentence has been printed already.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _discard(sys.stdout)
        if status == 0 and not isinstance(error, BrokenPipeError):
            complain(f"refgc: The standard output cannot be written ({getattr(error, 'strerror', error)}).")
        return status or 1
    return status


def _discard(stream: TextIO) -> None:
    """Lets what is still in a stream's buffer go nowhere, so that Python does not complain at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
