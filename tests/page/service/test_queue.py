"""Work in the queue of an engine: its events, turns, cancellation, time limits and expected waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest

from refgc.engine import Progress
from refgc.imaging.image import Image
from refgc.page.service.limits import BusyError
from refgc.page.service.queue import (
    EngineQueue,
    Finished,
    Seen,
    Show,
    TooLongError,
    Working,
    rough_time,
    rounded_time,
    run_in_turn,
    waiting_stage,
)
from refgc.page.service.rates import RunSize

PICTURE = Image(np.zeros((2, 3, 3), np.uint8))


@pytest.fixture
def queue() -> EngineQueue:
    return EngineQueue()


def finishing(work: Callable[[Progress, Show[Any]], object]) -> Callable[..., Finished[object]]:
    return lambda progress, viewer, cancelled: Finished(work(progress, viewer))


def started(work, queue: EngineQueue, *, run_seconds: float = 30, wait_seconds: float = 30, longest: int = 16):
    return run_in_turn(finishing(work), queue.enter(longest), run_seconds=run_seconds, wait_seconds=wait_seconds)


def counting(reported: list[int], ended: threading.Event, enough: int = 200):
    """Work that tells its progress every few milliseconds, and notes how far it came."""

    def work(progress: Progress, viewer: Show[Any]) -> str:
        try:
            for number in range(enough):
                reported.append(number)
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

    def __call__(self, progress: Progress, viewer: Show[Any]) -> str:  # noqa: ARG002
        self.begun.set()
        assert self.let_go.wait(30)
        return "held"


@pytest.fixture
def held(queue: EngineQueue) -> Iterator[Held]:
    """Such work, begun; its turn lasts until it ends."""
    work = Held()
    notes = started(work, queue)
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


def test_what_the_work_tells_comes_in_order_and_what_it_made_comes_last(queue: EngineQueue):
    def work(progress: Progress, viewer: Show[Any]) -> int:
        progress("one", 0.25)
        viewer("picture", PICTURE)
        progress("two", 0.5)
        return 7

    first, seen, second, finished = started(work, queue)
    assert (first, second) == (Working("one", 0.25), Working("two", 0.5))
    assert isinstance(seen, Seen)
    assert (seen.stage, seen.picture) == ("picture", PICTURE)
    assert isinstance(finished, Finished)
    assert finished.made == 7


def test_what_the_work_raises_reaches_the_caller_and_frees_the_queue(queue: EngineQueue):
    def work(progress: Progress, viewer: Show[Any]) -> None:
        progress("one", 0.0)
        raise KeyError("broken")

    notes = started(work, queue)
    assert next(notes) == Working("one", 0.0)
    with pytest.raises(KeyError, match="broken"):
        next(notes)
    assert queue.running_seconds is None


def test_work_sees_the_callers_context(queue: EngineQueue):
    whose: ContextVar[str] = ContextVar("whose", default="nobody")
    whose.set("the caller's")
    (finished,) = started(lambda progress, viewer: whose.get(), queue)
    assert isinstance(finished, Finished)
    assert finished.made == "the caller's"


def test_closing_the_iterator_ends_the_work_early(queue: EngineQueue):
    reported: list[int] = []
    ended = threading.Event()
    notes = started(counting(reported, ended), queue)
    next(notes)
    notes.close()
    assert ended.wait(10)
    assert len(reported) < 150
    until(lambda: queue.running_seconds is None)


def test_silent_work_still_tells_that_it_goes_on(queue: EngineQueue):
    work = Held()

    def silent(progress: Progress, viewer: Show[Any]) -> str:
        progress("thinking", 0.5)
        return work(progress, viewer)

    notes = started(silent, queue)
    begun = time.monotonic()
    assert [next(notes) for _ in range(3)] == [Working("thinking", 0.5)] * 3
    # A visitor who has left is noticed within seconds.
    assert time.monotonic() - begun < 4
    work.let_go.set()
    assert isinstance(list(notes)[-1], Finished)


def test_cancelling_is_seen_by_silent_work(queue: EngineQueue):
    begun, ended = threading.Event(), threading.Event()

    def work(progress: Progress, viewer: Show[Any], cancelled: threading.Event) -> Finished[str]:
        begun.set()
        assert cancelled.wait(30)
        ended.set()
        return Finished("too late")

    notes = run_in_turn(work, queue.enter(1), run_seconds=30, wait_seconds=30)
    next(notes)
    assert begun.wait(10)
    notes.close()
    assert ended.wait(10)
    until(lambda: queue.running_seconds is None)


def test_work_that_takes_too_long_is_cancelled_with_a_sentence(queue: EngineQueue):
    reported: list[int] = []
    ended = threading.Event()
    with pytest.raises(TooLongError, match="took longer than 5 seconds and was ended; choose a smaller scale"):
        list(started(counting(reported, ended, enough=10_000), queue, run_seconds=0.1))
    assert ended.wait(10)
    assert len(reported) < 5_000
    until(lambda: queue.running_seconds is None)


def test_waiting_does_not_count_as_running(queue: EngineQueue, held: Held):
    notes = started(lambda progress, viewer: "made", queue, run_seconds=0.75)
    assert all(isinstance(next(notes), Working) for _ in range(3))
    held.let_go.set()
    assert isinstance(list(notes)[-1], Finished)


def test_who_waits_too_long_is_told_and_leaves(queue: EngineQueue, held: Held):
    with pytest.raises(BusyError, match="your turn did not come within 5 seconds; please try again later"):
        list(started(lambda progress, viewer: "made", queue, wait_seconds=0.1))
    assert queue.waiting == 0


def test_one_work_waits_for_another_even_for_one_that_was_cancelled(queue: EngineQueue):
    work = Held()
    cancelled = started(work, queue)
    next(cancelled)
    cancelled.close()
    notes = started(lambda progress, viewer: work.let_go.is_set(), queue)
    expected = rough_time(queue.rates.expected(RunSize()))
    assert next(notes) == Working(f"waiting for your turn, you are next, {expected}", 0.0)
    work.let_go.set()
    finished = list(notes)[-1]
    assert isinstance(finished, Finished)
    assert finished.made


def test_who_waits_is_told_the_place_and_the_time(queue: EngineQueue):
    queue.rates.note("refine", 1.0, 0.3)
    work = Held()
    running = started(work, queue)
    next(running)
    second, third = (started(lambda progress, viewer: "made", queue) for _ in range(2))
    assert next(second) == Working("waiting for your turn, you are next, a few seconds", 0.0)
    assert next(third) == Working("waiting for your turn, 2 runs before yours, a few seconds", 0.0)
    second.close()
    assert next(third) == Working("waiting for your turn, you are next, a few seconds", 0.0)
    work.let_go.set()
    assert isinstance(list(third)[-1], Finished)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_expected_wait_is_that_of_the_runs_in_front_by_their_sizes():
    clock = Clock()
    queue = EngineQueue(clock)
    small, large = RunSize("refine", 1.0), RunSize("refine", 16.0, "fast")
    seconds = {size: queue.rates.expected(size) for size in (small, large)}
    assert seconds[large] > 2 * seconds[small]
    entries = [queue.enter(16, size) for size in (large, small, large, small)]
    assert entries[0].wait()
    clock.now += 4
    assert entries[3].expected_wait() == pytest.approx((3, seconds[large] - 4 + seconds[small] + seconds[large]))
    assert entries[1].expected_wait() == pytest.approx((1, seconds[large] - 4))
    # More is known of a run once its files are decoded.
    entries[0].size = small
    assert entries[2].expected_wait() == pytest.approx((2, max(0, seconds[small] - 4) + seconds[small]))
    # A run that takes longer than expected ends soon.
    clock.now += 1000
    assert entries[1].expected_wait() == (1, 0)
    queue.rates.note("refine", 1.0, 30.0)
    assert entries[2].expected_wait() == pytest.approx((2, 30))
    assert entries[0].expected_wait() == (0, 0)


def test_waits_and_runs_are_timed_by_the_clock():
    clock = Clock()
    queue = EngineQueue(clock)
    entry = queue.enter(16)
    clock.now = 3
    assert (entry.waited, entry.ran, queue.running_seconds) == (3, None, None)
    assert entry.wait()
    clock.now = 8
    assert (entry.waited, entry.ran, queue.running_seconds) == (3, 5, 5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "5 seconds"), (42, "40 seconds"), (89, "90 seconds"), (91, "2 minutes"), (900, "15 minutes")],
)
def test_times_are_rounded(seconds: float, words: str):
    assert rounded_time(seconds) == words
    assert waiting_stage(3, max(seconds, 6)).startswith("waiting for your turn, 3 runs before yours, about ")


def test_full_queue_turns_away_and_whoever_leaves_makes_room(queue: EngineQueue, held: Held):
    waiting = [started(lambda progress, viewer: "made", queue, longest=2) for _ in range(2)]
    for notes in waiting:
        next(notes)
    with pytest.raises(BusyError, match="busy and its queue is full; please try again in a minute"):
        queue.enter(2)
    assert queue.waiting == 2
    waiting[0].close()
    assert queue.waiting == 1
    queue.enter(2).cancel()
    held.let_go.set()
    assert isinstance(list(waiting[1])[-1], Finished)


def test_everyone_is_served_in_turn_and_one_at_a_time(queue: EngineQueue):
    order: list[int] = []
    at_once, most = 0, 0
    lock = threading.Lock()

    def work(number: int):
        def run(progress: Progress, viewer: Show[Any]) -> int:
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

    everyone = [started(work(number), queue, longest=20) for number in range(20)]
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


def test_run_whose_thread_cannot_be_started_leaves_the_queue(queue: EngineQueue, monkeypatch: pytest.MonkeyPatch):
    def no_more_threads(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError):
            list(started(lambda progress, viewer: "never", queue))
    assert queue.waiting == 0
    *_, last = started(lambda progress, viewer: "made", queue, wait_seconds=5)
    assert last.made == "made"
