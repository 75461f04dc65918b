"""The common queue: first come, first served, over pages that may go away."""

from __future__ import annotations

import pytest

from refgc.serve.turns import LEASE_SECONDS, Standing, Turns


class Clock:
    """Time that goes on only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def entered(turns: Turns, seconds: float = 10.0, max_waiting: int | None = 16) -> str:
    ticket = turns.enter(seconds, max_waiting)
    assert ticket is not None
    return ticket


def test_who_comes_first_is_served_first(clock: Clock) -> None:
    turns = Turns(2, clock)
    first, second, third, fourth = (entered(turns) for _ in range(4))
    assert [turns.standing(one) for one in (first, second)] == [Standing(True, 0, 0.0)] * 2
    clock.now = 4.0
    # Two at once, of which 6 seconds each are left, and one of 10 seconds before the fourth.
    assert turns.standing(third) == Standing(False, 2, 6.0)
    assert turns.standing(fourth) == Standing(False, 3, 11.0)
    assert (turns.waiting, turns.running) == (2, [4.0, 4.0])
    turns.leave(second)
    assert turns.standing(third) == Standing(True, 0, 0.0)
    turns.leave(fourth)
    assert (turns.waiting, turns.running) == (0, [4.0, 0.0])


def test_a_full_queue_takes_nobody_in(clock: Clock) -> None:
    turns = Turns(1, clock)
    places = [turns.enter(1.0, 2) for _ in range(4)]
    assert [place is None for place in places] == [False, False, False, True]
    # A run that was in before the state began anew is taken in nevertheless.
    assert turns.enter(1.0, None) is not None


def test_the_place_of_a_page_that_has_gone_is_given_to_the_next(clock: Clock) -> None:
    turns = Turns(1, clock)
    gone, there = entered(turns), entered(turns)
    clock.now = LEASE_SECONDS
    assert turns.standing(there) == Standing(False, 1, 0.0)
    clock.now = LEASE_SECONDS + 0.1
    assert turns.standing(there) == Standing(True, 0, 0.0)
    assert turns.standing(gone) is None


def test_a_run_that_is_asked_for_keeps_its_place(clock: Clock) -> None:
    turns = Turns(1, clock)
    running, waiting = entered(turns), entered(turns)
    for _ in range(5):
        clock.now += LEASE_SECONDS
        assert turns.standing(running, 500.0) == Standing(True, 0, 0.0)
        assert turns.standing(waiting) == Standing(False, 1, 500.0 - clock.now)
