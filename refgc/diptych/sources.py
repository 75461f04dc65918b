"""Sources of the diptych generator's weights, by environment variables, and whether it can run here.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self, get_args

from refgc import hub, machine
from refgc.errors import EngineError, InputError, RefGCError
from refgc.machine import find_gpus, on_zero_gpu
from refgc.settings import settings
from refgc.weight_files import only_pickles, own_file

ControlNetName = Literal["inpainting", "canny"]
NAMES: tuple[ControlNetName, ...] = get_args(ControlNetName)
LoraSources = Mapping[ControlNetName, str | Path] | str | Path

BASE = "REFGC_DIPTYCH_BASE"
INPAINTING_CONTROLNET = "REFGC_INPAINTING_CONTROLNET"
CANNY_CONTROLNET = "REFGC_CANNY_CONTROLNET"
LORAS = "REFGC_DIPTYCH_LORAS"

FLUX_DEV = "black-forest-labs/FLUX.1-dev"
PIPELINES = ("FluxPipeline", "FluxControlNetPipeline", "DipRefGCPipeline")
# File names of ControlNets on the Hub, and of a LoRA that diffusers saved.
CONTROLNET_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
LORA_FILE = "pytorch_lora_weights.safetensors"
# File names of a LoRA that peft saved, and of its config.
PEFT_FILE, PEFT_CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
LORA_FILES = tuple(f"{name}/{LORA_FILE}" for name in NAMES)

PUBLISHED = {
    INPAINTING_CONTROLNET: "alimama-creative/FLUX.1-dev-Controlnet-Inpainting-Beta",
    CANNY_CONTROLNET: "InstantX/FLUX.1-dev-Controlnet-Canny",
}
NO_GPU = (
    "The diptych generator needs an NVIDIA GPU and a torch with CUDA, and there are none here; let the simulator stand "
    f"in for it, or set {machine.DEVICE}=cpu, where one picture takes hours at full size."
)
ON_ZERO_GPU = (
    "The diptych generator needs a GPU of its own, and this Space is only lent one (ZeroGPU); let the simulator stand "
    "in for it, or choose other hardware."
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Each a folder or a Hub repository.

    Attributes:
        inpainting_controlnet: the ControlNet for the content.
        canny_controlnet: the ControlNet for the pose.
        loras: the folders "inpainting" and "canny" with a LoRA for each; None for the ControlNets as they are.
        base: a FLUX.1-dev pipeline.
    """

    inpainting_controlnet: str
    canny_controlnet: str
    loras: str | None = None
    base: str = FLUX_DEV

    @classmethod
    def from_environment(cls) -> Self:
        """The sources that the environment variables name.

        Raises:
            EngineError: a ControlNet is not named.
        """
        given = settings()
        inpainting, canny = given.inpainting_controlnet, given.canny_controlnet
        if inpainting is None or canny is None:
            raise EngineError(unset(INPAINTING_CONTROLNET if inpainting is None else CANNY_CONTROLNET))
        return cls(inpainting, canny, given.diptych_loras, given.diptych_base or FLUX_DEV)


def unset(variable: str) -> str:
    """The error sentence about a ControlNet that is not named."""
    return (
        f"{variable} is not set, and DipRefGC's own weights are not published; name a folder or a Hub repository, such "
        f"as {PUBLISHED[variable]}."
    )


def find_loras(sources: LoraSources, label: str) -> dict[ControlNetName, Path]:
    """Where the LoRA of each ControlNet lies; a Hub repository is downloaded.

    Args:
        sources: a folder or Hub repository with the folders "inpainting" and "canny" in it, or a safetensors file or a
            folder with one for each ControlNet by its name.
        label: what names the sources, for error sentences, such as an environment variable.

    Returns:
        A safetensors file for one of the ControlNets or for both.

    Raises:
        EngineError: the repository cannot be had.
        InputError: there is no such file, it is a pickle, or it is a link to another folder.
    """
    if isinstance(sources, Mapping):
        unknown = sorted(set(sources) - set(NAMES))
        if unknown:
            raise InputError(f"{label} names a ControlNet {unknown[0]!r}; the two are {' and '.join(NAMES)}.")
        return {name: _file(Path(source).expanduser(), label) for name, source in sources.items()}
    folder = Path(sources).expanduser()
    if not folder.is_dir():
        folder = hub.fetch(str(sources), label, LORA_FILES)
    found: dict[ControlNetName, Path] = {
        name: _file(folder / name, label, root=folder) for name in NAMES if (folder / name).is_dir()
    }
    if not found:
        raise InputError(
            f"{label} is {str(sources)!r}, and there is no folder {' or '.join(NAMES)} in it; name what has both."
        )
    return found


def obstacle() -> str:
    """Why the diptych generator cannot run here now, without downloads, in one sentence; empty where it can."""
    missing = missing_libraries() or missing_gpu()
    if missing:
        return missing
    try:
        sources = Sources.from_environment()
    except EngineError as error:
        return str(error)
    wanted: list[tuple[str, str, tuple[str, ...]]] = [
        (BASE, sources.base, hub.PIPELINE_FILES),
        (INPAINTING_CONTROLNET, sources.inpainting_controlnet, CONTROLNET_FILES),
        (CANNY_CONTROLNET, sources.canny_controlnet, CONTROLNET_FILES),
    ]
    if sources.loras is not None and Path(sources.loras).expanduser().is_dir():
        try:
            find_loras(sources.loras, LORAS)
        except RefGCError as error:
            return str(error)
    elif sources.loras is not None:
        wanted.append((LORAS, sources.loras, LORA_FILES))
    for variable, source, files in wanted:
        if hub.on_disk(source, files) is None:
            return (
                f"{variable} is {source!r}, which is not complete on this machine; `hf download {source}` fetches it."
            )
    return ""


def check_can_run() -> None:
    """Makes sure that the libraries and the GPU that the generator needs are here; imports no torch.

    Raises:
        EngineError: they are not; the sentence says what to do.
    """
    missing = missing_libraries() or (ON_ZERO_GPU if on_zero_gpu() else NO_GPU if machine.missing_cuda() else "")
    if missing:
        raise EngineError(missing)


def on_cpu() -> bool:
    """Whether the environment asks for the CPU, where the generator takes hours for a picture."""
    return settings().device == "cpu"


def missing_libraries(modules: Sequence[str] = machine.DIFFUSION_MODULES) -> str:
    """What to install for the diptych generator, as a sentence; empty where all `modules` are there."""
    absent = [module for module in modules if find_spec(module) is None]
    if not absent:
        return ""
    return f"The diptych generator needs {', '.join(absent)}: pip install '.[diffusion]' in the project's folder."


def missing_gpu() -> str:
    """That there is no GPU for it, as a sentence; empty where there is one, or it is to run on the CPU."""
    if on_zero_gpu():
        return ON_ZERO_GPU
    if settings().device == "cpu" or (find_gpus() and not machine.missing_cuda()):
        return ""
    return NO_GPU


def _file(source: Path, label: str, root: Path | None = None) -> Path:
    """The LoRA of a file, or of a folder; no link may lead out of `root`, by default the folder that holds the file."""
    candidates = [source] if source.suffix == ".safetensors" else [source / name for name in (LORA_FILE, PEFT_FILE)]
    for file in candidates:
        if file.is_file():
            folder = root or file.parent
            own_file(file.parent, PEFT_CONFIG_FILE, label)
            return own_file(folder, str(file.relative_to(folder)), label)
    pickles = only_pickles(source)
    if pickles:
        raise InputError(f"{label} is {str(source)!r}, where {pickles}; name a LoRA in a safetensors file.")
    raise InputError(f"{label}: there is no {' or '.join(map(repr, map(str, candidates)))}; name the file of a LoRA.")
