"""Shares of votes with intervals that know that votes are not independent: people differ, and so do items.

A vote is that of one person on one item. What is asked for is the share in the population of people and of items, from
which both were drawn. So the variance of a share has three parts: that of people, that of items, and the rest.

Resampling both people and items (Owen 2007, "The pigeonhole bootstrap") counts the rest three times, and its
percentile intervals are too wide; `python -m benchmarks.study` measures by how much. The intervals here take the three
parts from the sums of squares of the votes instead (Henderson 1953, "Estimation of variance and covariance components",
method I, which allows missing votes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values: TypeAlias = NDArray[np.float64]
Choices: TypeAlias = NDArray[np.int8]

LEVEL = 0.95
# In an array of choices: a vote that is missing, and one for none; the methods follow from 1 on.
MISSING, NONE = -1, 0
# With fewer people or items nothing is known of how they differ.
FEWEST = 2
RESAMPLES = 2000
# So many resamples at once, which keeps their memory small.
BATCH = 500


class Interval(NamedTuple):
    """Lower and upper bound."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """The share of the votes that one choice has.

    Attributes:
        votes: how many.
        share: in [0, 1].
        interval: by the variance of people and of items; None for fewer than `FEWEST` of either.
        bootstrap: the percentile interval of the crossed bootstrap, which is too wide.
        wilson: the interval of independent votes (Wilson 1927), which is too narrow.
    """

    votes: int
    share: float
    interval: Interval | None
    bootstrap: Interval | None
    wilson: Interval


class MeanVariance(NamedTuple):
    """Means of crossed values; each is an array (kinds,).

    Attributes:
        mean: over all values that are there.
        variance: of the mean.
        freedom: degrees of freedom of the variance.
    """

    mean: Values
    variance: Values
    freedom: Values


def crossed_means(values: Values, seen: NDArray[np.bool_]) -> MeanVariance:
    """Means over people and items, and how sure they are.

    The degrees of freedom are those of Satterthwaite (1946, "An approximate distribution of estimates of variance
    components") by the mean squares.

    Args:
        values: (kinds, people, items); what is not seen plays no part.
        seen: (people, items), which values are there; nobody and no item without any.

    Returns:
        The variance is NaN for fewer than `FEWEST` people or items.
    """
    values = np.where(seen, values, 0.0)
    by_person, by_item = seen.sum(1), seen.sum(0)
    people, items, number = len(by_person), len(by_item), int(seen.sum())
    mean = values.sum((1, 2)) / number
    if min(people, items) < FEWEST:
        return MeanVariance(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    # Each person's share in the mean, squared and summed; and each item's.
    of_people, of_items = float((by_person**2).sum()) / number, float((by_item**2).sum()) / number
    total = number * mean**2
    squares = np.stack(
        [
            (values**2).sum((1, 2)) - total,
            (values.sum(2) ** 2 / by_person).sum(1) - total,
            (values.sum(1) ** 2 / by_item).sum(1) - total,
        ]
    )
    expected = np.array(
        [
            [number - of_people, number - of_items, number - 1],
            [number - of_people, people - of_items, people - 1],
            [items - of_people, number - of_items, items - 1],
        ]
    )
    # Where each item was seen by one person alone, item and rest cannot be told apart, and only their sum counts.
    person, item, rest = np.clip(np.linalg.lstsq(expected, squares)[0], 0.0, None)
    parts = np.stack([person * of_people / number, item * of_items / number, rest / number])
    variance = parts.sum(0)
    degrees = np.array([people - 1, items - 1, max(1, number - people - items + 1)])[:, None]
    # Of people, of items and of the rest; their mean squares, divided by the number of values.
    mean_squares = np.stack([parts[0] + parts[2], parts[1] + parts[2], parts[2]])
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = variance**2 / (mean_squares**2 / degrees).sum(0)
    return MeanVariance(mean, variance, np.where(variance > 0, np.maximum(freedom, 1.0), np.nan))


def share_intervals(found: MeanVariance, number: int) -> list[Interval | None]:
    """Wilson's intervals with the number of independent votes that would be as sure, and Student's quantile.

    Args:
        found: of the shares of all choices of one question, which sum to 1.
        number: of votes.
    """
    share, variance, freedom = found
    if np.isnan(variance).any():
        return [None] * len(share)
    binomial = share * (1 - share)
    # How much less sure the votes are than independent ones, over all choices. A choice that nobody or everybody took
    # shows nothing of how people differ, so that it gets the others' factor.
    common = max(1.0, float(variance.sum() * number / binomial.sum())) if binomial.sum() > 0 else float(number)
    degenerate = ~(variance > 0)
    effective = np.divide(binomial, variance, out=np.full_like(share, number / common), where=~degenerate)
    effective = np.clip(effective, 1.0, number)
    known = freedom[~degenerate]
    freedom = np.where(degenerate, known.min() if len(known) else 1.0, freedom)
    quantile = stats.t.ppf((1 + LEVEL) / 2, freedom)
    return [_wilson(float(p), float(n), float(z)) for p, n, z in zip(share, effective, quantile, strict=True)]


def difference_interval(found: MeanVariance, kind: int) -> Interval | None:
    """Student's interval of a mean of differences, which lie in [-1, 1]."""
    mean, variance, freedom = (float(part[kind]) for part in found)
    if np.isnan(variance):
        return None
    if variance == 0:
        return Interval(mean, mean)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * variance**0.5
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


def bootstrap_intervals(values: Values, seen: NDArray[np.bool_], *, seed: int) -> list[Interval]:
    """Percentile intervals of means by resampling people and items.

    Args:
        values: (kinds, people, items).
        seen: (people, items).
        seed: of the resampling.
    """
    random = np.random.default_rng(seed)
    people, items = seen.shape
    values = np.where(seen, values, 0.0)
    means = []
    for _ in range(0, RESAMPLES, BATCH):
        by_person = random.multinomial(people, np.full(people, 1 / people), BATCH).astype(np.float64)
        by_item = random.multinomial(items, np.full(items, 1 / items), BATCH).astype(np.float64)
        sums = np.einsum("bp,kpb->kb", by_person, values @ by_item.T)
        number = np.einsum("bp,pb->b", by_person, seen @ by_item.T)
        # Of an incomplete design a resample may have no votes at all.
        means.append(np.divide(sums, number, out=np.full_like(sums, np.nan), where=number > 0))
    low, high = np.nanquantile(np.concatenate(means, 1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return [Interval(float(one), float(other)) for one, other in zip(low, high, strict=True)]


def indicators(choices: Choices, kinds: int) -> Values:
    """An array (kinds, people, items), 1 where a choice was taken."""
    return np.asarray(choices == np.arange(kinds)[:, None, None], np.float64)


def present(choices: Choices) -> Choices:
    """The choices (people, items) of those people and on those items of which there are any."""
    seen = choices != MISSING
    return np.asarray(choices[np.ix_(seen.any(1), seen.any(0))], np.int8)


def shares(choices: Choices, kinds: int, *, seed: int = 0) -> list[Share]:
    """The shares of all choices of one question.

    Args:
        choices: (people, items), `MISSING`, `NONE` or the number of a method; at least one vote.
        kinds: methods and the one for none.
        seed: of the bootstrap.
    """
    choices = present(choices)
    seen, values = choices != MISSING, indicators(choices, kinds)
    found, number = crossed_means(values, seen), int(seen.sum())
    boot: list[Interval | None] = [None] * kinds
    if min(seen.shape) >= FEWEST:
        boot = list(bootstrap_intervals(values, seen, seed=seed))
    independent = float(stats.norm.ppf((1 + LEVEL) / 2))
    return [
        Share(
            round(float(found.mean[kind]) * number),
            float(found.mean[kind]),
            interval,
            boot[kind],
            _wilson(float(found.mean[kind]), number, independent),
        )
        for kind, interval in enumerate(share_intervals(found, number))
    ]


def difference(choices: Choices, one: int, other: int) -> tuple[float, Interval | None]:
    """How much larger the share of one choice is than that of another, and its interval."""
    choices = present(choices)
    values = (choices == one).astype(np.float64) - (choices == other)
    found = crossed_means(values[None], choices != MISSING)
    return float(found.mean[0]), difference_interval(found, 0)


def agreement(choices: Choices, kinds: int) -> float | None:
    """Krippendorff's alpha of nominal data: 1 where all agree on each item, 0 where they agree as chance would.

    Returns:
        None where no item has two votes, or all votes are the same, which leaves it undefined.
    """
    import krippendorff

    counts = indicators(choices, kinds).sum(1).T
    counts = counts[counts.sum(1) > 1]
    if (counts.sum(0) > 0).sum() < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts.astype(np.int64), level_of_measurement="nominal"))


def position_bias(places: Choices, number: int) -> tuple[list[int], float | None]:
    """Whether people choose by the place at which a result stands.

    The order of the results is random and balanced, whatever people like. So without such a bias the place of the
    chosen result is each of them equally often, though the votes themselves are not independent, and Pearson's
    chi-squared test holds.

    Args:
        places: of the chosen results, from 1 on; others, such as votes for none, play no part.
        number: of places.

    Returns:
        Votes by place, and the test's p-value; None with fewer than five votes a place, for which it does not hold.
    """
    counts = np.bincount(places[places > 0], minlength=number + 1)[1:]
    p_value = float(stats.chisquare(counts).pvalue) if counts.sum() >= 5 * number else None
    return counts.tolist(), p_value


def _wilson(share: float, number: float, quantile: float) -> Interval:
    scale = 1 + quantile**2 / number
    middle = (share + quantile**2 / (2 * number)) / scale
    half = quantile * (share * (1 - share) / number + quantile**2 / (4 * number**2)) ** 0.5 / scale
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
