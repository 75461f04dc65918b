"""Settings of the denoising: prompt, size, schedule, and what the noise is laid over."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Integral
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from refgc.errors import InputError
from refgc.flux.prompts import PromptEmbeddings
from refgc.imaging.arrays import Size
from refgc.imaging.upscale import Enlargement
from refgc.model.backbones.base import Schedule
from refgc.model.freqmole import FreqMoLEConfig

Start = Literal["generated", "correspondence"]
# The share of the noise schedule that is run, by what the noise is laid over. At 1024 x 1024 the last 0.3 of the
# schedule begin at a sigma of 0.56: nearly half of what the latents hold is still the picture. Chosen by hand, without
# a trained model.
DEFAULT_NOISE: dict[Start, float] = {"generated": 1.0, "correspondence": 0.3}


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoisingSettings:
    """How a request is refined.

    Attributes:
        prompt: the instruction; None takes the paper's, with the request's object name in it.
        prompt_embeds: (1, text tokens, width), instead of a prompt.
        pooled_prompt_embeds: (1, width), goes with `prompt_embeds` of FLUX.1.
        negative_prompt_embeds: as `prompt_embeds`, of an empty prompt, for a model that is guided by it.
        height: of the window as the model sees it, a multiple of 16; None takes the Kontext size nearest in aspect.
        width: the same.
        num_inference_steps: of the whole schedule; None takes what the model was made for.
        guidance_scale: of the guidance; None does as the experts were trained, and else as the model was made for. A
            model that was made for none leaves it aside.
        init: what the noise is laid over: the enlarged LRGI, or the correspondence engine's result.
        noise: the share of the schedule that is run, in (0, 1]; None is 1 over the LRGI, which leaves nothing of it,
            and 0.3 over the correspondence engine's result.
        together: whether the redrawn object is laid over the correspondence engine's result, whose pixels stay where
            that engine is sure of them; None does so without an adapter.
        checks_drift: whether a redrawing that moved the object is put right, and one in another pose refused; None does
            so without an adapter.
        whole: true for the whole frame instead of a window around the object; None does as the experts were trained.
        reference_cache: whether the condition tokens attend only among themselves, so that they are computed once;
            None does as the experts were trained.
        compact_generated: whether the LRGI is given at half the size, a quarter of its tokens; None does as the experts
            were trained.
        enlargement: how the LRGI is enlarged for the model; None does as the experts were trained.
        generator: source of the noise; None takes the request's seed.
        callback_on_step_end: as in every diffusers pipeline.
        callback_on_step_end_tensor_inputs: the tensors it is given.
    """

    prompt: str | None = None
    prompt_embeds: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    height: int | None = None
    width: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    init: Start = "generated"
    noise: float | None = None
    together: bool | None = None
    checks_drift: bool | None = None
    whole: bool | None = None
    reference_cache: bool | None = None
    compact_generated: bool | None = None
    enlargement: Enlargement | None = None
    generator: torch.Generator | None = None
    callback_on_step_end: Callable[..., dict[str, Any]] | None = None
    callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",)

    def check(self, offered: Collection[str] = ("latents", "prompt_embeds")) -> None:
        """Refuses settings that cannot be used; sizes are checked where the windows are chosen.

        Args:
            offered: names of the tensors that a callback can be given.

        Raises:
            InputError: a number is out of range, or settings are given that exclude or need each other.
        """
        goes_with = self.pooled_prompt_embeds is not None or self.negative_prompt_embeds is not None
        if (goes_with and self.prompt_embeds is None) or (self.prompt_embeds is not None and self.prompt is not None):
            raise InputError("Give either a prompt, or prompt_embeds with what goes with them.")
        if unknown := sorted(set(self.callback_on_step_end_tensor_inputs) - set(offered)):
            raise InputError(f"A callback is given no tensor {unknown[0]!r}; choose {', '.join(offered)}.")
        if (self.height is None) != (self.width is None):
            raise InputError("Only one of height and width is given; give both or neither.")
        if not isinstance(self.steps, Integral) or self.steps < 1:
            raise InputError(f"The number of steps is {self.steps}; choose a whole number, 1 or more.")
        if not (isfinite(self.guidance) and self.guidance >= 0):
            raise InputError(f"The guidance scale is {self.guidance:g}; choose a number, 0 or more.")
        if self.init not in get_args(Start):
            raise InputError(f"There is no init {self.init!r}; choose {' or '.join(get_args(Start))}.")
        if self.noise is not None and not 0 < self.noise <= 1:
            raise InputError(f"The noise is {self.noise:g}; choose a number above 0 and at most 1.")

    def decided(self, made_for: Schedule, config: FreqMoLEConfig | None) -> Self:
        """These settings with everything filled in that the caller left open.

        Args:
            made_for: steps and guidance of the base. Guidance is left aside where it is 1: a model that was distilled
                to do without would be spoilt by a second pass.
            config: of the experts; None for the stock model, which was trained on no pairs, and may hold a LoRA.
        """
        guidance = None if config is None else config.guidance
        open_ones: dict[str, Any] = {
            "num_inference_steps": made_for.steps,
            "guidance_scale": made_for.guidance if guidance is None else guidance,
            "together": config is None,
            "checks_drift": config is None,
            "whole": config is not None and config.whole,
            "reference_cache": config is not None and config.reference_cache,
            "compact_generated": config is not None and config.compact_generated,
            "enlargement": "clean" if config is None else config.enlargement,
        }
        chosen = {name: value for name, value in open_ones.items() if getattr(self, name) is None}
        return replace(self, **chosen | ({"guidance_scale": 1.0} if made_for.guidance == 1 else {}))

    @property
    def steps(self) -> int:
        """Of the whole schedule; only where it is decided."""
        if self.num_inference_steps is None:
            raise ValueError("the number of steps is not decided yet")
        return self.num_inference_steps

    @property
    def guidance(self) -> float:
        """The guidance scale; only where it is decided."""
        if self.guidance_scale is None:
            raise ValueError("the guidance is not decided yet")
        return self.guidance_scale

    @property
    def embeddings(self) -> PromptEmbeddings | None:
        """The embeddings that are given; None where a prompt is to be read."""
        if self.prompt_embeds is None:
            return None
        return PromptEmbeddings(self.prompt_embeds, self.pooled_prompt_embeds, self.negative_prompt_embeds)

    @property
    def working_size(self) -> Size | None:
        """(width, height) of the window as the model sees it; None where a Kontext size is taken."""
        return None if self.width is None or self.height is None else (self.width, self.height)

    @property
    def sigmas(self) -> list[float]:
        """The sigmas of the steps that are run, falling, before the scheduler's shift."""
        noise = DEFAULT_NOISE[self.init] if self.noise is None else self.noise
        steps = max(1, round(noise * self.steps))
        schedule = np.linspace(1.0, 1 / self.steps, self.steps)
        return [float(sigma) for sigma in schedule[-steps:]]
