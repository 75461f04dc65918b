"""DDP and FSDP2 over two processes on FLUX.2 [klein]: the gradients of one process that sees all samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from refgc.model.backbones.klein import Klein
from refgc.model.freqmole import FreqMoLE, inject
from refgc.model.training_step import TrainingBatch, TrainingStep
from tests.model.test_parallel import assert_same, shard
from tests.support.tiny_freqmole import teach
from tests.support.tiny_klein import TEXT_WIDTH, tiny_klein_transformer
from tests.support.training import TEXT, gradients, make_batch, part_of
from tests.support.two_processes import PROCESSES, in_two_processes

pytestmark = pytest.mark.slow


def taught(reference_cache: bool) -> FreqMoLE:
    transformer = tiny_klein_transformer().train()
    if reference_cache:
        transformer.enable_gradient_checkpointing()
    return teach(inject(transformer, Klein().adapter_config(rank=2, reference_cache=reference_cache)))


def klein_batch() -> TrainingBatch:
    words = torch.randn(2, TEXT, TEXT_WIDTH, generator=torch.Generator().manual_seed(3))
    return make_batch()._replace(prompt_embeds=words, pooled_prompt_embeds=None)


def expected_gradients(reference_cache: bool) -> dict[str, Tensor]:
    freqmole = taught(reference_cache)
    TrainingStep(freqmole)(klein_batch()).total.backward()
    return gradients(freqmole)


def with_wrappers(rank: int) -> None:
    for reference_cache in (False, True):
        expected = expected_gradients(reference_cache)
        for wrap in (DistributedDataParallel, shard):
            freqmole = taught(reference_cache)
            step = TrainingStep(freqmole)
            wrapped = wrap(step)
            for _ in range(2):  # a wrapper that misses a gradient fails at the second forward
                wrapped.zero_grad()
                wrapped(part_of(klein_batch(), rank, PROCESSES)).total.backward()
                step.clear()
            assert_same(gradients(freqmole), expected)


def test_wrappers_have_the_gradients_of_one_process(tmp_path: Path) -> None:
    in_two_processes(with_wrappers, tmp_path)
