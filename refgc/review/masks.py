"""Outlines of masks as paths, which the page draws sharp at every size; and masks that are mended by clicks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal, TypedDict

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from refgc.dataset.manifest import ObjectView
from refgc.dataset.store import load_image, load_mask
from refgc.errors import InputError
from refgc.imaging.arrays import Size
from refgc.imaging.image import MARKED, Mask
from refgc.masks import Prompt, choose_segmenter

# Largest distance in pixels of the mask between its edge and the path. Chosen by hand: it is not seen.
TOLERANCE = 0.7
# The segmenter keeps a core busy for a second or two; one at a time leaves the others to the pictures.
_SEGMENTING = Lock()

KINDS = ("object", "background")
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Outline(TypedDict):
    """The edge of a mask.

    Attributes:
        path: of an SVG, in pixels of the mask, to be filled by the even-odd rule.
        size: (width, height) of the mask in pixels.
        box: left, top, right and bottom of the object in pixels.
    """

    path: str
    size: Size
    box: tuple[int, int, int, int]


class Click(BaseModel):
    """A point on the object or on the background; x and y as fractions of the picture's width and height."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["object", "background"]
    x: Fraction
    y: Fraction


def outline_of(mask: Mask) -> Outline:
    """The edge of a mask that marks something; where it is soft, its middle."""
    marked = (mask.values >= MARKED).astype(np.uint8)
    contours, _ = cv2.findContours(marked, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    lines = [cv2.approxPolyDP(contour, TOLERANCE, closed=True).reshape(-1, 2).tolist() for contour in contours]
    left, top, width, height = cv2.boundingRect(marked)
    path = "".join("M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in line) + "Z" for line in lines)
    return {"path": path, "size": mask.size, "box": (left, top, left + width, top + height)}


def mended(root: Path, view: ObjectView, clicks: tuple[Click, ...], *, anew: bool) -> Mask:
    """A mask by clicks, from the weight-free segmenter.

    The last ones are remembered, so that what was shown is kept without being made again.

    Args:
        root: the dataset's folder.
        view: whose object is marked.
        clicks: at least one.
        anew: whether the mask that is there is left aside; else the true edge is looked for near its edge and the
            clicks.

    Raises:
        InputError: the picture or its mask is missing or damaged, or the clicks find nothing or contradict each other.
    """
    if not clicks:
        raise InputError("Nothing is marked; click the object, or what is wrongly taken for it.")
    with _SEGMENTING:
        return _mended(root, view, clicks, anew)


@lru_cache(maxsize=8)
def _mended(root: Path, view: ObjectView, clicks: tuple[Click, ...], anew: bool) -> Mask:
    image = load_image(root, view.picture)
    width, height = image.size
    points = {kind: tuple((int(c.x * width), int(c.y * height)) for c in clicks if c.kind == kind) for kind in KINDS}
    prompt = Prompt(
        image.size,
        positive=points["object"],
        negative=points["background"],
        alpha=None if anew else load_mask(root, view.mask),
    )
    return choose_segmenter("grabcut").segment(image, prompt)
