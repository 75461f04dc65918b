"""Settings of the diptych's drawing: the schedule, and how strongly and when each ControlNet acts. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from refgc.diptych.sources import NAMES, ControlNetName
from refgc.errors import InputError

if TYPE_CHECKING:
    import torch

Pair = float | tuple[float, float]
"""A value for both ControlNets, or one for inpainting and one for Canny."""

# What the model cards of the published ControlNets advise. Those with LoRA were trained at 1.
PUBLISHED_SCALES: dict[ControlNetName, float] = {"inpainting": 0.95, "canny": 0.6}
TRAINED_SCALE = 1.0
# The largest scale that is taken. Chosen by hand, not fitted.
MAX_SCALE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingSettings:
    """How a diptych is drawn.

    Attributes:
        num_inference_steps: of the noise schedule.
        guidance_scale: of the distilled guidance.
        controlnet_conditioning_scale: what the ControlNets' outputs are multiplied by, from 0 to 2; None is 1 for one
            with LoRA, and for a published one what its model card advises.
        control_guidance_start: the share of the steps after which each begins to act.
        control_guidance_end: the share of the steps after which each ends.
        generator: source of the noise; None takes a new seed.
        callback_on_step_end: as in every diffusers pipeline.
        callback_on_step_end_tensor_inputs: the tensors it is given.
    """

    num_inference_steps: int = 28
    guidance_scale: float = 3.5
    controlnet_conditioning_scale: Pair | None = None
    control_guidance_start: Pair = 0.0
    control_guidance_end: Pair = 1.0
    generator: torch.Generator | None = None
    callback_on_step_end: Callable[..., dict[str, Any]] | None = None
    callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",)

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            InputError: a number is out of range, or a ControlNet would end before it begins.
        """
        if self.num_inference_steps < 1:
            raise InputError(f"The number of steps is {self.num_inference_steps}; choose 1 or more.")
        self.scales(trained=())
        for name, start, end in zip(NAMES, self.starts, self.ends, strict=True):
            if start >= end:
                raise InputError(
                    f"The {name} ControlNet would lead from {start:g} to {end:g} of the steps; choose an end after the "
                    "start, or scale 0 to leave it out."
                )

    def scales(self, trained: Collection[ControlNetName]) -> list[float]:
        """The scale of each ControlNet.

        Args:
            trained: those that have a LoRA.

        Raises:
            InputError: one is out of range.
        """
        if self.controlnet_conditioning_scale is None:
            return [TRAINED_SCALE if name in trained else PUBLISHED_SCALES[name] for name in NAMES]
        return _for_each(self.controlnet_conditioning_scale, "scale", MAX_SCALE)

    @property
    def starts(self) -> list[float]:
        """The share of the steps after which each ControlNet begins to act."""
        return _for_each(self.control_guidance_start, "control guidance start", 1.0)

    @property
    def ends(self) -> list[float]:
        """The share of the steps after which each ControlNet ends."""
        return _for_each(self.control_guidance_end, "control guidance end", 1.0)


def _for_each(values: Pair, what: str, most: float) -> list[float]:
    """A value for each ControlNet, from 0 to `most`."""
    pair = list(values) if isinstance(values, tuple | list) else [values, values]
    if len(pair) != len(NAMES):
        raise InputError(f"{len(pair)} values are given for the {what}; give one, or one for {' and '.join(NAMES)}.")
    for name, value in zip(NAMES, pair, strict=True):
        if not (isfinite(value) and 0 <= value <= most):
            raise InputError(f"The {what} of the {name} ControlNet is {value:g}; choose a number from 0 to {most:g}.")
    return pair
