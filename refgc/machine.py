"""The machine: GPUs, processor, cores, threads and memory, and what the diffusion engine lacks; imports no torch."""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Lock, Thread

from pydantic import BaseModel, Field
from threadpoolctl import threadpool_limits

from refgc.settings import settings

DEVICE = "REFGC_DEVICE"
DIFFUSION_MODULES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "huggingface_hub",
    "psutil",
)
OTHERWISE = f"use the engine correspondence, or set {DEVICE}=cpu, where one picture takes hours at full size."
NO_GPU = f"The engine diffusion needs an NVIDIA GPU, and none is found here; {OTHERWISE}"
NO_CUDA = (
    f"The engine diffusion needs a torch with CUDA, and the installed one is for CPUs: install another; {OTHERWISE}"
)


class Gpu(BaseModel):
    """One NVIDIA GPU as nvidia-smi lists it."""

    name: str
    memory_gib: float | None = Field(description="null where the GPU shares the machine's memory")
    driver: str


def on_zero_gpu() -> bool:
    """Whether this is a Hugging Face Space on ZeroGPU, which lends a GPU for one call at a time."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def find_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists; none where it is not installed.

    On ZeroGPU, the GPU that will be lent. nvidia-smi shows none before.
    """
    if on_zero_gpu():
        return [Gpu(name="a GPU lent by Hugging Face (ZeroGPU)", memory_gib=None, driver="theirs")]
    command = shutil.which("nvidia-smi")
    return [] if command is None else _gpus_by(command)


@cache
def _gpus_by(command: str) -> list[Gpu]:
    """The answer is kept, since nvidia-smi can take a second and GPUs do not come and go."""
    query = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [_gpu(*(cell.strip() for cell in line.split(","))) for line in listing.splitlines() if line.strip()]


def _gpu(name: str, mebibytes: str, driver: str) -> Gpu:
    return Gpu(name=name, memory_gib=int(mebibytes) / 1024 if mebibytes.isdecimal() else None, driver=driver)


def processor() -> str:
    """The processor's name; its architecture where the system does not tell the name."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gib() -> float | None:
    """The machine's memory in GiB; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, OSError, ValueError):
        return None


def missing_libraries() -> str:
    """One sentence that says what to install for the diffusion engine; empty where nothing is missing."""
    absent = [module for module in DIFFUSION_MODULES if not is_importable(module)]
    if not absent:
        return ""
    return f"The engine diffusion needs {', '.join(absent)}: pip install '.[diffusion]' in the project's folder."


def missing_cuda() -> str:
    """One sentence that says why torch cannot use a GPU; empty where it can.

    It is found in torch's file version.py, which says how torch was built, so that torch is not imported.
    """
    torch = find_spec("torch")
    if settings().device == "cpu" or torch is None or torch.origin is None:
        return ""
    note = Path(torch.origin).with_name("version.py")
    if not note.is_file() or re.search(r"^(cuda|hip)\b[^=]*= *'", note.read_text(), re.MULTILINE):
        return ""
    return NO_CUDA if find_gpus() else NO_GPU


def is_importable(module: str) -> bool:
    """Whether a module is installed; it is not imported."""
    parent = module.rpartition(".")[0]
    return (not parent or is_importable(parent)) and find_spec(module) is not None


def silence_libraries() -> None:
    """Turns off the warnings that libraries print when they are imported, which are for programmers."""
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    for library in ("torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)


class BlasThreads:
    """The number of threads that a matrix product of NumPy and SciPy takes, which is the same for the whole process.

    Threads of a product wait for each other by spinning. Where other work runs on the same cores they take ten times as
    long as one thread does, and on an idle machine they save little.
    """

    def __init__(self) -> None:
        """As many as the process has set."""
        self._lock = Lock()
        self._users = 0
        self._over = Event()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Holds matrix products to one thread for as long as the context lasts.

        Of contexts that overlap, in several threads, the first sets the limit and the last lifts it.
        """
        with self._lock:
            if self._users == 0:
                self._hold()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._lift()

    def _hold(self) -> None:
        # Only the thread that has set a limit can lift it, and the first user may end before the last.
        begun, self._over = Event(), Event()

        def hold(over: Event) -> None:
            try:
                with threadpool_limits(1, user_api="blas"):
                    begun.set()
                    over.wait()
            finally:
                begun.set()

        self._holder = Thread(target=hold, args=(self._over,), name="one BLAS thread", daemon=True)
        self._holder.start()
        begun.wait()

    def _lift(self) -> None:
        self._over.set()
        self._holder.join()


BLAS_THREADS = BlasThreads()
