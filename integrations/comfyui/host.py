"""ComfyUI as its nodes see it: progress, the button that stops a run, models in memory, and temporary pictures.

ComfyUI has loaded its own modules before it imports this pack. Outside of it none of them is there, and everything here
does nothing.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

from PIL.Image import Image as Picture

# Steps of the progress bar for each picture.
STEPS = 100


def host_module(name: str) -> Any:
    """A module of ComfyUI, such as "comfy.utils"; None outside of it."""
    return sys.modules.get(name)


class Progress:
    """The progress bar of one node over all pictures of a batch.

    Raises:
        InterruptProcessingException: ComfyUI's own, from `check_stopped` and from the functions of `of`, once somebody
            stops the run.
    """

    def __init__(self, pictures: int, node: str | None) -> None:
        """Shows the empty bar.

        Args:
            pictures: how many there are.
            node: the number of the node in the workflow, which its text is shown under; None shows no text.
        """
        utils = host_module("comfy.utils")
        self._bar = None if utils is None else utils.ProgressBar(STEPS * pictures)
        self._pictures = pictures
        self._node = node
        self._shown = ""

    def of(self, picture: int) -> Any:
        """What an engine calls with stage and fraction while it works on a picture, counted from 0."""

        def advance(stage: str, fraction: float) -> None:
            check_stopped()
            if self._bar is not None:
                self._bar.update_absolute(round(STEPS * (picture + fraction)))
            self.say(stage if self._pictures == 1 else f"{picture + 1} of {self._pictures}: {stage}")

        return advance

    def end(self, picture: int) -> None:
        """Fills the bar up to the end of a picture, since not every engine says when it ends."""
        if self._bar is not None:
            self._bar.update_absolute(STEPS * (picture + 1))

    def say(self, text: str) -> None:
        """Shows a text under the node."""
        server = host_module("server")
        instance: Any = None if server is None else getattr(server.PromptServer, "instance", None)
        if self._node is None or text == self._shown or not hasattr(instance, "send_progress_text"):
            return
        self._shown = text
        instance.send_progress_text(text, self._node)


def check_stopped() -> None:
    """Ends the run where somebody has stopped it, by ComfyUI's own exception."""
    management = host_module("comfy.model_management")
    if management is not None:
        management.throw_exception_if_processing_interrupted()


def free_models() -> None:
    """Takes ComfyUI's models out of the GPU's memory; it loads them again when it needs them."""
    management = host_module("comfy.model_management")
    if management is not None:
        management.unload_all_models()
        management.soft_empty_cache()


def show(pictures: list[Picture]) -> dict[str, list[dict[str, str]]]:
    """Writes pictures into ComfyUI's folder for temporary files.

    Returns:
        What a node gives back as "ui", so that its pictures are shown in it.
    """
    folders = host_module("folder_paths")
    if folders is None:
        return {"images": []}
    folder = Path(folders.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"refgc_{uuid.uuid4().hex}.png" for _ in pictures]
    for name, picture in zip(names, pictures, strict=True):
        picture.save(folder / name, compress_level=1)
    return {"images": [{"filename": name, "subfolder": "", "type": "temp"} for name in names]}
