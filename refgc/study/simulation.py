"""Raters of known taste: whether a report finds what was put in, and how many people a study needs.

A person finds a result as good as the method is on the whole, plus what this person and this item make of the method,
plus chance. The best result is chosen; where the second best is nearly as good, none is. The spreads were chosen by
hand: a person says the same of the same pictures in about two of three cases, and Krippendorff's alpha is between 0.1
and 0.2. Real people differ from them, and so do the numbers of people that a real study needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from refgc.study.estimates import (
    MISSING,
    Choices,
    Values,
    crossed_means,
    difference_interval,
    indicators,
    share_intervals,
)
from refgc.study.votes import Rules

QUESTIONS, CHECKS = 3, 2
# Draws of a person and an item from the population; the standard error of a share is at most 0.0005.
DRAWS = 1_000_000
# How often somebody who pays attention misses the right answer of a check by mistake. Chosen by hand.
SLIP = 0.02
RATERS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
# How often a study should find a difference that is there, as is usual.
POWER = 0.8


@dataclass(frozen=True)
class Taste:
    """What people like.

    Attributes:
        worth: of each method.
        people: how much people differ in what they make of a method; standard deviation, where chance has 1.28.
        items: how much items differ.
        both: how much a person's view of an item differs from that of others, whatever the question.
        threshold: two results nearer than this are the same to a person.
    """

    worth: tuple[float, ...]
    people: float = 1.0
    items: float = 1.5
    both: float = 1.5
    threshold: float = 0.15

    def shares(self, seed: int = 0) -> Values:
        """The shares in the population of people and items, none first, by `DRAWS` draws."""
        random = np.random.default_rng(seed)
        spread = (self.people**2 + self.items**2 + self.both**2) ** 0.5
        number = len(self.worth)
        counts = np.zeros(number + 1)
        for _ in range(10):
            seen = np.array(self.worth) + spread * random.standard_normal((DRAWS // 10, number))
            counts += np.bincount(self.choose(seen, random).ravel(), minlength=number + 1)
        return np.asarray(counts / counts.sum(), np.float64)

    def choose(self, seen: Values, random: np.random.Generator) -> Choices:
        """What is chosen where results seem so good, (..., methods), in an array (...)."""
        felt = seen + random.gumbel(size=seen.shape)
        best = np.partition(felt, -2, axis=-1)[..., -2:]
        chosen = felt.argmax(-1).astype(np.int8) + np.int8(1)
        return np.where(best[..., 1] - best[..., 0] < self.threshold, np.int8(0), chosen)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedStudy:
    """A study by people who are made up.

    Attributes:
        choices: (questions, people, items).
        honest: (people,), False for those who click at random.
        kept: (people,), who is not left out by the rules of a report.
    """

    choices: Choices
    honest: NDArray[np.bool_]
    kept: NDArray[np.bool_]

    def counted(self, question: int) -> Choices:
        """The votes on a question that count, (people, items)."""
        return np.asarray(self.choices[question][self.kept], np.int8)


class Design(NamedTuple):
    """How large a study is.

    Attributes:
        raters: people.
        items: that each of them sees.
        careless: share of people who click at random.
    """

    raters: int
    items: int
    careless: float = 0.0


@dataclass(slots=True)
class Recovery:
    """What reports found over many studies.

    Attributes:
        truth: shares in the population, none first.
        mean: of the shares that were found.
        coverage: how often the interval of each share held the truth.
        difference_coverage: how often that of the difference between the first two methods held it.
        found: how often that interval had the right sign for all of it.
        honest_excluded: share of the honest people who were left out.
        careless_kept: share of the careless ones who were not.
    """

    truth: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    difference_coverage: float = 0.0
    found: float = 0.0
    honest_excluded: float = 0.0
    careless_kept: float = 0.0


def simulate_study(
    taste: Taste,
    design: Design,
    random: np.random.Generator,
    rules: Rules | None = None,
    *,
    questions: int = QUESTIONS,
) -> SimulatedStudy:
    """One study, its attention checks and its repeated item included.

    Args:
        taste: of those who are honest.
        design: how large it is.
        random: what everything random comes from.
        rules: who is left out; None for those of a report.
        questions: that are asked of each item.
    """
    rules = rules or Rules()
    number = len(taste.worth)
    people, items = design.raters, design.items
    worth = (
        np.array(taste.worth)
        + taste.people * random.standard_normal((people, 1, number))
        + taste.items * random.standard_normal((1, items, number))
        + taste.both * random.standard_normal((people, items, number))
    )
    choices = taste.choose(np.broadcast_to(worth, (questions, *worth.shape)), random)
    repeated = taste.choose(np.broadcast_to(worth[:, 0], (questions, people, number)), random)
    right = random.random((QUESTIONS * CHECKS, people)) >= SLIP
    honest = random.random(people) >= design.careless
    # Who clicks at random takes any of the methods or none.
    blind = random.integers(0, number + 1, (questions, people, items), np.int8)
    choices = np.where(honest[:, None], choices, blind)
    repeated = np.where(honest, repeated, random.integers(0, number + 1, repeated.shape, np.int8))
    right = np.where(honest, right, random.random(right.shape) < 1 / (number + 1))
    same = (repeated == choices[:, :, 0]).sum(0)
    kept = np.array(
        [
            rules.attentive(int(good), len(right)) and rules.consistent(int(equal), questions)
            for good, equal in zip(right.sum(0), same, strict=True)
        ]
    )
    return SimulatedStudy(choices, honest, kept)


def recover(
    taste: Taste,
    design: Design,
    studies: int,
    *,
    seed: int = 0,
    truth: Values | None = None,
    rules: Rules | None = None,
) -> Recovery:
    """Many studies, each of which is reported, on one question.

    The others are only simulated where the rules look at the answers to the repeated item.

    Args:
        taste: what people like.
        design: how large each study is.
        studies: how many.
        seed: of everything random.
        truth: shares in the population; None takes those of the taste.
        rules: who is left out; None for those of a report.
    """
    truth = taste.shares() if truth is None else truth
    kinds = len(truth)
    lead = float(truth[1] - truth[2])
    random = np.random.default_rng(seed)
    questions = QUESTIONS if rules is not None and rules.same else 1
    sums, held = np.zeros(kinds), np.zeros(kinds)
    counted = held_difference = found = honest = careless = lost = passed = 0
    for _ in range(studies):
        study = simulate_study(taste, design, random, rules, questions=questions)
        honest, careless = honest + int(study.honest.sum()), careless + int((~study.honest).sum())
        lost, passed = lost + int((study.honest & ~study.kept).sum()), passed + int((~study.honest & study.kept).sum())
        votes = study.counted(-1)
        if len(votes) < 2:
            continue
        counted += 1
        values = indicators(votes, kinds)
        values = np.concatenate([values, values[1:2] - values[2:3]])
        means = crossed_means(values, votes != MISSING)
        only_shares = type(means)(*(part[:-1] for part in means))
        sums += only_shares.mean
        for kind, interval in enumerate(share_intervals(only_shares, votes.size)):
            held[kind] += interval is not None and interval.low <= truth[kind] <= interval.high
        interval = difference_interval(means, kinds)
        held_difference += interval is not None and interval.low <= lead <= interval.high
        found += interval is not None and (interval.low if lead > 0 else -interval.high) > 0
    counted = max(1, counted)
    return Recovery(
        truth.tolist(),
        (sums / counted).tolist(),
        (held / counted).tolist(),
        held_difference / counted,
        found / studies,
        lost / max(1, honest),
        passed / max(1, careless),
    )


def taste_with_lead(methods: int, lead: float, taste: Taste | None = None) -> Taste:
    """A taste by which the first method has a share larger by `lead` than that of each other, which are alike.

    Args:
        methods: how many.
        lead: difference of the shares, in (0, 1).
        taste: of which the spreads are taken; None for the usual ones.
    """
    base = taste or Taste(())

    def excess(worth: float) -> float:
        shares = replace(base, worth=(worth, *[0.0] * (methods - 1))).shares()
        return float(shares[1] - shares[2:].mean()) - lead

    worth = optimize.brentq(excess, 0.0, 20.0, xtol=0.002)
    return replace(base, worth=(float(worth), *[0.0] * (methods - 1)))


@dataclass(frozen=True, slots=True)
class Need:
    """How many people a difference needs.

    Attributes:
        lead: the difference of two shares.
        raters: the fewest of those that were tried with which `power` is reached; None where none was enough.
        power: by the number of people, how often the difference was found.
    """

    lead: float
    raters: int | None
    power: dict[int, float]


def raters_needed(
    methods: int, lead: float, items: int, *, studies: int, seed: int = 0, careless: float = 0.0,
    raters: Sequence[int] = RATERS, power: float = POWER, taste: Taste | None = None,
) -> Need:  # fmt: skip
    """How many people find that one method has a larger share than another.

    Args:
        methods: how many.
        lead: difference of the shares, in (0, 1).
        items: that each person sees.
        studies: that are simulated with each number of people.
        seed: of everything random.
        careless: share of people who click at random.
        raters: numbers of people that are tried, from the fewest on.
        power: how often the difference should be found.
        taste: of which the spreads are taken; None for the usual ones.
    """
    made = taste_with_lead(methods, lead, taste)
    truth = made.shares()
    reached: dict[int, float] = {}
    for number in raters:
        found = recover(made, Design(number, items, careless), studies, seed=seed + number, truth=truth).found
        reached[number] = found
        if found >= power:
            return Need(lead, number, reached)
    return Need(lead, None, reached)
