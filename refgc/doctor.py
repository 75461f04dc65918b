"""What this machine can run, found without importing torch: system, GPUs, libraries, weights, engines."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from refgc import __version__, machine
from refgc.engines import EngineName
from refgc.machine import Gpu, find_gpus
from refgc.weights_here import Weights, diptych_weights, engine_weights, sam_weights

DEVICE = "REFGC_DEVICE"
# By the name they are imported under, since OpenCV is installed under several names.
CORE_MODULES = ("numpy", "scipy", "cv2", "PIL", "pillow_heif", "pydantic", "typer", "rich")
PAGE_MODULES = ("gradio",)
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
QUANTIZATION_MODULES = ("torchao",)
MODULES = {
    "core": CORE_MODULES,
    "page": PAGE_MODULES,
    "diffusion": DIFFUSION_MODULES,
    "quantization": QUANTIZATION_MODULES,
}

OTHERWISE = f"use the engine correspondence, or set {DEVICE}=cpu, where one picture takes hours at full size."
NO_GPU = f"The engine diffusion needs an NVIDIA GPU, and none is found here; {OTHERWISE}"
NO_CUDA = (
    f"The engine diffusion needs a torch with CUDA, and the installed one is for CPUs: install another; {OTHERWISE}"
)


class Library(BaseModel):
    """One installed library, or one that is missing."""

    module: str = Field(description="the name it is imported under")
    version: str | None = Field(description="null when it is not installed")
    needed_for: str = Field(description="core, page, diffusion or quantization (of the diffusion engine's weights)")


class EngineState(BaseModel):
    """Whether an engine can run here."""

    name: EngineName
    ready: bool
    missing: list[str] = Field(description="one sentence for each thing that is missing")


class PartState(BaseModel):
    """Whether something that has a stand-in can run here."""

    name: Literal["diptych generator", "SAM"]
    ready: bool
    missing: list[str] = Field(description="one sentence for each thing that is missing")
    without: str = Field(description="what takes its place where it is not ready")


class Examination(BaseModel):
    """Everything `refgc doctor` found; `--json` prints it."""

    refgc: str
    python: str
    system: str
    processor: str
    cores: int = Field(description="processor cores that this process may use")
    memory_gib: float | None = Field(description="the machine's memory; null when the system does not tell")
    gpus: list[Gpu]
    libraries: list[Library]
    weights: list[Weights]
    engines: list[EngineState]
    parts: list[PartState]


def examine() -> Examination:
    """Looks at this machine; nothing is downloaded and no network is used."""
    gpus = find_gpus()
    libraries = [
        Library(module=module, version=_version_of(module), needed_for=purpose)
        for purpose, modules in MODULES.items()
        for module in modules
    ]
    engine, diptych, sam = engine_weights(), diptych_weights(), sam_weights()
    return Examination(
        refgc=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=platform.platform(),
        processor=machine.processor(),
        cores=machine.cores(),
        memory_gib=machine.memory_gib(),
        gpus=gpus,
        libraries=libraries,
        weights=[*engine, *diptych, sam],
        engines=[_correspondence_state(libraries), _diffusion_state(gpus, engine)],
        parts=[_diptych_state(diptych), _sam_state()],
    )


def missing_libraries() -> str:
    """What to install for the diffusion engine, as a sentence; empty where all is there."""
    absent = [module for module in DIFFUSION_MODULES if not _is_importable(module)]
    if not absent:
        return ""
    return f"The engine diffusion needs {', '.join(absent)}: pip install '.[diffusion]' in the project's folder."


def missing_cuda() -> str:
    """Why torch cannot use a GPU, as a sentence, as far as its own note of how it was built tells; empty if it may.

    Torch is not imported for it.
    """
    torch = find_spec("torch")
    if os.environ.get(DEVICE) == "cpu" or torch is None or torch.origin is None:
        return ""
    note = Path(torch.origin).with_name("version.py")
    if not note.is_file() or re.search(r"^(cuda|hip)\b[^=]*= *'", note.read_text(), re.MULTILINE):
        return ""
    return NO_CUDA if find_gpus() else NO_GPU


def may_choose_diffusion() -> bool:
    """Whether `refgc.engines.choose("auto")` should try the diffusion engine; where there is no GPU this is quick."""
    gpus = [] if os.environ.get(DEVICE) == "cpu" else find_gpus()
    return bool(gpus) and _diffusion_state(gpus, engine_weights()).ready


def _correspondence_state(libraries: list[Library]) -> EngineState:
    absent = [library.module for library in libraries if library.needed_for == "core" and library.version is None]
    missing = [f"Packages {', '.join(absent)}: pip install . in the project's folder."] if absent else []
    return EngineState(name="correspondence", ready=not missing, missing=missing)


def _diffusion_state(gpus: list[Gpu], weights: list[Weights]) -> EngineState:
    no_gpu = missing_cuda() or ("" if gpus or os.environ.get(DEVICE) == "cpu" else NO_GPU)
    missing = [sentence for sentence in (missing_libraries(), no_gpu, *_absences(weights)) if sentence]
    return EngineState(name="diffusion", ready=not missing, missing=missing)


def _diptych_state(weights: list[Weights]) -> PartState:
    from refgc.diprefgc.sources import missing_gpu
    from refgc.diprefgc.sources import missing_libraries as missing_libraries_of_generator

    candidates = (missing_libraries_of_generator(), missing_gpu(), *_absences(weights))
    missing = [sentence for sentence in candidates if sentence]
    return PartState(
        name="diptych generator", ready=not missing, missing=missing, without="the simulator draws the preview's LRGI"
    )


def _sam_state() -> PartState:
    from refgc.segmentation.weights import obstacle

    missing = [sentence for sentence in (obstacle(),) if sentence]
    return PartState(name="SAM", ready=not missing, missing=missing, without="masks are found without weights")


def _absences(weights: list[Weights]) -> list[str]:
    absent = [item for item in weights if not item.present and item.advice]
    return [
        item.advice if item.advice.startswith(item.variable) else f"Weights {item.variable}: {item.advice}"
        for item in absent
    ]


def _version_of(module: str) -> str | None:
    """The version of the package that a module comes from; None when there is no such module."""
    if not _is_importable(module):
        return None
    distributions = _distributions().get(module)
    return "unknown" if distributions is None else metadata.version(distributions[0])


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The distributions behind each importable module; read once, since every installed file is listed for it."""
    return metadata.packages_distributions()


def _is_importable(module: str) -> bool:
    """Whether a module is there, without importing it."""
    parent = module.rpartition(".")[0]
    return (not parent or _is_importable(parent)) and find_spec(module) is not None
