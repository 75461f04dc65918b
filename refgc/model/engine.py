"""The engine "diffusion": loads once, stays on the GPU, and turns whatever goes wrong into one sentence."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
import torch

from refgc import __version__
from refgc.correspondence.upscale import clean_upscale
from refgc.doctor import DEVICE
from refgc.engines import DiffusionDetails, Progress, RefineRequest, RefineResult, Report, Viewer, no_progress
from refgc.errors import EngineError, RefGCError
from refgc.images import Image
from refgc.model import loading
from refgc.model.loading import Sources
from refgc.model.pipeline import RefGCSR2Pipeline, Refined, Settings
from refgc.model.placement import GIB, SPARE_BYTES, Machine, Placement, examine, place
from refgc.model.prompts import PromptReader, prompt_for
from refgc.model.speed import SPEED, SpeedOptions

# From this share on a pixel counts as the model's work.
DRAWN = 0.25
OTHERWISE = "end what else uses it, or use the engine correspondence"
NOT_WANTED = "Nothing of the reference was asked for (strength 0), so the result is a clean upscale."
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "numpy")


@dataclass(slots=True)
class _Loaded:
    pipeline: RefGCSR2Pipeline
    reader: PromptReader
    placement: Placement
    savings: tuple[str, ...] = ()


class DiffusionEngine:
    """The paper's model behind the interface of all engines; safe to share among threads, one picture at a time.

    With FreqMoLE's weights it redraws the object from pure noise, as the paper does. Without, the stock FLUX.1-Kontext
    goes over the correspondence engine's result at partial noise, and the report says so.
    """

    def __init__(
        self,
        sources: Sources | None = None,
        options: SpeedOptions | None = None,
        *,
        device: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Loads nothing yet.

        Args:
            sources: base and adapter; None reads `REFGC_BASE` and `REFGC_ADAPTER`.
            options: what is done for speed; None reads `REFGC_SPEED`.
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`, and without it takes the first GPU.
            settings: steps, guidance, size and the like; None takes the defaults. What depends on request, adapter or
                speed options is replaced: the embeddings, `init` ("correspondence" without an adapter, else
                "generated"), `reference_cache` and `compact_generated`.

        Raises:
            EngineError: there is no such device.
            InputError: `REFGC_SPEED` cannot be read.
        """
        self.sources = sources or Sources.from_environment()
        self.options = options or SpeedOptions.parse(os.environ.get(SPEED, ""))
        self.device = device
        self._settings = settings or Settings()
        self._machine = examine(device)
        self._loaded: _Loaded | None = None
        # The placements that the present call tried to load; more than one where memory ran out.
        self._attempts: list[Placement] = []
        self._lock = Lock()

    def plan(self) -> Placement:
        """Where the model is, or would go now; weights that are not on this machine are downloaded.

        Raises:
            EngineError: the weights cannot be had, or there is no room for them.
        """
        loaded = self._loaded
        return self._plan(loading.fetch(self.sources)) if loaded is None else loaded.placement

    def prepare(self, progress: Progress = no_progress) -> None:
        """See `refgc.engines.Engine`."""
        watch = _Watch(progress, torch.device(self._machine.device))
        with self._lock:
            self._in_one_sentence(lambda: self._ready(watch), watch)

    def refine(
        self, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        """See `refgc.engines.Engine`."""
        if viewer is not None:
            viewer("upscaled", _upscaled(request))
        if request.strength == 0.0:
            return _plain(request)
        watch = _Watch(progress, torch.device(self._machine.device))
        with self._lock:
            result: RefineResult = self._in_one_sentence(lambda: self._refine(request, watch), watch)
        progress("done", 1.0)
        return result

    def _in_one_sentence(self, work: Callable[[], Any], watch: _Watch) -> Any:
        """What `work` returns; every failure but the watcher's own becomes an `EngineError`."""
        try:
            return self._with_room(work, watch)
        except RefGCError:
            raise
        except MemoryError:
            raise
        except Exception as error:
            if error is watch.stopped:
                raise
            raise EngineError(
                f"The model failed with {type(error).__name__} ({error}); run this again with --debug to see where."
            ) from error

    def _with_room(self, work: Callable[[], Any], watch: _Watch) -> Any:
        """What `work` returns, tried again with less to hold each time the device's memory runs out.

        While the model is loaded that is the next smaller placement; once it is, there is one way to save memory.
        """
        self._attempts.clear()
        attempts = 0
        while True:
            try:
                return work()
            except RuntimeError as error:
                if error is watch.stopped or not is_out_of_memory(error):
                    raise
            # Only now, outside of the handler, nobody holds on to the tensors of the failed run any longer.
            _free_memory()
            if self._loaded is None and len(self._attempts) == attempts:
                raise EngineError(f"The memory of {self._machine.name} is not enough to load the model; {OTHERWISE}.")
            if self._loaded is not None and not _make_room(self._loaded, examine(self.device)):
                raise EngineError(
                    f"The memory of {self._machine.name} is not enough, not even with "
                    f"{' and '.join(f'the {saving}' for saving in self._loaded.savings)}; {OTHERWISE}."
                )
            attempts = len(self._attempts)

    def _ready(self, watch: _Watch) -> _Loaded:
        if self._loaded is None:
            watch("loading the model", 0.0)
            folders = loading.fetch(self.sources)
            placement = self._smaller(folders) if self._attempts else self._plan(folders)
            self._attempts.append(placement)
            pipeline = loading.load(folders, placement, self.options)
            self._loaded = _Loaded(pipeline, loading.prompt_reader(folders, placement), placement)
        return self._loaded

    def _plan(self, folders: loading.Folders, below: int | None = None) -> Placement:
        # Looked at anew, because other programs come and go.
        self._machine = examine(self.device)
        return place(self._machine, loading.measure(folders, self.options), self.options.quantization, below=below)

    def _smaller(self, folders: loading.Folders) -> Placement:
        """The next placement after those that turned out too large."""
        tried = " and ".join(placement.weights for placement in self._attempts)
        try:
            placement = self._plan(folders, self._attempts[-1].needed)
        except EngineError:
            raise EngineError(
                f"The memory of {self._machine.name} ran out while the model was loaded with {tried}, and nothing "
                f"smaller can be had here; {OTHERWISE}."
            ) from None
        return replace(
            placement, reason=f"{placement.reason.removesuffix('.')}; memory ran out while loading with {tried}."
        )

    def _refine(self, request: RefineRequest, watch: _Watch) -> RefineResult:
        loaded = self._ready(watch)
        if loaded.placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(loaded.placement.device)
        watch("reading the prompt", 0.01)
        embeddings = loaded.reader.read(self._settings.prompt or prompt_for(request.object_name))
        steps = 0

        def count(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal steps
            steps = step + 1
            callback = self._settings.callback_on_step_end
            return callback(pipeline, step, timestep, tensors) if callback else tensors

        settings = replace(
            self._settings,
            prompt=None,
            prompt_embeds=embeddings.tokens.to(loaded.placement.device),
            pooled_prompt_embeds=embeddings.pooled.to(loaded.placement.device),
            init="correspondence" if loaded.pipeline.freqmole is None else "generated",
            reference_cache=self.options.reference_cache,
            compact_generated=self.options.compact_generated,
            callback_on_step_end=count,
        )
        refined = loaded.pipeline.refine(request, settings, watch)
        watch.end()
        report = self._report(request, loaded, refined, steps, watch.seconds)
        return RefineResult(
            Image(refined.picture), report, {name: Image(pixels) for name, pixels in refined.stages.items()}
        )

    def _report(
        self, request: RefineRequest, loaded: _Loaded, refined: Refined, steps: int, seconds: dict[str, float]
    ) -> Report:
        drawn = refined.share > DRAWN * request.strength
        rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else None
        coverage = float(drawn.mean())
        placement = loaded.placement
        return Report(
            engine="diffusion",
            placed=box is not None,
            message=_message(loaded.pipeline.freqmole is not None, refined.windows.found, coverage),
            confidence=refined.windows.confidence,
            coverage=coverage,
            matches=refined.windows.matches,
            object_box=box,
            **_of(request),
            seconds=seconds,
            versions=_versions(),
            diffusion=DiffusionDetails(
                base=self.sources.base,
                adapter=self.sources.adapter,
                device=self._machine.name,
                placement=placement.reason,
                speed=str(self.options),
                steps=steps,
                peak_memory_gib=(
                    torch.cuda.max_memory_allocated(placement.device) / GIB if placement.device.type == "cuda" else None
                ),
            ),
        )


_shared: DiffusionEngine | None = None
_sharing = Lock()


def shared_engine(options: SpeedOptions) -> DiffusionEngine:
    """The process's engine for what the environment names: a model is loaded once, however often it is asked for.

    Args:
        options: what is done for speed. With others than before, or after the environment names another model or
            device, the earlier engine makes way.

    Raises:
        EngineError: as for `DiffusionEngine`.
    """
    global _shared
    with _sharing:
        sources, device = Sources.from_environment(), os.environ.get(DEVICE)
        if _shared is None or (_shared.sources, _shared.options, _shared.device) != (sources, options, device):
            _shared = None
            _free_memory()
            _shared = DiffusionEngine(sources, options, device=device)
        return _shared


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's memory ran out; CUDA and its libraries say so in errors of several types."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "ALLOC_FAILED" in said


def _free_memory() -> None:
    gc.collect()
    torch.cuda.empty_cache()


class _Watch:
    """Passes stages on to the watcher, times them, and remembers what the watcher raised.

    Attributes:
        seconds: wall-clock seconds by stage.
        stopped: what the watcher raised, None where it did not.
    """

    def __init__(self, progress: Progress, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self.stopped: BaseException | None = None
        self._progress = progress
        self._gpu = device if device.type == "cuda" else None
        self._stage: str | None = None
        self._since = perf_counter()

    def __call__(self, stage: str, fraction: float) -> None:
        """See `refgc.engines.Progress`."""
        if stage != self._stage:
            self.end()
            self._stage = stage
        try:
            self._progress(stage, fraction)
        except BaseException as error:
            self.stopped = error
            raise

    def end(self) -> None:
        """Ends the present stage."""
        if self._gpu is not None:
            # It works on after its orders are given, and would be timed in a later stage.
            torch.cuda.synchronize(self._gpu)
        now = perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + now - self._since, 4)
        self._stage, self._since = None, now


def _make_room(loaded: _Loaded, machine: Machine) -> bool:
    """Lets the model take less of the device's memory from now on; false where it cannot take less."""
    if loaded.savings:
        return False
    placement = loaded.placement
    vae = loaded.pipeline.vae
    vae.enable_tiling()
    # By default a tile has the size of the pictures that Kontext works on, which would then be a single one.
    vae.tile_sample_min_size //= 2
    vae.tile_latent_min_size //= 2
    loaded.reader.device = torch.device("cpu")
    changes = ["VAE in tiles"]
    weights = loaded.pipeline.transformer.num_parameters() * placement.dtype.itemsize
    # Of 4-bit weights little would be gained, and they cannot be swapped block by block.
    if placement.offload == "none" and placement.quantization != "nf4" and weights + SPARE_BYTES <= machine.main_memory:
        loading.stream(loaded.pipeline.transformer, placement.device)
        changes.append("blocks streamed from main memory")
    loaded.savings = tuple(changes)
    reason = f"{placement.reason.removesuffix('.')}; after memory ran out: {', '.join(changes)}."
    loaded.placement = replace(placement, offload="group" if len(changes) > 1 else placement.offload, reason=reason)
    return True


def _message(has_experts: bool, found: bool, coverage: float) -> str:
    share = f"{coverage:.0%} of the result is its work"
    if not has_experts:
        return f"Stock FLUX.1-Kontext (no FreqMoLE weights) went over the correspondence engine's result; {share}."
    if not found:
        return f"The object was not found in the picture, so the model redrew all of it; {share}."
    return f"The model redrew the object after the reference; {share}."


def _upscaled(request: RefineRequest) -> Image:
    width, height = request.generated.size
    return Image(clean_upscale(request.generated.pixels, (width * request.scale, height * request.scale)))


def _plain(request: RefineRequest) -> RefineResult:
    picture = _upscaled(request)
    report = Report(
        engine="diffusion",
        placed=False,
        message=NOT_WANTED,
        confidence=0.0,
        coverage=0.0,
        matches=0,
        object_box=None,
        **_of(request),
        seconds={},
        versions=_versions(),
    )
    return RefineResult(picture, report, {"upscaled": picture})


def _of(request: RefineRequest) -> dict[str, Any]:
    """What a report repeats of its request."""
    width, height = request.generated.size
    return {
        "scale": request.scale,
        "strength": request.strength,
        "seed": request.seed,
        "reference_size": request.reference.size,
        "generated_size": request.generated.size,
        "output_size": (width * request.scale, height * request.scale),
    }


def _versions() -> dict[str, str]:
    return {"refgc": __version__, **{name: version(name) for name in LIBRARIES}}
