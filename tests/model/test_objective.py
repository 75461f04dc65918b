"""The objective: its terms added up, weighed and logged as its settings say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from refgc.model.attention import AlignmentMaps
from refgc.model.losses import (
    attention_alignment_loss,
    flow_matching_loss,
    high_frequency_loss,
    low_frequency_loss,
    squared_high_frequency_loss,
    squared_low_frequency_loss,
)
from refgc.model.objective import ObjectiveSettings, ObjectiveTerms, bin_means, objective
from tests.support.latents import random_latents, rectangle


def make_objective(predicted_velocity: Tensor | None = None, **changes) -> ObjectiveTerms:
    clean, noise = random_latents(2, 2, 8, 8), random_latents(2, 2, 8, 8, seed=1)
    velocity = noise - clean if predicted_velocity is None else predicted_velocity
    inputs: dict[str, Any] = {
        "reference": random_latents(2, 2, 6, 8, seed=2),
        "ground_truth_mask": rectangle(64, 64, slice(0, 40), slice(8, 48), batch=2),
        "reference_mask": rectangle(48, 64, slice(8, 40), slice(8, 56), batch=2),
        "attention_maps": [AlignmentMaps(random_latents(2, 16, seed=3), random_latents(2, 16, seed=4))],
    }
    return objective(velocity, clean, noise, torch.tensor([0.2, 0.9]), **(inputs | changes))


def test_the_objective_adds_up_its_weighted_terms() -> None:
    velocity = random_latents(2, 2, 8, 8, seed=5)
    settings = ObjectiveSettings(low_frequency=2, high_frequency=3, attention_alignment=5)
    terms = make_objective(velocity, settings=settings).numbers()
    total = (
        terms["flow_matching"]
        + 2 * terms["low_frequency"]
        + 3 * terms["high_frequency"]
        + 5 * terms["attention_alignment"]
    )
    assert list(terms)[:5] == ["total", "flow_matching", "low_frequency", "high_frequency", "attention_alignment"]
    assert all(value > 0 for value in terms.values())
    assert terms["total"] == pytest.approx(total)


def test_each_term_of_the_objective_is_the_loss_of_its_name() -> None:
    clean, noise, velocity = (random_latents(2, 2, 8, 8, seed=seed) for seed in (0, 1, 5))
    sigma = torch.tensor([0.2, 0.9])
    reference = random_latents(2, 2, 6, 8, seed=2)
    masks = (
        rectangle(64, 64, slice(0, 40), slice(8, 48), batch=2),
        rectangle(48, 64, slice(8, 40), slice(8, 56), batch=2),
    )
    predicted = clean + sigma.view(2, 1, 1, 1) * (noise - clean - velocity)
    maps = AlignmentMaps(random_latents(2, 16, seed=3), random_latents(2, 16, seed=4))
    terms = make_objective(velocity, settings=ObjectiveSettings(gaussian_sigma=1.0, sigma_power=0))
    torch.testing.assert_close(terms.flow_matching, (noise - clean - velocity).square().mean())
    torch.testing.assert_close(terms.low_frequency, low_frequency_loss(predicted, clean, masks[0], gaussian_sigma=1.0))
    torch.testing.assert_close(
        terms.high_frequency, high_frequency_loss(predicted, reference, *masks, gaussian_sigma=1.0)
    )
    torch.testing.assert_close(terms.attention_alignment, attention_alignment_loss([maps], masks[0], (8, 8)))

    other = make_objective(velocity, settings=ObjectiveSettings(distance="square", sigma_power=0, object_weighted=True))
    torch.testing.assert_close(other.flow_matching, flow_matching_loss(velocity, clean, noise, masks[0]))
    torch.testing.assert_close(other.low_frequency, squared_low_frequency_loss(predicted, clean, masks[0]))
    torch.testing.assert_close(other.high_frequency, squared_high_frequency_loss(predicted, reference, *masks))


def test_high_frequencies_are_weighed_by_sigma_and_logged_without_that() -> None:
    velocity = random_latents(2, 2, 8, 8, seed=5)
    even = make_objective(velocity, settings=ObjectiveSettings(sigma_power=0))
    weighed = make_objective(velocity)
    low_noise, high_noise = even.high_frequency_by_sigma[:, 0][[0, 3]].tolist()
    assert even.high_frequency.item() == pytest.approx((low_noise + high_noise) / 2)
    assert weighed.high_frequency.item() == pytest.approx((0.8**2 * low_noise + 0.1**2 * high_noise) / 2)
    assert torch.equal(weighed.high_frequency_by_sigma, even.high_frequency_by_sigma)
    assert weighed.high_frequency_by_sigma[:, 1].tolist() == [1, 0, 0, 1]
    assert not weighed.high_frequency_by_sigma.requires_grad
    names = [name for name in weighed.numbers() if name.startswith("high_frequency_sigma")]
    assert names == ["high_frequency_sigma_0.00_0.25", "high_frequency_sigma_0.75_1.00"]


@pytest.mark.parametrize("object_weighted", [False, True])
def test_the_other_terms_are_logged_by_sigma_as_well(object_weighted: bool) -> None:
    """Of two samples in two bins the mean of both bins is the term."""
    velocity = random_latents(2, 2, 8, 8, seed=5)
    terms = make_objective(velocity, settings=ObjectiveSettings(object_weighted=object_weighted))
    numbers = terms.numbers()
    for name in ("flow_matching", "low_frequency", "attention_alignment"):
        low_noise, high_noise = (numbers[f"{name}_sigma_{bounds}"] for bounds in ("0.00_0.25", "0.75_1.00"))
        assert low_noise != high_noise
        assert numbers[name] == pytest.approx((low_noise + high_noise) / 2)
    assert not terms.others_by_sigma.requires_grad


def test_a_sample_without_an_object_does_not_lower_the_logged_mean_of_its_bin() -> None:
    velocity, clean = random_latents(2, 2, 8, 8, seed=5), random_latents(2, 2, 8, 8)
    mask = rectangle(64, 64, slice(0, 40), slice(8, 48), batch=2)
    both = {"reference": clean, "reference_mask": mask, "ground_truth_mask": mask, "attention_maps": []}
    emptied = mask.clone()
    emptied[1] = 0
    log = make_objective(velocity, **(both | {"ground_truth_mask": emptied})).high_frequency_by_sigma
    assert torch.equal(log[0], make_objective(velocity, **both).high_frequency_by_sigma[0])
    assert log[3].tolist() == [0, 0]


def test_bins_of_several_steps_are_added_up() -> None:
    sums = torch.tensor([[3.0, 2.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert bin_means(sums + sums) == {"high_frequency_sigma_0.00_0.25": 1.5, "high_frequency_sigma_0.50_0.75": 1.0}


@pytest.mark.parametrize("wrong", [{"sigma_power": -1}, {"high_frequency": float("nan")}, {"distance": "l2"}])
def test_a_senseless_choice_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ObjectiveSettings(**wrong)


def test_a_perfect_prediction_leaves_what_the_reference_alone_can_tell() -> None:
    terms = make_objective(attention_maps=[]).numbers()
    assert terms["flow_matching"] == 0
    assert terms["low_frequency"] == pytest.approx(0, abs=1e-7)
    assert terms["attention_alignment"] == 0
    assert terms["high_frequency"] > 0


@pytest.mark.parametrize("term", ["flow_matching", "low_frequency", "high_frequency"])
def test_gradients_of_the_velocity_are_those_of_finite_differences(term: str) -> None:
    velocity = random_latents(2, 2, 8, 8, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: getattr(make_objective(given), term), (velocity,), fast_mode=True)
