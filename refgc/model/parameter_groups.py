"""Parameter groups for an optimiser: experts and gates, each with a learning rate; gates may start frozen.

The import of this module imports no torch, since the settings of a run are read before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import nn

    from refgc.model.freqmole import FreqMoLE


class OptimiserSettings(BaseModel):
    """How fast experts and gates learn. The paper's values are not known to us; these are our choice.

    Raises:
        pydantic.ValidationError: a value is out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    learning_rate: float = Field(default=1e-4, gt=0, le=10, description="of the experts")
    gate_learning_rate: float = Field(
        default=1e-3, ge=0, le=10, description="of the gates: alpha moves by at most a quarter of a step of its logit"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="of the experts; gates have none, which would pull alpha to a half"
    )
    freeze_gates_until: int = Field(
        default=0, ge=0, le=99_999_999, description="gates stay as they were initialised until so many steps were taken"
    )

    def parameter_groups(self, freqmole: FreqMoLE) -> list[dict[str, Any]]:
        """The groups "experts" and "gates", to be given to an optimiser.

        Args:
            freqmole: under FSDP2, after `fully_shard`.
        """
        experts, gates = _experts_and_gates(freqmole)
        return [
            {"name": "experts", "params": experts, "lr": self.learning_rate, "weight_decay": self.weight_decay},
            {"name": "gates", "params": gates, "lr": self.gate_learning_rate, "weight_decay": 0.0},
        ]

    def freeze_gates(self, freqmole: FreqMoLE, step: int) -> bool:
        """Drops the gates' gradients as long as gates are frozen; call it after `backward`, before clipping.

        Gates always get a gradient, since DDP cannot do with parameters that learn only later. An optimiser leaves a
        parameter without gradient, and its own averages of it, as they are.

        Args:
            freqmole: whose gates they are.
            step: number of optimiser steps that were taken, from 0.

        Returns:
            Whether gates are frozen.
        """
        frozen = step < self.freeze_gates_until
        if frozen:
            for gate in _experts_and_gates(freqmole)[1]:
                gate.grad = None
        return frozen


def _experts_and_gates(freqmole: FreqMoLE) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    from refgc.model.freqmole import GATE

    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in freqmole.named_parameters():
        groups[f".{GATE}." in name].append(parameter)
    return groups
