"""The interface behind which every engine stands: what it takes, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from refgc.imaging.image import Image
from refgc.request import RefineRequest

if TYPE_CHECKING:
    pass

EngineName = Literal["correspondence", "diffusion"]


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
