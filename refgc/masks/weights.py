"""SAM's weights on this machine: found without importing torch, and never downloaded."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from refgc import hub
from refgc.errors import EngineError
from refgc.settings import settings
from refgc.weight_files import only_pickles

VARIABLE = "REFGC_SAM"
MODULES = ("torch", "transformers", "safetensors", "huggingface_hub")
PUBLISHED = "facebook/sam3 or facebook/sam2.1-hiera-large"
# Architectures, by the names of transformers, that take clicks and boxes, those that take words, and those that follow
# what words name along a video.
TAKES_MARKS = frozenset({"sam2", "sam2_video", "sam3_tracker", "sam3_tracker_video", "sam3_video"})
TAKES_WORDS = frozenset({"sam3", "sam3_video"})
FOLLOWS_WORDS = frozenset({"sam3_video"})
CONFIG = "config.json"


def source() -> str | None:
    """The folder or Hub repository that `REFGC_SAM` names; None where it is not set."""
    return settings().sam


def obstacle() -> str:
    """Why SAM cannot run on this machine, in one sentence; empty where it can."""
    named = source()
    if named is None:
        return (
            f"{VARIABLE} is not set; set it to a folder with the weights of SAM 2 or SAM 3, or to a Hub repository "
            f"that was downloaded, such as {PUBLISHED}."
        )
    absent = [module for module in MODULES if find_spec(module) is None]
    if absent:
        return f"SAM needs {', '.join(absent)}: pip install '.[diffusion]' in the project's folder."
    try:
        find(named)
    except EngineError as error:
        return str(error)
    return ""


def find(named: str) -> Path:
    """The folder with the weights of a folder or Hub repository.

    Raises:
        EngineError: they are not on this machine, or are no SAM 2 or SAM 3.
    """
    folder = hub.on_disk(named, (CONFIG,))
    pickles = folder and only_pickles(folder)
    if pickles:
        raise EngineError(f"{VARIABLE} is {named!r}, where {pickles}; name one that has safetensors files.")
    if folder is None or not any(folder.glob("*.safetensors")):
        if Path(named).expanduser().is_dir():
            missing = CONFIG if folder is None else "*.safetensors"
            raise EngineError(
                f"{VARIABLE} is {named!r}, and there is no {missing} in it; name a folder with SAM's weights."
            )
        raise EngineError(
            f"{VARIABLE} is {named!r}, whose weights are not on this machine; `hf download {named}` fetches them, "
            f"where they are gated once their licence is accepted at https://huggingface.co/{named}."
        )
    kind = architecture(folder)
    if kind not in TAKES_MARKS | TAKES_WORDS:
        raise EngineError(f"{VARIABLE} is {named!r}, which holds a {kind} and no SAM 2 or SAM 3; name {PUBLISHED}.")
    return folder


def architecture(folder: Path) -> str:
    """The name that transformers gives to the model in a folder."""
    try:
        kind = json.loads((folder / CONFIG).read_text()).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = None
    return str(kind or "model of no known kind")


def reads_no_words(named: str) -> EngineError:
    """The error where an object is to be found by its name, and the weights do not read words."""
    return EngineError(
        f"{VARIABLE} is {named!r}, which finds no object by its name; name a SAM 3, such as facebook/sam3."
    )
