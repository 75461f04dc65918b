"""One model in a device's memory: loaded when it is needed, and made smaller when the memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from diffusers import DiffusionPipeline, ModelMixin

from refgc.errors import EngineError
from refgc.flux.placement import ALTERNATIVE, Machine, Placement, examine, place
from refgc.flux.prompts import PromptReader
from refgc.flux.reading import stream
from refgc.flux.sizes import SPARE_BYTES, ModelSize
from refgc.flux.speed import Quantization

AnyPipeline = TypeVar("AnyPipeline", bound=DiffusionPipeline)
Result = TypeVar("Result")


@dataclass(slots=True)
class LoadedModel(Generic[AnyPipeline]):
    """A model in memory.

    Attributes:
        pipeline: on its device, without text encoders.
        networks: its transformer and ControlNets, whose blocks can be streamed from main memory.
        reader: of prompts.
        placement: where it lies; replaced after memory ran out.
        savings: what was done so that it takes less memory, in words.
    """

    pipeline: AnyPipeline
    networks: tuple[ModelMixin, ...]
    reader: PromptReader
    placement: Placement
    savings: tuple[str, ...] = ()


class ModelHolder(Generic[AnyPipeline]):
    """Keeps one model in a device's memory; for one thread at a time.

    Attributes:
        machine: what the model runs on, as it was when a placement was last looked for.
        loaded: the model; None until it is loaded.
    """

    def __init__(
        self,
        device: str | None,
        measure: Callable[[], ModelSize],
        load: Callable[[Placement], LoadedModel[AnyPipeline]],
        *,
        quantization: Quantization | None = None,
        alternative: str = ALTERNATIVE,
        examine: Callable[[str | None], Machine] = examine,
        place: Callable[..., Placement] = place,
    ) -> None:
        """Loads nothing yet.

        Args:
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`, and without it takes the first GPU.
            measure: tells how large the model is; may download it.
            load: loads it as a placement says.
            quantization: of the weights; None decides by the memory that is there.
            alternative: what to do where the memory is not enough, for the error sentences.
            examine: measures a device, as `refgc.flux.placement.examine`.
            place: chooses a placement, as `refgc.flux.placement.place`.

        Raises:
            EngineError: there is no such device.
        """
        self.machine = examine(device)
        self.loaded: LoadedModel[AnyPipeline] | None = None
        self._device = device
        self._measure = measure
        self._load = load
        self._quantization = quantization
        self._alternative = alternative
        self._examine = examine
        self._choose = place
        # The placements that the present run tried to load; more than one where memory ran out.
        self._attempts: list[Placement] = []

    def plan(self) -> Placement:
        """Where the model is, or would go now.

        Raises:
            EngineError: there is no room for it.
        """
        return self._place() if self.loaded is None else self.loaded.placement

    def load(self) -> LoadedModel[AnyPipeline]:
        """The model, loaded if it is not yet; inside of `run` as the next smaller placement after each failure.

        Raises:
            EngineError: there is no room for it.
        """
        if self.loaded is None:
            placement = self._smaller() if self._attempts else self._place()
            self._attempts.append(placement)
            self.loaded = self._load(placement)
        return self.loaded

    def run(
        self, work: Callable[[], Result], *, is_callers: Callable[[Exception], bool] = lambda error: False
    ) -> Result:
        """What `work` returns; it is tried again, with less in memory, each time the device's memory runs out.

        Where memory runs out while the model is loaded, the next smaller placement is taken. Where it runs out later,
        the VAE works in tiles and blocks are streamed; that can be done once.

        Args:
            work: calls `load`.
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
            # Outside of the handler the error, and with it the tensors of the failed run, is no longer referenced.
            free_memory()
            if self.loaded is None and len(self._attempts) == attempts:
                raise EngineError(f"The memory of {self.machine.name} is not enough to load the model; {self._advice}.")
            if self.loaded is not None and not _take_less_memory(self.loaded, self._examine(self._device)):
                raise EngineError(
                    f"The memory of {self.machine.name} is not enough, not even with "
                    f"{' and '.join(f'the {saving}' for saving in self.loaded.savings)}; {self._advice}."
                )
            attempts = len(self._attempts)

    @property
    def _advice(self) -> str:
        return f"end what else uses it, or {self._alternative}"

    def _place(self, below: int | None = None) -> Placement:
        size = self._measure()
        # Measured again each time, because other programs take and free memory.
        self.machine = self._examine(self._device)
        return self._choose(self.machine, size, self._quantization, below=below, alternative=self._alternative)

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
    """Frees memory that is no longer referenced, that of torch's GPU cache as well."""
    gc.collect()
    torch.cuda.empty_cache()


def _take_less_memory(loaded: LoadedModel[AnyPipeline], machine: Machine) -> bool:
    """Reduces what the model takes of the device's memory from now on; false where that was done before."""
    if loaded.savings:
        return False
    placement = loaded.placement
    vae = loaded.pipeline.vae
    vae.enable_tiling()
    # The default tile is as large as the pictures that FLUX works on, so that there would be only one.
    vae.tile_sample_min_size //= 2
    vae.tile_latent_min_size //= 2
    loaded.reader.device = torch.device("cpu")
    changes = ["VAE in tiles"]
    weights = sum(network.num_parameters() for network in loaded.networks) * placement.dtype.itemsize
    # Streaming 4-bit weights would save little, and torchao's cannot be moved block by block.
    if placement.offload == "none" and placement.quantization != "nf4" and weights + SPARE_BYTES <= machine.main_memory:
        for network in loaded.networks:
            stream(network, placement.device)
        changes.append("blocks streamed from main memory")
    loaded.savings = tuple(changes)
    reason = f"{placement.reason.removesuffix('.')}; after memory ran out: {', '.join(changes)}."
    loaded.placement = replace(placement, offload="group" if len(changes) > 1 else placement.offload, reason=reason)
    return True
