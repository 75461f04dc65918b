"""Gates learn at a rate of their own, and not at all at first."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.parameter_groups import OptimiserSettings
from refgc.model.training_step import TrainingStep
from tests.support.tiny_freqmole import teach
from tests.support.tiny_models import tiny_transformer
from tests.support.training import make_batch


def trained(settings: OptimiserSettings, steps: int) -> list[dict[str, Tensor]]:
    """All parameters before each step and after the last."""
    freqmole = teach(inject(tiny_transformer(), FreqMoLEConfig(rank=2)))
    step, optimizer = TrainingStep(freqmole), torch.optim.AdamW(settings.parameter_groups(freqmole))
    history = [snapshot(freqmole)]
    for number in range(steps):
        optimizer.zero_grad()
        step(make_batch()).total.backward()
        assert settings.freeze_gates(freqmole, number) == (number < settings.freeze_gates_until)
        optimizer.step()
        history.append(snapshot(freqmole))
    return history


def snapshot(freqmole: FreqMoLE) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in freqmole.named_parameters()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor], *, gates: bool) -> Tensor:
    return torch.cat(
        [(after[name] - before[name]).flatten() for name in before if name.endswith("logit") == gates]
    ).abs()


def test_every_parameter_is_in_one_group() -> None:
    freqmole = inject(tiny_transformer())
    settings = OptimiserSettings(learning_rate=1e-3, gate_learning_rate=1e-4, weight_decay=0.1)
    experts, gates = settings.parameter_groups(freqmole)
    assert (experts["lr"], experts["weight_decay"]) == (1e-3, 0.1)
    assert (gates["lr"], gates["weight_decay"]) == (1e-4, 0.0)
    assert len(gates["params"]) == 2 + 3
    ours = {id(parameter) for parameter in freqmole.parameters()}
    assert sorted(ours) == sorted(id(one) for group in (experts, gates) for one in group["params"])


def test_gates_move_at_their_own_rate() -> None:
    before, after = trained(OptimiserSettings(learning_rate=1e-3, gate_learning_rate=1e-2), 1)
    # The first step of Adam has the length of the learning rate.
    assert moved(before, after, gates=False).max().item() == pytest.approx(1e-3, rel=1e-2)
    assert moved(before, after, gates=True).max().item() == pytest.approx(1e-2, rel=1e-2)


def test_frozen_gates_stay_while_experts_learn_and_then_start_as_if_new() -> None:
    settings = OptimiserSettings(learning_rate=1e-3, gate_learning_rate=1e-2, freeze_gates_until=2)
    *frozen, last = trained(settings, 3)
    assert moved(frozen[0], frozen[2], gates=True).max() == 0
    assert moved(frozen[0], frozen[2], gates=False).min() > 0
    assert moved(frozen[2], last, gates=True).max().item() == pytest.approx(1e-2, rel=1e-2)


@pytest.mark.parametrize("wrong", [{"learning_rate": 0}, {"freeze_gates_until": -1}, {"gate_rate": 1}])
def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OptimiserSettings.model_validate(wrong)
