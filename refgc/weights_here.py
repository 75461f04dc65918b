"""Which weights the environment names, whether they are on this machine, and how to get those that are not."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field

from refgc.errors import RefGCError
from refgc.model import hub

ENGINE, DIPTYCH_GENERATOR, SAM = "diffusion", "diptych generator", "SAM"


class Weights(BaseModel):
    """Weights that an engine, the diptych generator or SAM reads."""

    variable: str = Field(description="the environment variable that names them")
    needed_for: str = Field(description="diffusion (the engine), diptych generator (of the preview) or SAM (for masks)")
    optional: bool = Field(description="whether what they are for runs without them as well")
    source: str | None = Field(description="a folder or a Hugging Face Hub repository; null when none is named")
    present: bool = Field(description="whether they are on this machine")
    advice: str = Field(description="how to get them; empty when present, or when optional and not named")


def engine_weights() -> list[Weights]:
    """Base and adapter of the diffusion engine."""
    adapter = os.environ.get(hub.ADAPTER) or None
    if adapter is None:
        without = (
            f"none are published yet; set {hub.ADAPTER} to the folder or Hub repository of trained ones. Without "
            "them --engine diffusion takes the stock FLUX.1-Kontext, and auto does not choose it."
        )
        return [_base(hub.BASE, hub.FLUX_KONTEXT, ENGINE), _absent(hub.ADAPTER, ENGINE, without)]
    return [
        _base(hub.BASE, hub.FLUX_KONTEXT, ENGINE),
        _named(hub.ADAPTER, ENGINE, adapter, hub.ADAPTER_FILES, _fetching(adapter)),
    ]


def diptych_weights() -> list[Weights]:
    """Base, ControlNets and LoRA of the diptych generator."""
    from refgc.diprefgc import sources

    found = [_base(sources.BASE, sources.FLUX_DEV, DIPTYCH_GENERATOR)]
    for variable in sources.PUBLISHED:
        source = os.environ.get(variable) or None
        if source is None:
            found.append(_absent(variable, DIPTYCH_GENERATOR, sources.unset(variable)))
        else:
            found.append(_named(variable, DIPTYCH_GENERATOR, source, sources.CONTROLNET_FILES, _fetching(source)))
    loras = os.environ.get(sources.LORAS) or None
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
    """SAM's, which finds masks by clicks, boxes or words."""
    from refgc.segmentation import weights as sam

    named = sam.source()
    if named is None:
        return _absent(sam.VARIABLE, SAM, sam.obstacle())
    return _checked(sam.VARIABLE, SAM, named, lambda: sam.find(named))


def _base(variable: str, published: str, needed_for: str) -> Weights:
    source = os.environ.get(variable) or published
    advice = (
        f"open https://huggingface.co/{source}, log in and agree to its terms; {hub.LOGIN}; then "
        f"`hf download {source} --include '*.json' --include '*/*'` fetches them (34 GB)."
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
    """Weights with a check of their own, which tells what is wrong by what it raises."""
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
