"""How long runs are expected to take: measured by size at first, then as the runs before went on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refgc.page.service.rates import MEASURED, REMEMBERED, Rates, RunSize

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
SMALL, LARGE = 1.05, 16.78


def test_first_run_is_expected_to_take_what_was_measured():
    measured = json.loads((BENCHMARKS / "correspondence.json").read_text())["cases"]
    rates = Rates()
    for name, megapixels in (("object, 256 to 1024", SMALL), ("object, 1024 to 4096", LARGE)):
        seconds = next(case["seconds"] for case in measured if case["case"] == name)
        assert rates.expected(RunSize("refine", megapixels)) == pytest.approx(seconds, rel=0.3)
    # Two cores share what the processor took.
    drawn = json.loads((BENCHMARKS / "surroundings.json").read_text())["methods"]
    for method in ("fast", "best"):
        for sides, megapixels in (("256 to 1024", SMALL), ("1024 to 4096", LARGE)):
            seconds = drawn[method][f"processor seconds, {sides}"] / 2
            assert rates.expected_part(method, megapixels) == pytest.approx(seconds, rel=0.4)


def test_more_pixels_and_better_surroundings_take_longer():
    rates = Rates()
    plain, large, fast, best = (
        rates.expected(size)
        for size in (
            RunSize("refine", SMALL),
            RunSize("refine", LARGE),
            RunSize("refine", SMALL, "fast"),
            RunSize("refine", SMALL, "best"),
        )
    )
    assert plain < fast < best
    assert plain < large
    assert best - plain == pytest.approx(rates.expected_part("best", SMALL))


def test_slow_machine_is_expected_to_stay_slow_at_every_size():
    rates = Rates()
    first = {size: rates.expected(RunSize("refine", size)) for size in (SMALL, LARGE)}
    rates.note("refine", SMALL, 2 * first[SMALL])
    assert rates.expected(RunSize("refine", SMALL)) == pytest.approx(2 * first[SMALL])
    assert rates.expected(RunSize("refine", LARGE)) == pytest.approx(2 * first[LARGE])
    # What never ran here is as slow as what did.
    assert rates.expected_part("best", SMALL) == pytest.approx(2 * Rates().expected_part("best", SMALL))
    rates.note("best", SMALL, 10.0)
    assert rates.expected_part("best", SMALL) == pytest.approx(10.0)
    assert rates.expected(RunSize("refine", SMALL)) == pytest.approx(2 * first[SMALL])


def test_one_odd_run_does_not_count():
    rates = Rates()
    for seconds in (10.0, 10.0, 500.0, 10.0):
        rates.note("refine", SMALL, seconds)
    assert rates.expected(RunSize("refine", SMALL)) == pytest.approx(10.0)


def test_runs_of_like_size_count_for_each_size():
    rates = Rates()
    for _ in range(5):
        rates.note("refine", SMALL, 20.0)
        rates.note("refine", LARGE, 30.0)
    assert rates.expected(RunSize("refine", SMALL)) == pytest.approx(20.0)
    assert rates.expected(RunSize("refine", LARGE)) == pytest.approx(30.0)


def test_machine_that_gets_busy_is_followed():
    rates = Rates()
    for seconds in (*[10.0] * 10, *[40.0] * 3):
        rates.note("refine", SMALL, seconds)
    assert rates.expected(RunSize("refine", SMALL)) == pytest.approx(40.0)


def test_what_was_long_ago_is_forgotten():
    rates = Rates()
    rates.note("refine", SMALL, 1000.0)
    for _ in range(REMEMBERED):
        rates.note("refine", LARGE, 9.0)
    assert rates.expected(RunSize("refine", SMALL)) < 10.0


def test_run_of_unknown_size_is_taken_for_a_usual_one():
    rates = Rates()
    assert rates.expected(RunSize()) == pytest.approx(rates.expected(RunSize("refine", SMALL)))
    for megapixels in (SMALL, LARGE, LARGE):
        rates.note("refine", megapixels, 7.0 * megapixels)
    assert rates.expected(RunSize()) == pytest.approx(rates.expected(RunSize("refine", LARGE)))


def test_every_engine_has_a_time_for_every_part():
    assert {frozenset(parts) for parts in MEASURED.values()} == {frozenset({"refine", "preview", "fast", "best"})}
