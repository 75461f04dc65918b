"""Long work done beside the page: what is told, turns, giving up, time limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np
import pytest

from refgc.engine import Progress, Viewer
from refgc.imaging.image import Image
from refgc.page.service.queue import (
    HEARTBEAT_SECONDS,
    BusyError,
    Finished,
    Line,
    Seen,
    TooLongError,
    Working,
    spoken,
    waiting_stage,
    watched,
)

PICTURE = Image(np.zeros((2, 3, 3), np.uint8))


@pytest.fixture
def line() -> Line:
    return Line()


def started(work, line: Line, *, run_seconds: float = 30, wait_seconds: float = 30, longest: int = 16):
    return watched(work, line.join(longest), run_seconds=run_seconds, wait_seconds=wait_seconds)


def counting(told: list[int], ended: threading.Event, enough: int = 200):
    """Work that tells its progress every few milliseconds, and notes how far it came."""

    def work(progress: Progress, viewer: Viewer) -> str:
        try:
            for number in range(enough):
                told.append(number)
                progress("counting", number / enough)
                time.sleep(0.005)
        finally:
            ended.set()
        return "counted"

    return work


class Held:
    """Work that goes on until it is let go, without telling anything."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self, progress: Progress, viewer: Viewer) -> str:  # noqa: ARG002
        self.begun.set()
        assert self.let_go.wait(30)
        return "held"


@pytest.fixture
def held(line: Line) -> Iterator[Held]:
    """Such work, begun; its place in the line is not given up before it ends."""
    work = Held()
    notes = started(work, line)
    next(notes)
    assert work.begun.is_set()
    yield work
    work.let_go.set()
    notes.close()


def until(fulfilled: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 10
    while not fulfilled():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_what_the_work_tells_comes_in_order_and_what_it_made_comes_last(line: Line):
    def work(progress: Progress, viewer: Viewer) -> int:
        progress("one", 0.25)
        viewer("picture", PICTURE)
        progress("two", 0.5)
        return 7

    first, seen, second, finished = started(work, line)
    assert (first, second) == (Working("one", 0.25), Working("two", 0.5))
    assert isinstance(seen, Seen)
    assert (seen.stage, seen.picture) == ("picture", PICTURE)
    assert isinstance(finished, Finished)
    assert finished.made == 7


def test_what_the_work_raises_reaches_the_caller_and_frees_the_line(line: Line):
    def work(progress: Progress, viewer: Viewer) -> None:
        progress("one", 0.0)
        raise KeyError("broken")

    notes = started(work, line)
    assert next(notes) == Working("one", 0.0)
    with pytest.raises(KeyError, match="broken"):
        next(notes)
    assert line.running_seconds is None


def test_work_sees_the_callers_context(line: Line):
    whose: ContextVar[str] = ContextVar("whose", default="nobody")
    whose.set("the caller's")
    (finished,) = started(lambda progress, viewer: whose.get(), line)
    assert isinstance(finished, Finished)
    assert finished.made == "the caller's"


def test_closing_the_iterator_ends_the_work_early(line: Line):
    told: list[int] = []
    ended = threading.Event()
    notes = started(counting(told, ended), line)
    next(notes)
    notes.close()
    assert ended.wait(10)
    assert len(told) < 150
    until(lambda: line.running_seconds is None)


def test_silent_work_still_tells_that_it_goes_on(line: Line):
    work = Held()

    def silent(progress: Progress, viewer: Viewer) -> str:
        progress("thinking", 0.5)
        return work(progress, viewer)

    notes = started(silent, line)
    begun = time.monotonic()
    assert [next(notes) for _ in range(3)] == [Working("thinking", 0.5)] * 3
    assert time.monotonic() - begun < 10 * HEARTBEAT_SECONDS
    work.let_go.set()
    assert isinstance(list(notes)[-1], Finished)


def test_work_that_takes_too_long_is_given_up_with_a_sentence(line: Line):
    told: list[int] = []
    ended = threading.Event()
    with pytest.raises(TooLongError, match="took longer than 5 seconds and was ended; choose a smaller scale"):
        list(started(counting(told, ended, enough=10_000), line, run_seconds=0.1))
    assert ended.wait(10)
    assert len(told) < 5_000
    until(lambda: line.running_seconds is None)


def test_waiting_does_not_count_as_running(line: Line, held: Held):
    notes = started(lambda progress, viewer: "made", line, run_seconds=1.5 * HEARTBEAT_SECONDS)
    assert all(isinstance(next(notes), Working) for _ in range(3))
    held.let_go.set()
    assert isinstance(list(notes)[-1], Finished)


def test_who_waits_too_long_is_told_and_leaves(line: Line, held: Held):
    with pytest.raises(BusyError, match="your turn did not come within 5 seconds; please try again later"):
        list(started(lambda progress, viewer: "made", line, wait_seconds=0.1))
    assert line.waiting == 0


def test_one_work_waits_for_another_even_for_one_that_was_given_up(line: Line):
    work = Held()
    given_up = started(work, line)
    next(given_up)
    given_up.close()
    notes = started(lambda progress, viewer: work.let_go.is_set(), line)
    assert next(notes) == Working("waiting for your turn, you are next", 0.0)
    work.let_go.set()
    finished = list(notes)[-1]
    assert isinstance(finished, Finished)
    assert finished.made


def test_who_waits_is_told_the_place_and_the_time(line: Line):
    list(started(lambda progress, viewer: time.sleep(0.3), line))
    work = Held()
    running = started(work, line)
    next(running)
    second, third = (started(lambda progress, viewer: "made", line) for _ in range(2))
    assert next(second) == Working("waiting for your turn, you are next, a few seconds", 0.0)
    assert next(third) == Working("waiting for your turn, 2 runs before yours, a few seconds", 0.0)
    second.close()
    assert next(third) == Working("waiting for your turn, you are next, a few seconds", 0.0)
    work.let_go.set()
    assert isinstance(list(third)[-1], Finished)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "5 seconds"), (42, "40 seconds"), (89, "90 seconds"), (91, "2 minutes"), (900, "15 minutes")],
)
def test_times_are_rounded(seconds: float, words: str):
    assert spoken(seconds) == words
    assert waiting_stage(3, max(seconds, 6)).startswith("waiting for your turn, 3 runs before yours, about ")


def test_full_line_turns_away_and_whoever_leaves_makes_room(line: Line, held: Held):
    waiting = [started(lambda progress, viewer: "made", line, longest=2) for _ in range(2)]
    for notes in waiting:
        next(notes)
    with pytest.raises(BusyError, match="busy and its queue is full; please try again in a minute"):
        line.join(2)
    assert line.waiting == 2
    waiting[0].close()
    assert line.waiting == 1
    line.join(2).give_up()
    held.let_go.set()
    assert isinstance(list(waiting[1])[-1], Finished)


def test_everyone_is_served_in_turn_and_one_at_a_time(line: Line):
    order: list[int] = []
    at_once, most = 0, 0
    lock = threading.Lock()

    def work(number: int):
        def run(progress: Progress, viewer: Viewer) -> int:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            order.append(number)
            time.sleep(0.01)
            with lock:
                at_once -= 1
            return number

        return run

    everyone = [started(work(number), line, longest=20) for number in range(20)]
    made: list[object] = [None] * 20

    def consume(number: int) -> None:
        made[number] = list(everyone[number])[-1].made

    threads = []
    for number in range(20):
        threads.append(threading.Thread(target=consume, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join(30)
    assert made == list(range(20))
    assert order == list(range(20))
    assert most == 1
