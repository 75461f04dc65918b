"""Intervals hold what they should, and count objects instead of entries; tests against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.evaluation.statistics import LEAST_OBJECTS, by_object, holm, interval, paired_test


def simulated(objects: int, seed: int) -> tuple[list[float], list[int]]:
    """Entries of objects whose own means scatter twice as much as entries of one object; the true mean is 0."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(objects), random.integers(1, 5, objects))
    values = random.normal(0, 1, objects)[owner] + random.normal(0, 0.5, len(owner))
    return values.tolist(), owner.tolist()


def coverage(objects: int, *, independent: bool = False, studies: int = 300) -> float:
    held = 0
    for seed in range(studies):
        values, owner = simulated(objects, seed)
        bounds = interval(values, list(range(len(values))) if independent else owner, resamples=1000)
        assert bounds is not None
        held += bounds[0] <= 0 <= bounds[1]
    return held / studies


@pytest.mark.parametrize(("objects", "least", "most"), [(7, 0.91, 0.97), (20, 0.92, 0.98)])
def test_intervals_hold_the_true_mean_as_often_as_they_say(objects, least, most):
    assert least <= coverage(objects) <= most


def test_intervals_over_entries_would_hold_it_too_seldom():
    assert coverage(20, independent=True) < 0.85


def test_entries_of_one_object_count_once():
    values, objects = [1.0, 2.0, 4.0, 5.0, 8.0, 9.0], list("abcdef")
    once = interval(values, objects)
    assert interval(values * 10, objects * 10) == pytest.approx(once)


def test_an_interval_is_the_same_each_time_and_another_by_another_seed():
    values, owner = simulated(8, 1)
    assert interval(values, owner) == interval(values, owner)
    assert interval(values, owner) != interval(values, owner, seed=1)


def test_few_objects_have_no_interval():
    objects = list(range(LEAST_OBJECTS - 1))
    assert interval([0.0, 1.0] * len(objects), objects * 2) is None
    assert interval([1.0] * LEAST_OBJECTS, list(range(LEAST_OBJECTS))) == (1.0, 1.0)


def test_sums_by_object_come_in_the_order_of_the_objects():
    sums, counts = by_object([1.0, 2.0, 3.0, 4.0], ["b", "a", "b", "c"])
    assert (sums.tolist(), counts.tolist()) == ([4.0, 2.0, 4.0], [2.0, 1.0, 1.0])


def test_the_signed_rank_test_is_exact_and_of_objects():
    # All six objects differ in one direction: 2 of the 64 combinations of signs are as extreme.
    better, worse, objects = [2.0, 3.0, 4.0, 5.0, 6.0, 7.5], [1.0] * 6, list("abcdef")
    assert paired_test(better, worse, objects) == pytest.approx(2 / 64)
    assert paired_test(better * 3, worse * 3, objects * 3) == pytest.approx(2 / 64)
    # Ranks 1, 2 and 3 with the signs +, + and -: the sum is 0, the most usual one.
    assert paired_test([1.0, 2.0, -3.0], [0.0] * 3, list("abc")) == 1.0
    # Equal objects are left out, and ties are exact: +1, +1, +1 has 2 of 8 combinations.
    assert paired_test([1.0, 1.0, 1.0, 0.0], [0.0] * 4, list("abcd")) == pytest.approx(2 / 8)
    assert paired_test([1.0, 2.0], [1.0, 2.0], list("ab")) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
