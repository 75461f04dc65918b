"""The one interface behind which every engine stands, and the choice among them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from refgc.errors import EngineError
from refgc.images import Image, Mask

if TYPE_CHECKING:
    from refgc.model.engine import DiffusionEngine
    from refgc.model.speed import SpeedOptions

EngineName = Literal["correspondence", "diffusion"]
SCALES = (1, 2, 4)


class Progress(Protocol):
    """Called by an engine when a stage begins and as it advances."""

    def __call__(self, stage: str, fraction: float) -> None:
        """`stage` is a short phrase for people ("finding the object"); `fraction` is in [0, 1] over the whole run."""
        ...


def no_progress(stage: str, fraction: float) -> None:
    """The progress of a caller who does not watch."""


class Viewer(Protocol):
    """Given pictures of a refinement while it is being made, for someone who does not want to wait for its end."""

    def __call__(self, stage: str, picture: Image) -> None:
        """`stage` names the picture as in `RefineResult.stages`; it may be smaller than the result."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RefineRequest:
    """One refinement, fully checked; engines trust every field.

    Attributes:
        reference: the HRRI, the sharp photo of the object.
        generated: the LRGI, the generated picture to refine.
        scale: output size over generated size; 1, 2 or 4.
        reference_mask: the object in `reference`, same size; None lets the engine find it.
        generated_mask: the object in `generated`, same size; None lets the engine find it.
        object_name: the object in words, used in the diffusion engine's prompt.
        seed: seed of everything random; the same request and seed give the same pixels.
        strength: how much of the reference to bring in, from 0 (plain upscale) to 1.
    """

    reference: Image
    generated: Image
    scale: int = 4
    reference_mask: Mask | None = None
    generated_mask: Mask | None = None
    object_name: str = "object"
    seed: int = 0
    strength: float = 1.0


class DiffusionDetails(BaseModel):
    """How the diffusion engine ran."""

    model_config = ConfigDict(frozen=True)

    base: str = Field(description="the FLUX.1-Kontext used, a folder or a Hub repository")
    adapter: str | None = Field(description="FreqMoLE's weights, a folder or Hub repository; null for the stock model")
    device: str = Field(description="what it ran on")
    placement: str = Field(description="one sentence on number format, place and memory")
    speed: str = Field(description="the speed options that differ from the defaults, as --speed takes them")
    steps: int = Field(ge=0, description="denoising steps that were run")
    peak_memory_gib: float | None = Field(description="most GPU memory taken while refining; null on a CPU")


class Report(BaseModel):
    """What happened in one refinement; `Report.model_json_schema()` documents the JSON file."""

    model_config = ConfigDict(frozen=True)

    engine: EngineName
    placed: bool = Field(description="whether the reference was placed in the picture; false means a plain upscale")
    message: str = Field(description="one sentence for the person who asked")
    confidence: float = Field(ge=0, le=1, description="how sure the engine is of the placement")
    coverage: float = Field(ge=0, le=1, description="share of the output's pixels that took detail from the reference")
    matches: int = Field(ge=0, description="feature matches that agree with the placement")
    object_box: tuple[int, int, int, int] | None = Field(
        description="left, top, right, bottom of the refined object in output pixels; null when nothing was placed"
    )
    scale: int = Field(description="output size over generated size")
    strength: float = Field(ge=0, le=1, description="how much of the reference was asked for")
    seed: int = Field(description="seed of everything random")
    reference_size: tuple[int, int] = Field(description="width and height of the reference in pixels")
    generated_size: tuple[int, int] = Field(description="width and height of the generated picture in pixels")
    output_size: tuple[int, int] = Field(description="width and height of the result in pixels")
    seconds: dict[str, float] = Field(description="wall-clock seconds by stage")
    versions: dict[str, str] = Field(description="versions of refgc and of the libraries that made the pixels")
    diffusion: DiffusionDetails | None = Field(
        default=None, description="how the diffusion engine ran; null when it did not"
    )


@dataclass(frozen=True, slots=True, eq=False)
class RefineResult:
    """The refined picture with its report.

    Attributes:
        image: exactly `scale` times the generated picture.
        report: what happened.
        stages: pictures that explain the result, by name, in the order they were made ("upscaled" always first).
    """

    image: Image
    report: Report
    stages: Mapping[str, Image] = field(default_factory=dict)


class Engine(Protocol):
    """Turns a request into a result."""

    def prepare(self, progress: Progress = no_progress) -> None:
        """Loads what the engine needs, so that no refinement has to wait for it; does nothing the second time.

        Raises:
            EngineError: it cannot be had here.
            InputError: what the environment names as the model cannot be used.
        """
        ...

    def refine(
        self, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        """Refines one picture; the same pixels come out whether or not a viewer looks on.

        What `progress` or `viewer` raises ends the refinement and reaches the caller as it is.

        Raises:
            EngineError: it cannot be done here.
        """
        ...


def choose(name: Literal["auto", "correspondence", "diffusion"] = "auto", *, speed: str | None = None) -> Engine:
    """The engine of that name; "auto" takes the best one this machine can run.

    That is the diffusion engine where an NVIDIA GPU with room for it, a torch with CUDA, and the weights of base and
    adapter are here, else the correspondence engine. However often it is chosen, the diffusion engine is one.

    Args:
        name: "auto" never downloads weights; "diffusion" does when it is used, and works without an adapter too.
        speed: the diffusion engine's speed options, see `refgc.model.speed.SpeedOptions`; None reads `REFGC_SPEED`.

    Raises:
        EngineError: that engine cannot run here.
        InputError: `speed` cannot be read.
    """
    from refgc.model.speed import SPEED, SpeedOptions

    options = SpeedOptions.parse(os.environ.get(SPEED, "") if speed is None else speed)
    match name:
        case "diffusion":
            return _diffusion(options)
        case "auto":
            return _best(options)
        case "correspondence":
            return _correspondence()
    raise EngineError(f"There is no engine called {name!r}; use auto, correspondence or diffusion.")


def _best(options: SpeedOptions) -> Engine:
    from refgc.doctor import may_choose_diffusion

    if not may_choose_diffusion():
        return _correspondence()
    try:
        engine = _diffusion(options)
        engine.plan()
    except EngineError:  # a driver too old for this torch, or too little memory
        return _correspondence()
    return engine


def _correspondence() -> Engine:
    from refgc.correspondence.engine import CorrespondenceEngine

    return CorrespondenceEngine()


def _diffusion(options: SpeedOptions) -> DiffusionEngine:
    from refgc.doctor import missing_cuda, missing_libraries

    missing = missing_libraries() or missing_cuda()
    if missing:
        raise EngineError(missing)
    silence_libraries()
    from refgc.model.engine import shared_engine

    return shared_engine(options)


def silence_libraries() -> None:
    """What they say to programmers as they are imported would stand among our sentences."""
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    for library in ("torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
