"""Shares, intervals, agreement and bias by position, against hand-computed values and other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from refgc.study.estimates import (
    MISSING,
    agreement,
    bootstrap_intervals,
    crossed_means,
    difference,
    indicators,
    position_bias,
    shares,
)
from refgc.study.simulation import Design, Taste, recover


def test_the_variance_of_a_complete_study_is_that_of_the_two_way_table() -> None:
    """(MS people + MS items - MS rest) / number, as textbooks have it for two random factors."""
    random = np.random.default_rng(0)
    values = random.normal(size=(6, 1)) + random.normal(size=(1, 9)) + random.normal(size=(6, 9))
    mean = values.mean()
    rows, columns = values.mean(1), values.mean(0)
    people = 9 * ((rows - mean) ** 2).sum() / 5
    items = 6 * ((columns - mean) ** 2).sum() / 8
    rest = ((values - rows[:, None] - columns + mean) ** 2).sum() / 40
    assert people > rest
    assert items > rest
    found = crossed_means(values[None], np.ones((6, 9), bool))
    assert found.mean[0] == pytest.approx(mean)
    assert found.variance[0] == pytest.approx((people + items - rest) / 54)
    freedom = (people + items - rest) ** 2 / (people**2 / 5 + items**2 / 8 + rest**2 / 40)
    assert found.freedom[0] == pytest.approx(freedom)


def test_the_variance_of_an_incomplete_study_is_right_on_average() -> None:
    """By drawing the whole study anew many times."""
    random = np.random.default_rng(1)
    seen = random.random((12, 10)) < 0.5
    assert seen.any(1).all()
    assert seen.any(0).all()
    means, variances = [], []
    for _ in range(3000):
        values = 0.6 * random.normal(size=(12, 1)) + 0.8 * random.normal(size=(1, 10)) + random.normal(size=(12, 10))
        found = crossed_means(values[None], seen)
        means.append(found.mean[0])
        variances.append(found.variance[0])
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.08)


def test_where_each_item_was_seen_by_one_person_the_variance_is_still_there() -> None:
    random = np.random.default_rng(2)
    seen = np.kron(np.eye(5, dtype=bool), np.ones((1, 4), bool))
    means, variances = [], []
    for _ in range(3000):
        values = 1.4 * random.normal(size=(5, 1)) + random.normal(size=(1, 20)) + random.normal(size=(5, 20))
        found = crossed_means(values[None], seen)
        means.append(found.mean[0])
        variances.append(found.variance[0])
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.08)


def test_shares_count_votes_and_bracket_them() -> None:
    random = np.random.default_rng(3)
    choices = random.choice([0, 1, 1, 1, 2, 3], size=(20, 15)).astype(np.int8)
    choices[4, 5] = MISSING
    found = shares(choices, 4)
    assert sum(one.votes for one in found) == 299
    assert sum(one.share for one in found) == pytest.approx(1)
    for kind, one in enumerate(found):
        assert one.votes == (choices == kind).sum()
        assert one.interval is not None
        assert one.bootstrap is not None
        assert 0 <= one.interval.low < one.share < one.interval.high <= 1
        reference = stats.binomtest(one.votes, 299).proportion_ci(method="wilson")
        assert one.wilson == pytest.approx((reference.low, reference.high))
        # Votes that are independent here give hardly more than Wilson's interval.
        assert one.interval.high - one.interval.low < 1.6 * (one.wilson.high - one.wilson.low)


def test_people_and_items_that_differ_make_the_interval_wider() -> None:
    """Half of the people always take one method, and half always the other: 10 people, not 200 votes."""
    choices = np.repeat(np.array([1, 2], np.int8), 5)[:, None].repeat(20, 1)
    (_, first, _) = shares(choices, 3)
    assert first.interval is not None
    assert first.share == 0.5
    # Student's interval of ten people is 0.5 +- 0.38.
    assert first.interval.high - first.interval.low > 0.55
    assert first.wilson.high - first.wilson.low < 0.15
    (_, second, _) = shares(choices.T, 3)
    assert second.interval == pytest.approx(first.interval)


def test_a_choice_that_nobody_takes_has_an_interval_from_nought() -> None:
    random = np.random.default_rng(4)
    choices = np.where(random.random((16, 1)) < 0.5, 1, 2).repeat(12, 1).astype(np.int8)
    nobody, *_ = shares(choices, 3)
    assert nobody.share == 0
    assert nobody.interval is not None
    assert nobody.interval.low == 0
    # People differ, so that it reaches further than for 192 independent votes.
    assert nobody.wilson.high < nobody.interval.high < 0.5
    (everybody,) = [one for one in shares(np.ones((5, 5), np.int8), 2) if one.share == 1]
    assert everybody.interval is not None
    assert everybody.interval.high == 1
    assert everybody.interval.low < 0.9


def test_of_one_person_or_one_item_no_interval_is_known() -> None:
    for shape in ((1, 9), (9, 1)):
        for one in shares(np.ones(shape, np.int8), 2):
            assert one.interval is None
            assert one.bootstrap is None
        assert difference(np.ones(shape, np.int8), 1, 0) == (1.0, None)


def test_a_difference_is_that_of_the_shares_and_its_interval_is_paired() -> None:
    random = np.random.default_rng(6)
    choices = random.choice([0, 1, 1, 2], size=(20, 15)).astype(np.int8)
    found = shares(choices, 3)
    value, interval = difference(choices, 1, 2)
    assert value == pytest.approx(found[1].share - found[2].share)
    assert interval is not None
    assert interval.low < value < interval.high
    back, other = difference(choices, 2, 1)
    assert back == pytest.approx(-value)
    assert other == pytest.approx((-interval.high, -interval.low))


def test_the_crossed_bootstrap_resamples_people_and_items() -> None:
    """Against one written with plain loops."""
    random = np.random.default_rng(7)
    values = (random.random((8, 1)) + random.random((1, 6)) + random.random((8, 6)) > 1.5).astype(float)
    seen = np.ones((8, 6), bool)
    seen[2, 3] = False
    means = []
    for _ in range(4000):
        people, items = random.integers(0, 8, 8), random.integers(0, 6, 6)
        there = [(person, item) for person in people for item in items if seen[person, item]]
        means.append(np.mean([values[pair] for pair in there]))
    (found,) = bootstrap_intervals(values[None], seen, seed=0)
    assert found == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.025)
    assert bootstrap_intervals(values[None], seen, seed=0) == [found]


def test_agreement_is_krippendorffs_alpha() -> None:
    """The example of Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: 0.743."""
    a, b, c, d = (
        [1, 2, 3, 3, 2, 1, 4, 1, 2, -1, -1, -1],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, -1, 3],
        [-1, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, -1],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, -1],
    )
    assert agreement(np.array([a, b, c, d], np.int8), 6) == pytest.approx(0.743, abs=0.001)
    assert agreement(np.ones((4, 5), np.int8), 3) is None
    assert agreement(np.array([[1, MISSING], [MISSING, 2]], np.int8), 3) is None


def test_a_bias_by_position_is_seen_and_none_is_not() -> None:
    random = np.random.default_rng(8)
    fair = random.integers(0, 5, (16, 20)).astype(np.int8)
    counts, p_value = position_bias(fair, 4)
    assert counts == [int((fair == place).sum()) for place in (1, 2, 3, 4)]
    assert p_value is not None
    assert p_value > 0.05
    _, biased = position_bias(np.where(random.random(fair.shape) < 0.2, 1, fair).astype(np.int8), 4)
    assert biased is not None
    assert biased < 0.001
    assert position_bias(np.array([1, 2, 3], np.int8), 4) == ([1, 1, 1, 0], None)


def test_the_test_of_positions_errs_as_often_as_it_says_though_votes_are_not_independent() -> None:
    """People who take one method on every item, whose places are those of a real study."""
    random = np.random.default_rng(9)
    taken = 0
    for _ in range(400):
        favourite = random.integers(0, 4, 16)
        orders = np.argsort(random.random((16, 20, 4)), axis=2)
        places = (orders == favourite[:, None, None]).argmax(2) + 1
        _, p_value = position_bias(places.astype(np.int8), 4)
        assert p_value is not None
        taken += p_value < 0.05
    assert 0.02 < taken / 400 < 0.08


@pytest.mark.parametrize("worth", [(0.6, 0.3, 0.0, 0.0), (2.5, 0.0, 0.0, -0.5)])
def test_intervals_hold_the_true_shares_as_often_as_they_say(worth: tuple[float, ...]) -> None:
    """1,000 studies of each of many kinds are in benchmarks/study.json."""
    found = recover(Taste(worth), Design(16, 20), 300, seed=3)
    assert 0.93 <= np.mean(found.coverage) <= 0.97
    assert 0.91 <= found.difference_coverage <= 0.98
    assert found.mean == pytest.approx(found.truth, abs=0.01)


def test_indicators_are_one_where_a_choice_was_taken() -> None:
    choices = np.array([[0, 2], [MISSING, 1]], np.int8)
    assert indicators(choices, 3).tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]]
