"""Optimisers, learning-rate schedules and the moving average, whatever the parameters belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import cos, pi
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from refgc.errors import EngineError, InputError
from refgc.model.sharding import whole
from refgc.training.settings import OptimisationSettings


def make_optimiser(groups: list[dict[str, Any]], settings: OptimisationSettings) -> Optimizer:
    """The optimiser of a run.

    Args:
        groups: parameters with "lr", "weight_decay" and a name.
        settings: which one.

    Raises:
        EngineError: its library is not installed, or needs a GPU.
        InputError: it cannot take these learning rates.
    """
    common: dict[str, Any] = {"betas": (settings.beta1, settings.beta2), "eps": settings.epsilon}
    match settings.optimiser:
        case "adamw":
            return torch.optim.AdamW(groups, **common)
        case "adamw-8bit":
            return _adamw_8bit(groups, common)
        case "prodigy":
            return _prodigy(groups, common)


def _adamw_8bit(groups: list[dict[str, Any]], common: dict[str, Any]) -> Optimizer:
    if not torch.cuda.is_available():
        raise EngineError('The optimiser "adamw-8bit" needs an NVIDIA GPU, and none is found here; choose "adamw".')
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise EngineError('The optimiser "adamw-8bit" needs a library: pip install bitsandbytes.') from error
    optimiser: Optimizer = AdamW8bit(groups, **common)
    return optimiser


def _prodigy(groups: list[dict[str, Any]], common: dict[str, Any]) -> Optimizer:
    try:
        from prodigyopt import Prodigy
    except ImportError as error:
        raise EngineError('The optimiser "prodigy" needs a library: pip install prodigyopt.') from error
    if len({group["lr"] for group in groups} - {0.0}) > 1:
        raise InputError(
            'The optimiser "prodigy" finds one step size for everything; set all learning rates to the same value, '
            "such as 1, or to 0."
        )
    optimiser: Optimizer = Prodigy(groups, safeguard_warmup=True, **common)
    return optimiser


def make_schedule(optimiser: Optimizer, settings: OptimisationSettings, steps: int) -> LambdaLR:
    """The schedule of the learning rates: a warm-up, then constant or along half a cosine to 0 after the last step.

    The warm-up of diffusers' schedules begins at 0, so that their first step changes nothing. This one begins above it,
    and a run of a single step learns as well.
    """

    def factor(step: int) -> float:
        if step < settings.warmup:
            return (step + 1) / (settings.warmup + 1)
        if settings.schedule == "constant":
            return 1.0
        return 0.5 * (1 + cos(pi * min(1.0, (step - settings.warmup) / max(1, steps - settings.warmup))))

    return LambdaLR(optimiser, factor)


class MovingAverage:
    """An exponential moving average of parameters, on their device; where FSDP2 shards them, of the shards."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        # Nearly all of an average that is young would be the start; hence the warm-up of the decay.
        self._model = EMAModel(self._parameters, decay=decay)

    def update(self) -> None:
        """Takes the parameters of this step in."""
        self._model.step(self._parameters)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the parameters have their averages for values."""
        self._model.store(self._parameters)
        self._model.copy_to(self._parameters)
        try:
            yield
        finally:
            self._model.restore(self._parameters)

    @property
    def tensors(self) -> list[Tensor]:
        """The averages, in the order of the parameters."""
        averages: list[Tensor] = self._model.shadow_params
        return averages

    @property
    def updates(self) -> int:
        """How many steps were taken in."""
        return int(self._model.optimization_step)

    def load(self, tensors: Iterable[Tensor], updates: int) -> None:
        """Puts back what a checkpoint kept."""
        for own, kept in zip(self.tensors, tensors, strict=True):
            own.copy_(kept)
        self._model.optimization_step = updates


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together, without dimensions; all processes have to call it where they are sharded."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return whole(nn.utils.get_total_norm(gradients)) if gradients else torch.zeros(())
