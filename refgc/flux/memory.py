"""Room: where a model lies in a device's memory, and how it goes on with less of it when that runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from diffusers import DiffusionPipeline, ModelMixin

from refgc.errors import EngineError
from refgc.flux.placement import OTHERWISE, SPARE_BYTES, Machine, ModelSize, Placement, examine, place
from refgc.flux.prompts import PromptReader
from refgc.flux.reading import stream
from refgc.flux.speed import Quantization

AnyPipeline = TypeVar("AnyPipeline", bound=DiffusionPipeline)
Made = TypeVar("Made")


@dataclass(slots=True)
class Resident(Generic[AnyPipeline]):
    """A model that is loaded.

    Attributes:
        pipeline: on its device, without text encoders.
        networks: those of its parts that come in blocks, which can be streamed from main memory.
        reader: of prompts.
        placement: where it lies; another one after it had to make room.
        savings: what was done to make room.
    """

    pipeline: AnyPipeline
    networks: tuple[ModelMixin, ...]
    reader: PromptReader
    placement: Placement
    savings: tuple[str, ...] = ()


class Room(Generic[AnyPipeline]):
    """Keeps one model in a device's memory; for one thread at a time.

    Attributes:
        machine: what the model runs on, as it was when a placement was last looked for.
        resident: the model; None until it is loaded.
    """

    def __init__(
        self,
        device: str | None,
        measure: Callable[[], ModelSize],
        load: Callable[[Placement], Resident[AnyPipeline]],
        *,
        quantization: Quantization | None = None,
        otherwise: str = OTHERWISE,
    ) -> None:
        """Loads nothing yet.

        Args:
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`, and without it takes the first GPU.
            measure: tells how large the model is; may download it.
            load: loads it as a placement says.
            quantization: of the weights; None decides by the memory that is there.
            otherwise: what to do where there is no room, for the sentences that say so.

        Raises:
            EngineError: there is no such device.
        """
        self.machine = examine(device)
        self.resident: Resident[AnyPipeline] | None = None
        self._device = device
        self._measure = measure
        self._load = load
        self._quantization = quantization
        self._otherwise = otherwise
        # The placements that the present work tried to load; more than one where memory ran out.
        self._attempts: list[Placement] = []

    def plan(self) -> Placement:
        """Where the model is, or would go now.

        Raises:
            EngineError: there is no room for it.
        """
        return self._place() if self.resident is None else self.resident.placement

    def enter(self) -> Resident[AnyPipeline]:
        """The model, loaded where it is not yet; inside of `work` smaller each time it turned out too large.

        Raises:
            EngineError: there is no room for it.
        """
        if self.resident is None:
            placement = self._smaller() if self._attempts else self._place()
            self._attempts.append(placement)
            self.resident = self._load(placement)
        return self.resident

    def work(self, work: Callable[[], Made], *, is_callers: Callable[[Exception], bool] = lambda error: False) -> Made:
        """What `work` returns, tried again with less to hold each time the device's memory runs out.

        While the model is loaded that is the next smaller placement; once it is, there is one way to save memory.

        Args:
            work: calls `enter`.
            is_callers: whether an error comes from the caller's own functions, and is passed on as it is.

        Raises:
            EngineError: the memory is not enough, whatever is done.
        """
        self._attempts.clear()
        attempts = 0
        while True:
            try:
                return work()
            except RuntimeError as error:
                if is_callers(error) or not is_out_of_memory(error):
                    raise
            # Only now, outside of the handler, nobody holds on to the tensors of the failed run any longer.
            free_memory()
            if self.resident is None and len(self._attempts) == attempts:
                raise EngineError(f"The memory of {self.machine.name} is not enough to load the model; {self._advice}.")
            if self.resident is not None and not _make_room(self.resident, examine(self._device)):
                raise EngineError(
                    f"The memory of {self.machine.name} is not enough, not even with "
                    f"{' and '.join(f'the {saving}' for saving in self.resident.savings)}; {self._advice}."
                )
            attempts = len(self._attempts)

    @property
    def _advice(self) -> str:
        return f"end what else uses it, or {self._otherwise}"

    def _place(self, below: int | None = None) -> Placement:
        size = self._measure()
        # Looked at anew, because other programs come and go.
        self.machine = examine(self._device)
        return place(self.machine, size, self._quantization, below=below, otherwise=self._otherwise)

    def _smaller(self) -> Placement:
        """The next placement after those that turned out too large."""
        tried = " and ".join(placement.weights for placement in self._attempts)
        try:
            placement = self._place(self._attempts[-1].needed)
        except EngineError:
            raise EngineError(
                f"The memory of {self.machine.name} ran out while the model was loaded with {tried}, and nothing "
                f"smaller can be had here; {self._advice}."
            ) from None
        return replace(
            placement, reason=f"{placement.reason.removesuffix('.')}; memory ran out while loading with {tried}."
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's memory ran out; CUDA and its libraries say so in errors of several types."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "ALLOC_FAILED" in said


def free_memory() -> None:
    """Gives back what nobody holds on to."""
    gc.collect()
    torch.cuda.empty_cache()


def _make_room(resident: Resident[AnyPipeline], machine: Machine) -> bool:
    """Lets the model take less of the device's memory from now on; false where it cannot take less."""
    if resident.savings:
        return False
    placement = resident.placement
    vae = resident.pipeline.vae
    vae.enable_tiling()
    # By default a tile has the size of the pictures that FLUX works on, which would then be a single one.
    vae.tile_sample_min_size //= 2
    vae.tile_latent_min_size //= 2
    resident.reader.device = torch.device("cpu")
    changes = ["VAE in tiles"]
    weights = sum(network.num_parameters() for network in resident.networks) * placement.dtype.itemsize
    # Of 4-bit weights little would be gained, and they cannot be swapped block by block.
    if placement.offload == "none" and placement.quantization != "nf4" and weights + SPARE_BYTES <= machine.main_memory:
        for network in resident.networks:
            stream(network, placement.device)
        changes.append("blocks streamed from main memory")
    resident.savings = tuple(changes)
    reason = f"{placement.reason.removesuffix('.')}; after memory ran out: {', '.join(changes)}."
    resident.placement = replace(placement, offload="group" if len(changes) > 1 else placement.offload, reason=reason)
    return True
