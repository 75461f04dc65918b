"""Intervals and tests for figures of several entries an object, which are not independent.

Both resample or compare objects, not entries: two pictures of one object are alike, and counting them as two would make
the intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
# With fewer objects the bootstrap knows too few different resamples for an interval of 95 %. Chosen by hand: the
# intervals of five objects hold the truth about as often as they should, see tests/evaluation/test_statistics.py.
LEAST_OBJECTS = 5
# Up to so many objects the test tries every combination of signs, 4096 at most. Chosen by hand.
MOST_EXACT = 12


def by_object(values: Sequence[float], objects: Sequence[Hashable]) -> tuple[Values, Values]:
    """Sums and numbers of the values of each object, in the order in which the objects come.

    Args:
        values: of the entries.
        objects: the object of each entry.

    Returns:
        Two arrays (objects,).
    """
    place = {name: number for number, name in enumerate(dict.fromkeys(objects))}
    index = np.array([place[name] for name in objects], np.int64)
    sums = np.bincount(index, weights=np.asarray(values, np.float64), minlength=len(place))
    return sums, np.bincount(index, minlength=len(place)).astype(np.float64)


def interval(
    values: Sequence[float],
    objects: Sequence[Hashable],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The bootstrap interval of the mean over entries, by resampling objects with all their entries.

    It is the percentile interval, widened for few objects after Hesterberg (2015, "What Teachers Should Know About the
    Bootstrap", section 5.3): its percentiles are those at which a normal distribution has the bounds of Student's
    interval. Without that the interval of ten objects is a tenth too narrow.

    Args:
        values: of the entries.
        objects: the object of each entry.
        level: how often the interval should hold the mean of the population, in (0, 1).
        resamples: of the bootstrap.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        The lower and the upper bound; None for fewer than `LEAST_OBJECTS` objects.
    """
    sums, counts = by_object(values, objects)
    number = len(sums)
    if number < LEAST_OBJECTS:
        return None
    bound = np.sqrt(number / (number - 1)) * stats.t.ppf((1 + level) / 2, number - 1)
    found = stats.bootstrap(
        (sums, counts),
        lambda sums, counts, axis=-1: sums.sum(axis=axis) / counts.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=1 - 2 * stats.norm.sf(bound),
        n_resamples=resamples,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_test(one: Sequence[float], other: Sequence[float], objects: Sequence[Hashable]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test on the objects' mean differences.

    Exact for up to `MOST_EXACT` objects, ties and zeros included; objects without a difference are left out.

    Args:
        one: values of the entries by one method.
        other: by the other method, in the same order.
        objects: the object of each entry.

    Returns:
        In (0, 1]; 1 where no object differs.
    """
    sums, counts = by_object(np.subtract(one, other).tolist(), objects)
    differences = sums / counts
    differences = differences[differences != 0.0]
    if not len(differences):
        return 1.0
    method = stats.PermutationMethod(n_resamples=2**MOST_EXACT) if len(differences) <= MOST_EXACT else "auto"
    return float(stats.wilcoxon(differences, method=method).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, adjusted after Holm (1979), in the given order.

    The chance that any of the true null hypotheses is rejected stays below the level of each test.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
