"""Placement: the number format of the weights and the device they lie on, chosen by the free memory."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch

from refgc.errors import EngineError
from refgc.flux.sizes import GIB, SPARE_BYTES, ModelSize, resident_bytes, streamed_bytes
from refgc.flux.speed import Quantization
from refgc.machine import DEVICE, NO_GPU
from refgc.settings import settings

Offload = Literal["none", "group"]

ALTERNATIVE = "use the engine correspondence"
INSTALL_QUANTIZATION = "pip install '.[quantization]' in the project's folder"


@dataclass(frozen=True, slots=True)
class Machine:
    """The device that the model runs on, and main memory.

    Attributes:
        device: as torch calls it, such as "cuda:0" or "cpu".
        name: as people call it.
        free: free bytes of the device's memory.
        total: bytes of the device's memory.
        main_memory: free bytes of main memory.
        bfloat16: whether the device computes with it.
        float8: whether the device multiplies 8-bit floating-point matrices.
        torchao: whether the library that quantises is installed.
    """

    device: str
    name: str
    free: int
    total: int
    main_memory: int
    bfloat16: bool
    float8: bool
    torchao: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """How the model is loaded.

    Attributes:
        device: where transformer and VAE compute.
        dtype: of activations and of all weights that are not quantised.
        quantization: of the transformer's blocks.
        offload: "group" lets the blocks wait in main memory and come one after the other.
        text_device: where the text encoders run while they read a prompt.
        keeps_text_encoders: whether they wait in main memory for the next prompt.
        fuses_before_quantizing: whether main memory holds the whole transformer, so that FreqMoLE can be folded into
            the weights before they are quantised; where it does not, the experts stay beside the quantised weights.
        reason: one sentence for people.
        needed: bytes it is expected to take of the device's memory, or of main memory on a CPU.
    """

    device: torch.device
    dtype: torch.dtype
    quantization: Quantization
    offload: Offload
    text_device: torch.device
    keeps_text_encoders: bool
    fuses_before_quantizing: bool
    reason: str
    needed: int

    @property
    def weights(self) -> str:
        """How they are held, in words such as "weights of 8 bits (fp8)"."""
        words = _words(self.quantization, self.dtype).lower()
        return f"{words}, streamed from main memory" if self.offload == "group" else words


def place(
    machine: Machine,
    model: ModelSize,
    quantization: Quantization | None = None,
    *,
    below: int | None = None,
    alternative: str = ALTERNATIVE,
) -> Placement:
    """The placement that keeps most of the model's precision; blocks are streamed only where nothing else fits.

    In this order: bfloat16 on the device (about 32 GiB at full size with the reference cache), 8-bit weights (21 GiB),
    4-bit weights (16 GiB), bfloat16 in main memory with the blocks streamed. A CPU takes float32, or bfloat16 where
    main memory is short.

    Args:
        machine: the device and its memory.
        model: its size.
        quantization: this one and no other; None chooses.
        below: only a placement that needs fewer bytes than this; None for any that fits.
        alternative: what to do where the memory is not enough, for the error sentence.

    Raises:
        EngineError: nothing fits, or the quantisation cannot be had here; the sentence has the figures.
    """
    if machine.device == "cpu":
        return _on_cpu(machine, model, quantization, below, alternative)
    if not machine.bfloat16:
        raise EngineError(
            f"The model needs a GPU that computes in bfloat16 (NVIDIA Ampere of 2020 or later), and {machine.name} "
            f"does not; {alternative}."
        )
    candidates = _candidates(machine) if quantization is None else [quantization]
    for candidate in candidates:
        _check(machine, candidate)
        needed = resident_bytes(model, candidate)
        if _fits(needed, machine.free, below):
            reason = f"{_words(candidate)} on {machine.name}: about {_gib(needed)} of {_gib(machine.free)} free."
            return _resident(machine, model, candidate, needed, reason)
    needed, waiting = streamed_bytes(model)
    if "none" in candidates and _fits(needed, machine.free, below) and waiting <= machine.main_memory:
        advice = "" if machine.torchao else f"; quantised it may fit whole: {INSTALL_QUANTIZATION}"
        reason = (
            f"Weights in bfloat16, streamed from main memory block by block, on {machine.name}: about {_gib(needed)} "
            f"of {_gib(machine.free)} free{advice}."
        )
        return _streamed(machine, model, needed, waiting, reason)
    raise EngineError(_too_small(machine, model, candidates, alternative))


def examine(choice: str | None = None) -> Machine:
    """The device and its free memory now.

    Args:
        choice: the device, as `REFGC_DEVICE` names it: "cuda", "cuda:1" or "cpu"; None reads the variable, and without
            it takes the first GPU.

    Raises:
        EngineError: there is no such device.
    """
    import psutil

    asked = choice or settings().device or "cuda"
    main_memory = psutil.virtual_memory()
    torchao = find_spec("torchao") is not None
    if asked == "cpu":
        return Machine(
            "cpu", "the CPU", main_memory.available, main_memory.total, main_memory.available, True, False, torchao
        )
    if asked.partition(":")[0] != "cuda":
        raise EngineError(f"{DEVICE} is {asked!r}; set it to cuda, cuda:1 (the second GPU) or cpu.")
    if not torch.cuda.is_available():
        raise EngineError(NO_GPU)
    try:
        device = torch.device(asked)
        free, total = torch.cuda.mem_get_info(device)
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(
            f"{DEVICE} is {asked!r}, and torch finds {torch.cuda.device_count()} GPUs; they are counted from cuda:0."
        ) from error
    with torch.cuda.device(device):
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Machine(
        str(device),
        properties.name,
        free,
        total,
        main_memory.available,
        bfloat16,
        float8=(properties.major, properties.minor) >= (8, 9),
        torchao=torchao,
    )


def _candidates(machine: Machine) -> list[Quantization]:
    """The quantisations to try, from the most precise to the smallest.

    Of the two with 8 bits, fp8 is taken where the GPU multiplies it, since it may also be faster when compiled.
    """
    if not machine.torchao:
        return ["none"]
    return ["none", "fp8" if machine.float8 else "int8", "nf4"]


def _check(machine: Machine, quantization: Quantization) -> None:
    if quantization == "none":
        return
    if not machine.torchao:
        raise EngineError(f"{_words(quantization)} need the library torchao: {INSTALL_QUANTIZATION}.")
    if quantization == "fp8" and not machine.float8:
        raise EngineError(
            f"8-bit floating point needs a GPU that multiplies it (NVIDIA Ada or Hopper, or later), and {machine.name} "
            "does not; take quantization=int8."
        )


def _fits(needed: int, free: int, below: int | None) -> bool:
    return needed <= free and (below is None or needed < below)


def _resident(machine: Machine, model: ModelSize, quantization: Quantization, needed: int, reason: str) -> Placement:
    device = torch.device(machine.device)
    # Prompts are encoded before the working memory of a window is needed.
    room = machine.free - (needed - model.working_bytes(2))
    return Placement(
        device,
        torch.bfloat16,
        quantization,
        "none",
        device if room >= 2 * model.text_encoders + SPARE_BYTES else torch.device("cpu"),
        machine.main_memory >= 2 * model.text_encoders + SPARE_BYTES,
        machine.main_memory >= 2 * model.transformer + SPARE_BYTES,
        reason,
        needed,
    )


def _streamed(machine: Machine, model: ModelSize, needed: int, waiting: int, reason: str) -> Placement:
    return Placement(
        torch.device(machine.device),
        torch.bfloat16,
        "none",
        "group",
        torch.device("cpu"),
        machine.main_memory - waiting >= 2 * model.text_encoders + SPARE_BYTES,
        fuses_before_quantizing=True,
        reason=reason,
        needed=needed,
    )


def _on_cpu(
    machine: Machine, model: ModelSize, quantization: Quantization | None, below: int | None, alternative: str
) -> Placement:
    chosen = quantization or "none"
    if chosen != "none" and not machine.torchao:
        raise EngineError(f"{_words(chosen)} need the library torchao: {INSTALL_QUANTIZATION}.")
    parameters = model.transformer + model.text_encoders + model.vae
    for dtype in (torch.float32, torch.bfloat16) if chosen == "none" else (torch.bfloat16,):
        needed = dtype.itemsize * parameters + model.working_bytes(dtype.itemsize) + SPARE_BYTES
        if _fits(needed, machine.main_memory, below):
            cpu = torch.device("cpu")
            words = _words(chosen, dtype)
            reason = f"{words} on the CPU, which takes hours at full size: about {_gib(needed)} of main memory."
            return Placement(cpu, dtype, chosen, "none", cpu, True, True, reason, needed)
    raise EngineError(
        f"The model needs {_gib(needed)} of main memory on the CPU, and {_gib(machine.main_memory)} are free; "
        f"{alternative}."
    )


def _too_small(machine: Machine, model: ModelSize, candidates: list[Quantization], alternative: str) -> str:
    ways = [f"about {_gib(resident_bytes(model, candidates[-1]))} of GPU memory ({_words(candidates[-1]).lower()})"]
    if not machine.torchao:
        ways.append(f"{_gib(resident_bytes(model, 'nf4'))} with weights of 4 bits ({INSTALL_QUANTIZATION})")
    if "none" in candidates:
        streamed, waiting = streamed_bytes(model)
        ways.append(f"{_gib(streamed)} and {_gib(waiting)} of main memory")
    return (
        f"The model needs {', or '.join(ways)}; {machine.name} has {_gib(machine.free)} of {_gib(machine.total)} free "
        f"and main memory {_gib(machine.main_memory)}: free some, or {alternative}."
    )


def _words(quantization: Quantization, dtype: torch.dtype = torch.bfloat16) -> str:
    return {
        "none": f"Weights in {str(dtype).removeprefix('torch.')}",
        "int8": "Weights of 8 bits (int8)",
        "fp8": "Weights of 8 bits (fp8)",
        "nf4": "Weights of 4 bits (nf4)",
    }[quantization]


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
