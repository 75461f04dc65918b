"""Order and random numbers: every sample once an epoch, and nothing depends on processes or on what came before."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import torch

from refgc.errors import InputError
from refgc.training.order import Order, check_processes, draw
from refgc.training.settings import NoiseSettings, RunSettings

BUCKETS = ["wide"] * 5 + ["tall"] * 3 + ["square"]


def epochs(order: Order, steps: int) -> dict[int, list[int]]:
    seen: dict[int, list[int]] = {}
    for one in chain.from_iterable(order.step(step) for step in range(steps)):
        seen.setdefault(one.epoch, []).extend(one.samples)
    return seen


@pytest.mark.parametrize("at_once", [1, 2])
def test_every_sample_once_an_epoch_in_passes_of_one_bucket(at_once: int) -> None:
    order = Order(BUCKETS, RunSettings(batch_size=2, samples_at_once=at_once))
    passes_a_step = 2 // at_once
    steps = 3 * order.passes_an_epoch // passes_a_step
    seen = epochs(order, steps)
    for epoch in (0, 1):
        assert sorted(seen[epoch]) == list(range(9))
    assert seen[0] != seen[1]
    for one in chain.from_iterable(order.step(step) for step in range(steps)):
        assert 1 <= len(one.samples) <= at_once
        assert len({BUCKETS[number] for number in one.samples}) == 1


def test_the_order_depends_on_the_seed_and_on_nothing_that_was_asked_before() -> None:
    settings = RunSettings(batch_size=3)
    forwards, backwards = Order(BUCKETS, settings), Order(BUCKETS, settings)
    found = [forwards.step(step) for step in range(12)]
    assert [backwards.step(step) for step in reversed(range(12))] == found[::-1]
    assert [Order(BUCKETS, RunSettings(batch_size=3, seed=1)).step(step) for step in range(12)] != found


def test_processes_that_cannot_share_a_batch_are_refused() -> None:
    check_processes(RunSettings(batch_size=8, samples_at_once=2), 4)
    with pytest.raises(InputError, match="a multiple of 6"):
        check_processes(RunSettings(batch_size=8, samples_at_once=2), 3)


def test_draws_are_a_function_of_seed_epoch_and_sample() -> None:
    like = torch.zeros(4, 6, 8)
    first = draw(1, 2, "t0", NoiseSettings())
    noise = first.noise(like)
    for other in (
        draw(0, 2, "t0", NoiseSettings()),
        draw(1, 3, "t0", NoiseSettings()),
        draw(1, 2, "t1", NoiseSettings()),
    ):
        assert other.level != first.level
        assert not torch.equal(other.noise(like), noise)
    # No setting moves the other numbers.
    dropped = draw(1, 2, "t0", NoiseSettings(sampling="uniform"), drop_reference=1.0, drop_prompt=1.0)
    assert torch.equal(dropped.noise(like), noise)
    assert dropped.drops_reference
    assert dropped.drops_prompt
    assert not first.drops_reference
    assert not first.drops_prompt


def test_levels_and_dropout_have_their_distributions() -> None:
    """Of 4000 samples the standard error of a share of a half is 0.008."""
    samples = [f"t{number}" for number in range(4000)]
    normal = [draw(0, 0, one, NoiseSettings(mean=0.5, deviation=0.8)) for one in samples]
    logits = torch.logit(torch.tensor([one.level for one in normal], dtype=torch.float64))
    assert logits.mean().item() == pytest.approx(0.5, abs=0.05)
    assert logits.std().item() == pytest.approx(0.8, abs=0.05)
    uniform = [draw(0, 0, one, NoiseSettings(sampling="uniform"), drop_reference=0.25) for one in samples]
    quarters = Counter(int(one.level * 4) for one in uniform)
    assert all(abs(quarters[number] / 4000 - 0.25) < 0.03 for number in range(4))
    assert sum(one.drops_reference for one in uniform) / 4000 == pytest.approx(0.25, abs=0.03)
