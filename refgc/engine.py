"""The interface of every engine: what it takes, what it gives back, and the report that all of them write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from refgc import __version__
from refgc.imaging.arrays import Floats
from refgc.imaging.image import Image, Mask
from refgc.imaging.levels import Levels
from refgc.imaging.transparency import changed_over_white
from refgc.imaging.upscale import upscale_alpha
from refgc.request import RefineRequest, Surroundings

EngineName = Literal["correspondence", "diffusion"]

# The stage in which a network draws the surroundings.
DRAWING = "drawing the surroundings"
# What every engine says where the strength is 0.
NOT_WANTED = "Nothing of the reference was asked for (strength 0), so the result is a plain enlargement."


class Progress(Protocol):
    """Called by an engine when a stage begins and as it advances."""

    def __call__(self, stage: str, fraction: float) -> None:
        """`stage` is a short phrase for people ("finding the object"); `fraction` is in [0, 1] over the whole run."""
        ...


def no_progress(stage: str, fraction: float) -> None:
    """Ignores the progress."""


@dataclass
class Stopwatch:
    """Wall-clock seconds by stage; `progress` is called as each stage begins."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, begins_at: float) -> Iterator[None]:
        """Times what runs inside; `begins_at` is the share of the whole run that is done, in [0, 1]."""
        self.progress(name, begins_at)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)


class Viewer(Protocol):
    """Called by an engine with intermediate pictures while a refinement runs."""

    def __call__(self, stage: str, picture: Image | RefineResult, /) -> None:
        """`stage` names the picture as in `RefineResult.stages`; it may be smaller than the result.

        Before a network draws the surroundings, the whole result with plain ones comes as `DRAWING`.
        """
        ...


class DiffusionDetails(BaseModel):
    """How the diffusion engine ran."""

    model_config = ConfigDict(frozen=True)

    base: str = Field(description="the base model used, a folder or a Hub repository")
    adapter: str | None = Field(description="FreqMoLE's weights, a folder or Hub repository; null for the stock model")
    device: str = Field(description="what it ran on")
    placement: str = Field(description="one sentence on number format, place and memory")
    speed: str = Field(description="the speed options that differ from the defaults, as --speed takes them")
    steps: int = Field(ge=0, description="denoising steps that were run")
    peak_memory_gib: float | None = Field(description="most GPU memory taken while refining; null on a CPU")


class RefinedObject(BaseModel):
    """One object, or one copy of it, that took detail from the reference."""

    model_config = ConfigDict(frozen=True)

    box: tuple[int, int, int, int] = Field(description="left, top, right, bottom in output pixels")
    confidence: float = Field(ge=0, le=1, description="how sure the engine is of it")
    coverage: float = Field(ge=0, le=1, description="share of the object that took detail from the reference")
    references: tuple[int, ...] = Field(
        default=(), description="numbers, from 1, of the references whose detail it has; empty where it is not known"
    )


class Report(BaseModel):
    """What happened in one refinement; `Report.model_json_schema()` documents the JSON file."""

    model_config = ConfigDict(frozen=True)

    engine: EngineName
    placed: bool = Field(description="whether the reference was placed in the picture; false means a plain enlargement")
    message: str = Field(description="one sentence for the person who asked")
    confidence: float = Field(ge=0, le=1, description="how sure the engine is of the placement")
    coverage: float = Field(ge=0, le=1, description="share of the output's pixels that took detail from the reference")
    matches: int = Field(ge=0, description="feature matches that agree with the placement")
    object_box: tuple[int, int, int, int] | None = Field(
        description="left, top, right, bottom of the refined object in output pixels; null when nothing was placed"
    )
    objects: tuple[RefinedObject, ...] = Field(
        default=(), description="each refined object or copy of it; empty where the engine does not tell them apart"
    )
    object_coverage: float | None = Field(
        default=None, ge=0, le=1, description="share of the object that took detail; null where it is not known"
    )
    placement: tuple[float, ...] | None = Field(
        default=None,
        description="homography from output pixels to pixels of the reference, three rows of three, which tells where "
        "a spot of the object is in the photo; null where it is not known, and for several references",
    )
    references_used: tuple[int, ...] = Field(
        default=(), description="numbers, from 1, of the references that detail was taken from"
    )
    warnings: tuple[str, ...] = Field(
        default=(),
        description="codes of what is wrong with the pictures, which `message` says in words: mirrored, copies, "
        "colours, swapped, blurred, small; of several references mirrored_2, unplaced_2 and so on, by their numbers; "
        "first_reference where only the first one could be used; drifted where a redrawing was refused",
    )
    scale: int = Field(description="output size over generated size")
    strength: float = Field(ge=0, le=1, description="how much of the reference was asked for")
    surroundings: Surroundings = Field(default="plain", description="how what lies around the object was enlarged")
    seed: int = Field(description="seed of everything random")
    reference_size: tuple[int, int] = Field(description="width and height of the first reference in pixels")
    generated_size: tuple[int, int] = Field(description="width and height of the generated picture in pixels")
    output_size: tuple[int, int] = Field(description="width and height of the result in pixels")
    seconds: dict[str, float] = Field(description="wall-clock seconds by stage")
    versions: dict[str, str] = Field(description="versions of refgc and of the libraries that made the pixels")
    diffusion: DiffusionDetails | None = Field(
        default=None, description="how the diffusion engine ran; null when it did not"
    )


def make_report(
    engine: EngineName,
    request: RefineRequest,
    message: str,
    *,
    taken: NDArray[np.bool_] | None = None,
    confidence: float = 0.0,
    matches: int = 0,
    seconds: dict[str, float],
    libraries: tuple[str, ...],
    diffusion: DiffusionDetails | None = None,
    objects: tuple[RefinedObject, ...] = (),
    placement: tuple[float, ...] | None = None,
    references_used: tuple[int, ...] = (1,),
    warnings: tuple[str, ...] = (),
) -> Report:
    """The report of one refinement.

    Args:
        engine: that refined.
        request: what was asked for.
        message: one sentence for the person who asked.
        taken: (height, width) of the output, true where detail came from the reference; None for a plain enlargement.
        confidence: of the placement, in [0, 1].
        matches: feature matches that agree with the placement.
        seconds: wall-clock seconds by stage.
        libraries: that made the pixels, as for `versions_of`.
        diffusion: how the diffusion engine ran.
        objects: what was refined, the surest first.
        placement: homography from output pixels to pixels of the reference, where it is known.
        references_used: numbers, from 1, of the references that detail was taken from, where it was.
        warnings: codes of what is wrong with the pictures.
    """
    width, height = request.generated.size
    box = None if taken is None else box_of(taken)
    return Report(
        engine=engine,
        placed=box is not None,
        message=message,
        confidence=confidence,
        coverage=0.0 if taken is None else float(taken.mean()),
        matches=matches,
        object_box=box,
        objects=objects,
        object_coverage=objects[0].coverage if objects else None,
        placement=placement,
        references_used=() if box is None else references_used,
        warnings=warnings,
        scale=request.scale,
        strength=request.strength,
        surroundings=request.surroundings,
        seed=request.seed,
        reference_size=request.reference.size,
        generated_size=request.generated.size,
        output_size=(width * request.scale, height * request.scale),
        seconds=seconds,
        versions=versions_of(*libraries),
        diffusion=diffusion,
    )


def versions_of(*libraries: str) -> dict[str, str]:
    """The versions of refgc and of installed libraries; "opencv" stands for whichever build of it is installed."""
    found = {name: cv2.__version__ if name == "opencv" else version(name) for name in libraries}
    return {"refgc": __version__, **found}


def box_of(taken: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of what is true; None where nothing is."""
    rows, columns = np.flatnonzero(taken.any(axis=1)), np.flatnonzero(taken.any(axis=0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True, slots=True, eq=False)
class RefineResult:
    """The refined picture with its report.

    Attributes:
        image: exactly `scale` times the generated picture, with its transparency.
        report: what happened.
        stages: pictures that explain the result, by name, in the order they were made ("upscaled" always first).
        trust: (height, width) of the output in [0, 1], how far each pixel's detail is the reference's own; None where
            nothing was taken from it, or where the engine does not tell.
    """

    image: Image
    report: Report
    stages: Mapping[str, Image] = field(default_factory=dict)
    trust: Floats | None = None


def output_alpha(request: RefineRequest) -> Mask | None:
    """The transparency of a request's result: that of the generated picture, enlarged; None where it is opaque."""
    alpha, (width, height) = request.generated.alpha, request.generated.size
    return alpha and Mask(upscale_alpha(alpha.values, (width * request.scale, height * request.scale)))


def output_on_white(before: Levels, after: Levels, alpha: Mask | None) -> Levels:
    """A request's result as it is seen on white; see `changed_over_white`.

    Args:
        before: uint8 or uint16 RGB (height, width, 3), the generated picture enlarged.
        after: what was made of it, of the same type and shape.
        alpha: as `output_alpha` returns it; where it is None, the result is `after`.
    """
    return after if alpha is None or after is before else changed_over_white(before, after, alpha.values)


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
