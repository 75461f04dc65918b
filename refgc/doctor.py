"""What this machine can run, found without importing torch: system, GPUs, libraries, weights, engines."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field

from refgc import __version__
from refgc.engines import EngineName
from refgc.model import hub

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


class Gpu(BaseModel):
    """One NVIDIA GPU as nvidia-smi lists it."""

    name: str
    memory_gib: float | None = Field(description="null where the GPU shares the machine's memory")
    driver: str


class Library(BaseModel):
    """One installed library, or one that is missing."""

    module: str = Field(description="the name it is imported under")
    version: str | None = Field(description="null when it is not installed")
    needed_for: str = Field(description="core, page, diffusion or quantization (of the diffusion engine's weights)")


class Weights(BaseModel):
    """Weights that an engine reads."""

    variable: str = Field(description="the environment variable that names them")
    source: str | None = Field(description="a folder or a Hugging Face Hub repository; null when none is named")
    present: bool = Field(description="whether they are on this machine")
    advice: str = Field(description="how to get them; empty when present")


class EngineState(BaseModel):
    """Whether an engine can run here."""

    name: EngineName
    ready: bool
    missing: list[str] = Field(description="one sentence for each thing that is missing")


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


def examine() -> Examination:
    """Looks at this machine; nothing is downloaded and no network is used."""
    gpus = _gpus()
    libraries = [
        Library(module=module, version=_version_of(module), needed_for=purpose)
        for purpose, modules in MODULES.items()
        for module in modules
    ]
    weights = [_base_weights(), _adapter_weights()]
    return Examination(
        refgc=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=platform.platform(),
        processor=_processor(),
        cores=_cores(),
        memory_gib=_memory_gib(),
        gpus=gpus,
        libraries=libraries,
        weights=weights,
        engines=[_correspondence_state(libraries), _diffusion_state(gpus, weights)],
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
    return NO_CUDA if _gpus() else NO_GPU


def may_choose_diffusion() -> bool:
    """Whether `refgc.engines.choose("auto")` should try the diffusion engine; where there is no GPU this is quick."""
    gpus = [] if os.environ.get(DEVICE) == "cpu" else _gpus()
    return bool(gpus) and _diffusion_state(gpus, [_base_weights(), _adapter_weights()]).ready


def show(examination: Examination) -> None:
    """Prints the examination as tables for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)

    engines = Table("engine", "state", title="Engines", title_justify="left")
    for engine in examination.engines:
        engines.add_row(engine.name, "[green]ready[/]" if engine.ready else "[yellow]not ready[/]")
    console.print(engines)
    for engine in examination.engines:
        if engine.missing:
            console.print(f"{engine.name} needs:")
        for sentence in engine.missing:
            # Unbroken and without markup, so that commands and addresses can be copied.
            console.print(f"  - {sentence}", markup=False, soft_wrap=True)

    machine = Table("", "found", title="Machine", title_justify="left")
    machine.add_row("refgc", examination.refgc)
    machine.add_row("python", examination.python)
    machine.add_row("system", examination.system)
    machine.add_row("processor", f"{examination.processor}, {examination.cores} cores")
    machine.add_row("memory", _gib(examination.memory_gib))
    gpus = [f"{gpu.name}, {_gib(gpu.memory_gib)}, driver {gpu.driver}" for gpu in examination.gpus]
    machine.add_row("GPU", "\n".join(gpus) or "no NVIDIA GPU")
    console.print(machine)

    weights = Table("variable", "from", "state", title="Weights", title_justify="left")
    for item in examination.weights:
        weights.add_row(item.variable, item.source or "-", "present" if item.present else "[yellow]missing[/]")
    console.print(weights)

    libraries = Table("library", "version", "for", title="Libraries", title_justify="left")
    for library in examination.libraries:
        libraries.add_row(library.module, library.version or "[yellow]not installed[/]", library.needed_for)
    console.print(libraries)


def _gib(memory: float | None) -> str:
    return "unknown" if memory is None else f"{memory:.1f} GiB"


def _correspondence_state(libraries: list[Library]) -> EngineState:
    absent = [library.module for library in libraries if library.needed_for == "core" and library.version is None]
    missing = [f"Packages {', '.join(absent)}: pip install . in the project's folder."] if absent else []
    return EngineState(name="correspondence", ready=not missing, missing=missing)


def _diffusion_state(gpus: list[Gpu], weights: list[Weights]) -> EngineState:
    weightless = [f"Weights {item.variable}: {item.advice}" for item in weights if not item.present]
    no_gpu = missing_cuda() or ("" if gpus or os.environ.get(DEVICE) == "cpu" else NO_GPU)
    missing = [sentence for sentence in (missing_libraries(), no_gpu, *weightless) if sentence]
    return EngineState(name="diffusion", ready=not missing, missing=missing)


def _base_weights() -> Weights:
    source = os.environ.get(hub.BASE) or hub.FLUX_KONTEXT
    advice = (
        f"open https://huggingface.co/{source}, log in and agree to its terms; {hub.LOGIN}; then "
        f"`hf download {source} --include '*.json' --include '*/*'` fetches them (34 GB)."
    )
    return _weights(hub.BASE, source, hub.PIPELINE_FILES, advice)


def _adapter_weights() -> Weights:
    source = os.environ.get(hub.ADAPTER) or None
    if source is None:
        return Weights(
            variable=hub.ADAPTER,
            source=None,
            present=False,
            advice=(
                f"none are published yet; set {hub.ADAPTER} to the folder or Hub repository of trained ones. Without "
                "them --engine diffusion takes the stock FLUX.1-Kontext, and auto does not choose it."
            ),
        )
    return _weights(hub.ADAPTER, source, hub.ADAPTER_FILES, f"`hf download {source}` fetches them.")


def _weights(variable: str, source: str, files: tuple[str, ...], advice: str) -> Weights:
    folder = Path(source).expanduser()
    present = _is_importable("huggingface_hub") and hub.on_disk(source, files) is not None
    if present:
        advice = ""
    elif folder.is_dir():
        advice = f"there is no {hub.missing_from(folder, files)[0]} in {source}; set {variable} to a complete folder."
    elif folder.is_absolute() or source.count("/") != 1:
        advice = f"there is no folder {source}; set {variable} to a folder or a Hub repository."
    return Weights(variable=variable, source=source, present=present, advice=advice)


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


def _gpus() -> list[Gpu]:
    command = shutil.which("nvidia-smi")
    return [] if command is None else _gpus_by(command)


@cache
def _gpus_by(command: str) -> list[Gpu]:
    """Asked once, since it can take a second and GPUs do not come and go."""
    query = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [_gpu(*(cell.strip() for cell in line.split(","))) for line in listing.splitlines() if line.strip()]


def _gpu(name: str, mebibytes: str, driver: str) -> Gpu:
    return Gpu(name=name, memory_gib=int(mebibytes) / 1024 if mebibytes.isdecimal() else None, driver=driver)


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, OSError, ValueError):
        return None
