"""The order of samples, and the random numbers of each: pure functions of the seed, the epoch and the sample.

Nothing here has a state. A run that is cut off finds its place again by the number of its step, and the number of
processes decides only which of them computes a pass. A pass is one forward: some samples of the same sizes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from refgc.errors import InputError
from refgc.model.backbones.base import Backbone
from refgc.training.settings import NoiseSettings, RunSettings


@dataclass(frozen=True, slots=True)
class Pass:
    """The samples of one forward.

    Attributes:
        epoch: how often all samples were seen before.
        samples: their numbers, of one bucket.
    """

    epoch: int
    samples: tuple[int, ...]


class Order:
    """Passes without end: in each epoch every sample once, in another order.

    Samples of one size make a bucket. A bucket is shuffled and divided into passes, the last of which may be smaller,
    and the passes of all buckets are shuffled. The passes of an epoch are as many in every epoch.
    """

    def __init__(self, buckets: Sequence[Hashable], settings: RunSettings) -> None:
        """Takes the size of each sample.

        Args:
            buckets: of each sample what it must have in common with those of its pass.
            settings: seed, and samples of a pass and of a step.
        """
        self._seed = settings.seed
        self._at_once = settings.samples_at_once
        self._passes_a_step = settings.batch_size // settings.samples_at_once
        grouped: defaultdict[Hashable, list[int]] = defaultdict(list)
        for number, bucket in enumerate(buckets):
            grouped[bucket].append(number)
        self._buckets = list(grouped.values())
        self.passes_an_epoch = sum(-(-len(bucket) // self._at_once) for bucket in self._buckets)
        self._epoch = lru_cache(2)(self._passes_of_epoch)

    def step(self, step: int) -> list[Pass]:
        """The passes of an optimiser step, counted from 0, of all processes."""
        first = step * self._passes_a_step
        return [self._pass(first + number) for number in range(self._passes_a_step)]

    def _pass(self, number: int) -> Pass:
        epoch, place = divmod(number, self.passes_an_epoch)
        return Pass(epoch, self._epoch(epoch)[place])

    def _passes_of_epoch(self, epoch: int) -> list[tuple[int, ...]]:
        generator = generator_for(self._seed, epoch, "order")
        passes: list[tuple[int, ...]] = []
        for bucket in self._buckets:
            shuffled = [bucket[place] for place in torch.randperm(len(bucket), generator=generator).tolist()]
            passes += [tuple(shuffled[at : at + self._at_once]) for at in range(0, len(shuffled), self._at_once)]
        return [passes[place] for place in torch.randperm(len(passes), generator=generator).tolist()]


def check_processes(settings: RunSettings, processes: int) -> None:
    """Refuses a number of processes among which the passes of a step cannot be divided.

    Raises:
        InputError: the passes are no multiple of it.
    """
    passes = settings.batch_size // settings.samples_at_once
    if passes % processes:
        raise InputError(
            f"A batch of {settings.batch_size} with {settings.samples_at_once} samples at once is {passes} passes, "
            f"which {processes} processes cannot share; choose a batch_size that is a multiple of "
            f"{settings.samples_at_once * processes}."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The random numbers of one sample in one epoch.

    Attributes:
        generator: of its noise; the next to be drawn.
        level: of the noise in (0, 1), before it is shifted.
        drops_reference: whether it is learnt without the HRRI.
        drops_prompt: whether it is learnt with an empty prompt.
    """

    generator: torch.Generator
    level: float
    drops_reference: bool
    drops_prompt: bool

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal, of a shape, on the CPU and so the same for every device; float32."""
        return torch.randn(like.shape, generator=self.generator)


def draw(
    seed: int,
    epoch: int,
    sample: str,
    settings: NoiseSettings,
    *,
    drop_reference: float = 0.0,
    drop_prompt: float = 0.0,
) -> Draws:
    """The random numbers of a sample. Each is drawn whatever the settings are, so that none moves another.

    Args:
        seed: of the run.
        epoch: counted from 0.
        sample: its id.
        settings: how the noise level is distributed.
        drop_reference: probability that the HRRI is left out.
        drop_prompt: probability that the prompt is left out.
    """
    generator = generator_for(seed, epoch, sample)
    normal = torch.randn((), generator=generator, dtype=torch.float64)
    uniform, reference, prompt = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    level = uniform
    if settings.sampling == "logit-normal":
        level = torch.sigmoid(settings.mean + settings.deviation * normal).item()
    return Draws(generator, level, reference < drop_reference, prompt < drop_prompt)


def shifted(level: float, backbone: Backbone, scheduler: Any, *, steps: int, tokens: int) -> Tensor:
    """A noise level as the base's own scheduler shifts it at inference; a tensor without dimensions.

    Args:
        level: in (0, 1).
        backbone: of the base.
        scheduler: of the base; its sigmas are replaced.
        steps: of the whole noise schedule.
        tokens: of the noise.
    """
    backbone.set_timesteps(scheduler, [level], steps=steps, tokens=tokens, device=torch.device("cpu"))
    sigma: Tensor = scheduler.sigmas[0]
    return sigma.clone()


def generator_for(seed: int, epoch: int, what: str) -> torch.Generator:
    """A generator on the CPU for one purpose, independent of all others."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{what}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
