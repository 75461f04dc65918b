"""The interface of every segmenter, and the choice among them."""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from refgc.errors import EngineError
from refgc.imaging.image import Image, Mask
from refgc.masks.prompt import Prompt

SegmenterName = Literal["grabcut", "sam"]


class Segmenter(Protocol):
    """Finds the object that a prompt marks."""

    @property
    def name(self) -> SegmenterName:
        """Its name among the segmenters."""
        ...

    @property
    def reads_text(self) -> bool:
        """Whether it understands a prompt's words."""
        ...

    def segment(self, image: Image, prompt: Prompt) -> Mask:
        """The object's mask, of the picture's size, in [0, 1] and soft at its edge; deterministic.

        Raises:
            InputError: the marks are of a picture of another size, nothing was found, or the prompt has words that this
                segmenter does not understand.
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
