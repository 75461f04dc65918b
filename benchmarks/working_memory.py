"""The memory that a picture takes beside the weights: counted without computing anything, and measured.

It is counted on torch's device "meta", where tensors have sizes and no contents: each tensor that an operation makes
is added, and taken off again when nothing refers to it any more. The highest sum is the peak. What a kernel allocates
for itself, such as the workspace of a convolution, is in the measured peak only. Attention is counted as by kernels
that do not write the whole attention matrix down.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.random_model import Painter, Sizes, build, draw_inputs


def count_working_bytes(
    sizes: Sizes, *, cached: bool, compact: bool = False, dtype: torch.dtype = torch.bfloat16
) -> int:
    """The counted peak of one picture beside the weights, the reference cache included.

    Args:
        sizes: of the model and its work.
        cached: whether there is a reference cache.
        compact: whether the LRGI is given at half the size.
        dtype: of weights and tensors.
    """
    meta = torch.device("meta")
    pipeline = build(sizes, meta, dtype)
    with meta, _FusedAttention():
        painter = Painter(
            pipeline.transformer,
            pipeline.vae,
            draw_inputs(sizes, meta, dtype),
            sizes,
            cached=cached,
            compact=compact,
        )
        account = Account(_there_already(painter))
        with account:
            painter.warm_up(1)
    return account.peak


def measured_peak(device: torch.device, work: Callable[[], object]) -> int:
    """Bytes that `work` has allocated at its peak, beside what was there before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # The CPU's allocator keeps no account of its own. The profiler is told of each allocation.
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    recorded: Any = profile.profiler
    events = [one for one in recorded.kineto_results.events() if one.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


class Account(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps account of the tensors that are alive.

    Attributes:
        peak: bytes that were alive at once, at most.
    """

    def __init__(self, there_already: Iterable[Tensor]) -> None:
        """Nothing is alive but what is not to be counted."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in there_already}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Computes, and counts what comes out."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention that makes its result and nothing else, where the device "meta" would make the attention matrix."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else given["query"])
        return func(*args, **given)


def _there_already(painter: Painter) -> list[Tensor]:
    models, inputs = (painter.transformer, painter.vae), painter.inputs
    weights = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    given = (inputs.reference, inputs.generated, inputs.noise, inputs.words.tokens, inputs.words.pooled)
    return weights + [tensor for tensor in given if tensor is not None]
