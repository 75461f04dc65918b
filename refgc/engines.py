"""The one interface behind which every engine stands, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from refgc.errors import EngineError
from refgc.images import Image, Mask

EngineName = Literal["correspondence", "diffusion"]
SCALES = (1, 2, 4)


class Progress(Protocol):
    """Called by an engine when a stage begins and as it advances."""

    def __call__(self, stage: str, fraction: float) -> None:
        """`stage` is a short phrase for people ("finding the object"); `fraction` is in [0, 1] over the whole run."""
        ...


def no_progress(stage: str, fraction: float) -> None:
    """The progress of a caller who does not watch."""


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

    def refine(self, request: RefineRequest, progress: Progress = no_progress) -> RefineResult:
        """Raises `EngineError` with one sentence when it cannot."""
        ...


def choose(name: Literal["auto", "correspondence", "diffusion"] = "auto") -> Engine:
    """The engine of that name; "auto" takes the best one this machine can run.

    Raises:
        EngineError: that engine cannot run here.
    """
    if name == "diffusion":
        raise EngineError("The diffusion engine is not part of this version; use the engine correspondence.")
    if name not in ("auto", "correspondence"):
        raise EngineError(f"There is no engine called {name!r}; use auto or correspondence.")
    from refgc.correspondence.engine import CorrespondenceEngine

    return CorrespondenceEngine()
