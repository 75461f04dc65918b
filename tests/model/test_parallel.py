"""DDP and FSDP2 over two processes: the gradients of one process that sees all samples, and whole files."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from refgc.errors import EngineError
from refgc.hub import LORA_FILE
from refgc.model import weights
from refgc.model.attention import AttentionRecorder, TokenCounts
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.reference_cache import fill
from refgc.model.training_step import TrainingStep
from tests.support.tiny_freqmole import run, teach
from tests.support.tiny_models import tiny_transformer
from tests.support.training import TEXT, gradients, make_batch, part_of
from tests.support.two_processes import PROCESSES, in_two_processes

pytestmark = pytest.mark.slow

WAYS = list(product([False, True], [False, True]))


def taught(reference_cache: bool = False, checkpointing: bool = False, dtype: torch.dtype = torch.float32) -> FreqMoLE:
    transformer = tiny_transformer().to(dtype).train()
    if checkpointing:
        transformer.enable_gradient_checkpointing()
    return teach(inject(transformer, FreqMoLEConfig(rank=3, reference_cache=reference_cache)))


def expected_gradients(**how: Any) -> dict[str, Tensor]:
    freqmole = taught(**how)
    TrainingStep(freqmole)(make_batch()).total.backward()
    return gradients(freqmole)


def shard(step: TrainingStep, policy: MixedPrecisionPolicy | None = None) -> nn.Module:
    """FSDP2 over blocks and the rest, as its documentation advises."""
    mesh = init_device_mesh("cpu", (PROCESSES,))
    how: dict[str, Any] = {"mesh": mesh} if policy is None else {"mesh": mesh, "mp_policy": policy}
    for block in (*step.transformer.transformer_blocks, *step.transformer.single_transformer_blocks):
        fully_shard(block, **how)
    fully_shard(step, **how)
    assert all(isinstance(parameter, DTensor) for parameter in step.parameters())
    return step


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=tolerance, atol=tolerance * gradient.abs().max().item())


def with_ddp(rank: int) -> None:
    for reference_cache, checkpointing in WAYS:
        how: dict[str, Any] = {"reference_cache": reference_cache, "checkpointing": checkpointing}
        freqmole = taught(**how)
        step = TrainingStep(freqmole)
        wrapped = DistributedDataParallel(step)
        for _ in range(2):  # a wrapper that misses a gradient fails at the second forward
            wrapped.zero_grad()
            wrapped(part_of(make_batch(), rank, PROCESSES)).total.backward()
            step.clear()
        assert_same(gradients(freqmole), expected_gradients(**how))

    transformer = DistributedDataParallel(taught().transformer)
    counts = TokenCounts(text=TEXT, noise=12, reference=8, generated=12)
    recorder = AttentionRecorder(transformer, counts)
    assert list(recorder._names.values()) == ["transformer_blocks.0.attn", "transformer_blocks.1.attn"]
    tokens = torch.zeros(1, 4, 16)
    with pytest.raises(EngineError, match="TrainingStep instead of the transformer"):
        fill(transformer, tokens, torch.zeros(4, 3), torch.zeros(1, 24), torch.ones(1))


def with_fsdp(rank: int) -> None:
    for reference_cache, checkpointing in WAYS:
        how: dict[str, Any] = {"reference_cache": reference_cache, "checkpointing": checkpointing}
        freqmole = taught(**how)
        step = TrainingStep(freqmole)
        sharded = shard(step)
        for _ in range(2):
            sharded.zero_grad()
            sharded(part_of(make_batch(), rank, PROCESSES)).total.backward()
            step.clear()
        assert all(isinstance(parameter, DTensor) for parameter in freqmole.parameters())
        assert_same(gradients(freqmole), expected_gradients(**how))


def with_fsdp_in_half_precision(rank: int) -> None:
    """A base in bfloat16 beside experts in single precision, as at full size."""
    how: dict[str, Any] = {"reference_cache": True, "dtype": torch.bfloat16}
    freqmole = taught(**how)
    step = TrainingStep(freqmole)
    sharded = shard(step)
    sharded(part_of(make_batch(), rank, PROCESSES)).total.backward()
    step.clear()
    found = gradients(freqmole)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    assert_same(found, expected_gradients(**how), tolerance=0.05)


def train_and_save(rank: int, folder: Path) -> None:
    freqmole = taught()
    step = TrainingStep(freqmole)
    sharded = shard(step)
    optimizer = torch.optim.AdamW(freqmole.parameters(), lr=0.01)
    sharded(part_of(make_batch(), rank, PROCESSES)).total.backward()
    optimizer.step()
    weights.save(freqmole, folder / "adapter")
    weights.export_lora(freqmole, folder / "lora")
    alphas = freqmole.alphas()
    for refused in (freqmole.fuse, lambda: weights.push_to_hub(freqmole, "a/b")):
        with pytest.raises(EngineError, match="shared out among processes"):
            refused()
    whole = weights.load(tiny_transformer(), folder / "adapter")
    assert whole.alphas() == pytest.approx(alphas)


def test_ddp_has_the_gradients_of_one_process(tmp_path: Path) -> None:
    in_two_processes(with_ddp, tmp_path)


def test_fsdp2_has_the_gradients_of_one_process(tmp_path: Path) -> None:
    in_two_processes(with_fsdp, tmp_path)


def test_fsdp2_shards_weights_of_two_precisions(tmp_path: Path) -> None:
    in_two_processes(with_fsdp_in_half_precision, tmp_path)


def test_sharded_experts_are_saved_and_exported_whole(tmp_path: Path) -> None:
    in_two_processes(train_and_save, tmp_path, tmp_path)
    freqmole = taught()
    optimizer = torch.optim.AdamW(freqmole.parameters(), lr=0.01)
    TrainingStep(freqmole)(make_batch()).total.backward()
    optimizer.step()
    loaded = weights.load(tiny_transformer(), tmp_path / "adapter")
    torch.testing.assert_close(run(loaded.transformer), run(freqmole.transformer), rtol=1e-3, atol=1e-3)
    again = load_file(weights.export_lora(loaded, tmp_path / "again"))
    exported = load_file(tmp_path / "lora" / LORA_FILE)
    assert exported.keys() == again.keys()
    assert all(torch.allclose(tensor, again[name], atol=1e-6) for name, tensor in exported.items())
