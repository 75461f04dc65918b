"""The processes of a run: accelerate starts them and says which is which; DDP or FSDP2 keeps what they train alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from refgc.errors import EngineError, InputError
from refgc.flux.placement import Placement
from refgc.flux.speed import Quantization
from refgc.settings import settings as environment
from refgc.training.settings import TrackingSettings

TRACKER_PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}


class Processes:
    """This process among those of the run.

    Attributes:
        accelerator: of accelerate, which also speaks to the trackers.
        shards: whether FSDP2 shards the model.
    """

    def __init__(self, folder: Path, tracking: TrackingSettings, *, quantized: bool = False) -> None:
        """Joins the other processes, where `accelerate launch` has started several.

        Args:
            folder: of the run, for the trackers.
            tracking: who is told of the figures.
            quantized: whether the base is, which FSDP2 cannot shard.

        Raises:
            EngineError: FSDP is asked for and cannot be had, or the library of a tracker is not installed.
        """
        on_cpu = environment().device == "cpu" or not torch.cuda.is_available()
        self.shards = _asks_for_fsdp(on_cpu=on_cpu, quantized=quantized)
        for tracker in tracking.trackers:
            if find_spec(TRACKER_PACKAGES[tracker]) is None:
                raise EngineError(
                    f"The tracker {tracker!r} needs a library: pip install {TRACKER_PACKAGES[tracker]}, or take it out "
                    "of `trackers`."
                )
        # accelerate builds a plugin of its own for FSDP, which is not asked: the model is sharded here.
        with _without_fsdp():
            self.accelerator: Any = Accelerator(
                cpu=on_cpu, log_with=list(tracking.trackers) or None, project_dir=folder, mixed_precision="no"
            )

    @property
    def device(self) -> torch.device:
        """That this process computes on."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def number(self) -> int:
        """Of this one, from 0."""
        return int(self.accelerator.process_index)

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.number == 0

    def wrap(self, module: nn.Module, blocks: Iterable[nn.Module]) -> nn.Module:
        """The module on this process's device, in DDP or sharded where there are several processes.

        Args:
            module: what computes a step; nothing in it is exchanged later.
            blocks: parts that are sharded one by one, so that few are whole at a time.
        """
        if self.shards:
            return shard(module, blocks, self.device.type)
        # All processes have read the same base, which need not be sent around, and of 8 bits could not be.
        frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
        ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(module, frozen)
        wrapped: nn.Module = self.accelerator.prepare_model(module)
        return wrapped

    def without_exchange(self, module: nn.Module, *, last: bool) -> Any:
        """Around a backward pass whose gradients are only accumulated; those of the last pass are exchanged."""
        return _nothing() if last or self.shards else self.accelerator.no_sync(module)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        summed: Tensor = self.accelerator.reduce(tensor, reduction="sum")
        return summed

    def wait(self) -> None:
        """Until all others are here."""
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """Closes the trackers."""
        self.accelerator.end_training()


def is_leader() -> bool:
    """Whether this is the first process, also before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


def is_alone() -> bool:
    """Whether no other processes were started with this one, also before it could have joined them."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def placement_for(quantization: Quantization, device: torch.device, *, in_main_memory: bool = False) -> Placement:
    """Where and how a base is loaded for training: bf16 for a GPU, float32 for a CPU, or 8 bits for either."""
    return Placement(
        device=torch.device("cpu") if in_main_memory else device,
        dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
        quantization=quantization,
        offload="none",
        text_device=device,
        keeps_text_encoders=False,
        fuses_before_quantizing=False,
        reason="The whole model lies on the device that it is trained on.",
        needed=0,
    )


def shard(module: nn.Module, blocks: Iterable[nn.Module], device: str) -> nn.Module:
    """FSDP2 over blocks and the rest, as torch's documentation advises; each keeps the precision that it has.

    The module may lie in main memory. Each block goes to its device when it is sharded, so that no device ever holds
    the whole.
    """
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Inside the block, parts of a sharded module can be called without the whole; blocks gather themselves."""
    if isinstance(module, FSDPModule):
        module.unshard()
        try:
            yield
        finally:
            module.reshard()
    else:
        yield


def _asks_for_fsdp(*, on_cpu: bool, quantized: bool) -> bool:
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise EngineError("Of FSDP only version 2 is used here; add --fsdp_version 2 to `accelerate launch`.")
    if on_cpu:
        raise EngineError("FSDP needs GPUs, and this run is on CPUs; leave --use_fsdp out of `accelerate launch`.")
    if quantized:
        raise InputError(
            'FSDP2 cannot shard a base of 8 bits; set quantization = "none", or leave --use_fsdp out of '
            "`accelerate launch`."
        )
    return True


@contextmanager
def _without_fsdp() -> Iterator[None]:
    asked = os.environ.pop("ACCELERATE_USE_FSDP", None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ["ACCELERATE_USE_FSDP"] = asked


@contextmanager
def _nothing() -> Iterator[None]:
    yield
