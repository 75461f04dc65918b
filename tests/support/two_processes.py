"""Two processes on this machine that exchange tensors through gloo, as several GPUs do through NCCL."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

PROCESSES = 2


def in_two_processes(work: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Calls `work(rank, *arguments)` in each; what fails there, a crash included, fails here.

    Args:
        work: a function of a module, since it is looked up by its name in the new processes.
        folder: an empty one, where they find each other.
        arguments: that can be pickled.
    """
    spawn(_run, (work, str(folder / "rendezvous"), arguments), PROCESSES)


def _run(rank: int, work: Callable[..., None], rendezvous: str, arguments: tuple[Any, ...]) -> None:
    # Only this machine's own address is sure to be reachable.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=PROCESSES)
    try:
        work(rank, *arguments)
    finally:
        distributed.destroy_process_group()
