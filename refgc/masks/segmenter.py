"""The interface behind which every segmenter stands, and the choice among them."""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from refgc.errors import EngineError
from refgc.imaging.image import Image, Mask
from refgc.masks.prompt import Prompt

SegmenterName = Literal["grabcut", "sam"]


class Segmenter(Protocol):
    """Finds the object that a prompt means."""

    @property
    def name(self) -> SegmenterName:
        """Which one it is."""
        ...

    @property
    def reads_text(self) -> bool:
        """Whether it finds an object by words."""
        ...

    def segment(self, image: Image, prompt: Prompt) -> Mask:
        """The mask of the object, of the picture's size, soft at its edge.

        The same picture and prompt give the same mask.

        Raises:
            InputError: the marks are of another picture, nothing was found, or the prompt has words and this segmenter
                cannot read.
            EngineError: it failed while it ran.
        """
        ...


def choose_segmenter(name: Literal["auto", "grabcut", "sam"] = "auto") -> Segmenter:
    """The segmenter of that name; "auto" takes SAM where its weights are on this machine, else the weight-free one.

    Raises:
        EngineError: there is no such segmenter, or it cannot run here.
    """
    from refgc.masks import weights

    if name not in ("auto", "grabcut", "sam"):
        raise EngineError(f"There is no segmenter called {name!r}; use auto, grabcut or sam.")
    if name == "sam" or (name == "auto" and weights.source() is not None):
        obstacle = weights.obstacle()
        if not obstacle:
            from refgc.masks.sam import shared_segmenter

            return shared_segmenter()
        if name == "sam":
            raise EngineError(obstacle)
        logging.getLogger(__name__).warning("%s Until then masks are found without weights.", obstacle)
    from refgc.masks.grabcut import GrabCutSegmenter

    return GrabCutSegmenter()
