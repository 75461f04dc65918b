"""Wrapped and sharded models: the model inside its wrappers, and whole tensors of parts that processes share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrapped(model: Any) -> Any:
    """The model inside of DDP and torch.compile, whose modules have the names they were built with."""
    while True:
        if isinstance(model, DistributedDataParallel | DataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or of one that FSDP2 shards the whole; all processes have to call this then."""
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return tensor
    # Shards that are offloaded to main memory are gathered where the processes can exchange them.
    moved: Any = tensor.to(tensor.device_mesh.device_type)
    gathered: Tensor = moved.full_tensor()
    return gathered


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Whether any of the tensors is shared out among processes."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def is_first_process() -> bool:
    """Whether this process writes files where several hold the same; true where there is only one."""
    return not distributed.is_available() or not distributed.is_initialized() or distributed.get_rank() == 0
