"""Refinement: from files, PIL images or arrays to a result, by the engine that fits this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.doctor import may_choose_diffusion
from refgc.engine import Engine, EngineName, Progress, RefineResult, no_progress
from refgc.errors import EngineError, InputError, quoted
from refgc.flux.speed import SpeedOptions
from refgc.imaging.image import ImageSource
from refgc.machine import missing_cuda, missing_libraries, on_zero_gpu, silence_libraries
from refgc.request import Surroundings, make_request
from refgc.settings import settings

if TYPE_CHECKING:
    from refgc.model.engine import DiffusionEngine

EngineChoice = Literal["auto", "correspondence", "diffusion"]


def refine(
    reference: ImageSource | Sequence[ImageSource],
    generated: ImageSource,
    *,
    scale: int = 4,
    engine: EngineChoice = "auto",
    reference_mask: ImageSource | Sequence[ImageSource | None] | None = None,
    generated_mask: ImageSource | None = None,
    object_name: str = "object",
    seed: int = 0,
    strength: float = 1.0,
    surroundings: Surroundings = "plain",
    bits: int = 8,
    progress: Progress = no_progress,
) -> RefineResult:
    """Bring the reference's true object back into the generated picture, at `scale` times its size.

    Args:
        reference: the HRRI, the sharp photo of the object, or a list of one to four photos of it, such as front and
            back; `make_request` tells what each argument may be. The correspondence engine takes each part of the
            object from the photo that fits it best, the diffusion engine takes the first photo.
        generated: the LRGI, the generated picture to refine.
        scale: output size over generated size; 1, 2 or 4.
        engine: "correspondence" works without weights, "diffusion" is the paper's model, "auto" takes the best one
            that this machine can run.
        reference_mask: the object in the first reference, or a list with a mask or None for each.
        generated_mask: the object in the generated picture.
        object_name: the object in words.
        seed: seed of everything random; the same arguments give the same pixels.
        strength: how much of the reference to bring in, from 0 to 1.
        surroundings: how what lies around the object is enlarged: "plain" by interpolation,
            "fast" or "best" by a network whose weights `refgc setup --surroundings` gets.
        bits: of each channel: 8, or 16 for `RefineResult.image.deep`, which `save_image` writes as a PNG of 16 bits.
            Only the correspondence engine makes them.
        progress: called as the stages begin and advance.

    Raises:
        InputError: a picture, mask or option cannot be used.
        EngineError: the engine cannot run here, or failed.
    """
    request = make_request(
        reference,
        generated,
        scale=scale,
        reference_mask=reference_mask,
        generated_mask=generated_mask,
        object_name=object_name,
        seed=seed,
        strength=strength,
        surroundings=surroundings,
        bits=bits,
    )
    return choose(engine).refine(request, progress)


def choose(name: EngineChoice = "auto", *, speed: str | None = None) -> Engine:
    """The engine of that name; "auto" takes the one that `best_engine` names.

    However often it is chosen, the diffusion engine is one.

    Args:
        name: "auto" never downloads weights; "diffusion" does when it is used, and works without an adapter too.
        speed: the diffusion engine's speed options, see `refgc.flux.speed.SpeedOptions`; None reads `REFGC_SPEED`.

    Raises:
        EngineError: that engine cannot run here.
        InputError: there is no engine of that name, or `speed` cannot be read.
    """
    options = _speed_options(speed)
    match best_engine(speed=speed) if name == "auto" else name:
        case "diffusion":
            return _diffusion(options)
        case "correspondence":
            return CorrespondenceEngine()
    raise InputError(f"There is no engine called {quoted(name)}; use auto, correspondence or diffusion.")


def best_engine(*, speed: str | None = None) -> EngineName:
    """The best engine that this machine can run.

    It is the diffusion engine where an NVIDIA GPU with room for it, a torch with CUDA, and the weights of base and
    adapter are here, else the correspondence engine.

    Args:
        speed: the diffusion engine's speed options, which decide how much memory it needs; as in `choose`.

    Raises:
        InputError: `speed` cannot be read.
    """
    options = _speed_options(speed)
    if not may_choose_diffusion():
        return "correspondence"
    if on_zero_gpu():
        return "diffusion"  # the GPU is lent for each run, and cannot be looked at before
    try:
        _diffusion(options).plan()
    except EngineError:  # a driver too old for this torch, or too little memory
        return "correspondence"
    return "diffusion"


def _speed_options(speed: str | None) -> SpeedOptions:
    return SpeedOptions.parse(settings().speed if speed is None else speed)


def _diffusion(options: SpeedOptions) -> DiffusionEngine:
    missing = missing_libraries() or missing_cuda()
    if missing:
        raise EngineError(missing)
    silence_libraries()
    from refgc.model.engine import shared_engine

    return shared_engine(options)
