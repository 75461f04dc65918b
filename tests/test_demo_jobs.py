"""Long work done beside the page: what is told, giving up, time limits, one at a time."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from refgc.demo.jobs import Finished, Seen, Working, watched
from refgc.engines import Progress, Viewer
from refgc.errors import EngineError
from refgc.images import Image

PICTURE = Image(np.zeros((2, 3, 3), np.uint8))


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


def test_what_the_work_tells_comes_in_order_and_what_it_made_comes_last():
    def work(progress: Progress, viewer: Viewer) -> int:
        progress("one", 0.25)
        viewer("picture", PICTURE)
        progress("two", 0.5)
        return 7

    first, seen, second, finished = watched(work, longest_seconds=30)
    assert (first, second) == (Working("one", 0.25), Working("two", 0.5))
    assert isinstance(seen, Seen)
    assert (seen.stage, seen.picture) == ("picture", PICTURE)
    assert isinstance(finished, Finished)
    assert finished.made == 7


def test_what_the_work_raises_reaches_the_caller():
    def work(progress: Progress, viewer: Viewer) -> None:
        progress("one", 0.0)
        raise KeyError("broken")

    notes = watched(work, longest_seconds=30)
    assert next(notes) == Working("one", 0.0)
    with pytest.raises(KeyError, match="broken"):
        next(notes)


def test_the_last_is_told_again_while_there_is_no_news():
    heard = threading.Event()

    def silent(progress: Progress, viewer: Viewer) -> bool:
        progress("thinking", 0.5)
        return heard.wait(30)

    notes = watched(silent, longest_seconds=60)
    assert [next(notes), next(notes)] == [Working("thinking", 0.5)] * 2
    heard.set()
    *_, finished = notes
    assert isinstance(finished, Finished)
    assert finished.made


def test_closing_the_iterator_ends_the_work_early():
    told: list[int] = []
    ended = threading.Event()
    notes = watched(counting(told, ended), longest_seconds=30)
    next(notes)
    notes.close()
    assert ended.wait(10)
    assert len(told) < 150


def test_work_that_takes_too_long_is_given_up_with_a_sentence():
    told: list[int] = []
    ended = threading.Event()
    with pytest.raises(EngineError, match="took longer than 0 minutes and was ended; choose a smaller scale"):
        list(watched(counting(told, ended, enough=10_000), longest_seconds=0.1))
    assert ended.wait(10)
    assert len(told) < 5_000


def test_one_work_waits_for_another_even_for_one_that_was_given_up():
    ended, at_work = threading.Event(), threading.Event()

    def slow_to_end(progress: Progress, viewer: Viewer) -> None:
        progress("begun", 0.0)
        at_work.wait(0.3)
        ended.set()

    given_up = watched(slow_to_end, longest_seconds=30)
    next(given_up)
    given_up.close()

    def next_one(progress: Progress, viewer: Viewer) -> bool:
        return ended.is_set()

    *_, finished = watched(next_one, longest_seconds=30)
    assert isinstance(finished, Finished)
    assert finished.made
