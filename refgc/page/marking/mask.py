"""A picture with its marks turned into a mask, ready to be shown."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import PIL.Image

from refgc.diptych.conditions import open_object_mask
from refgc.diptych.objects import NAMELESS, find_in_reference, find_in_scene
from refgc.errors import InputError
from refgc.imaging.arrays import resized, shrink
from refgc.imaging.draw import overlay_mask
from refgc.imaging.image import MARKED, Image, Mask, open_image, to_pil
from refgc.imaging.matting import alpha_bytes
from refgc.imaging.warp import fitted
from refgc.masks import choose_segmenter
from refgc.page.marking.marks import Marking, prompt_of
from refgc.page.refine.pictures import write_picture

# Enough for masks that are made to build small pictures from, and quick to mark.
LONGEST_SIDE = 1024
# Each click needs its picture again, and decoding a phone's takes a second.
REMEMBERED = 8

Origin = Literal["marks", "given", "transparency", "found", "nothing"]
# Where a mask may come of that nobody gave.
UNASKED: Collection[Origin] = ("transparency", "found")


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """A marking and what came of it.

    Attributes:
        marking: what was marked.
        picture: as it was read, at most 1024 pixels long.
        mask: of the same size; None where there is none.
        origin: what the mask came of.
    """

    marking: Marking
    picture: Image
    mask: Mask | None
    origin: Origin

    def write(self, folder: Path) -> tuple[Path, Path | None]:
        """Writes the picture with its mask over it, and the mask if there is one, into `folder`; made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.mask is None:
            return write_picture(to_pil(self.picture), folder / "picture.webp", LONGEST_SIDE), None
        mask = folder / "mask.png"
        PIL.Image.fromarray(alpha_bytes(self.mask.values)).save(mask)
        shown = to_pil(overlay_mask(self.picture, self.mask))
        return write_picture(shown, folder / "picture.webp", LONGEST_SIDE), mask


def apply_marks(
    marking: Marking, name: str, reference: Marking | None = None, *, unasked: Collection[Origin] = UNASKED
) -> Marked:
    """Finds the mask that the marks make.

    Without marks it is the mask that came with the picture; else, as far as `unasked` has them, the picture's own
    transparency, or that of the reference's object, where it can be found, or of the most prominent one.

    Args:
        marking: of a file of any kind that intake reads.
        name: what the picture is called in an error sentence, such as "scene".
        reference: how the object is marked in another picture of it, if it is.
        unasked: what to try where there are neither marks nor a mask; "found" takes seconds.

    Raises:
        InputError: the picture or the mask that came with it cannot be used, or the marks find nothing.
        EngineError: the segmenter failed.
    """
    picture = _read(marking.source, name)
    mask, origin = _mask(marking, picture, name, reference, unasked)
    return Marked(marking, picture, mask, origin)


def _mask(
    marking: Marking, picture: Image, name: str, reference: Marking | None, unasked: Collection[Origin]
) -> tuple[Mask | None, Origin]:
    if marking.marks:
        return choose_segmenter().segment(picture, prompt_of(marking.marks, picture.size)), "marks"
    if marking.given is not None:
        return open_object_mask(marking.given, size=picture.size, name=f"{name} mask"), "given"
    if "transparency" in unasked and picture.alpha is not None and picture.alpha.values.min() < MARKED:
        return picture.alpha, "transparency"
    if "found" not in unasked:
        return None, "nothing"
    try:
        return _find(picture, reference), "found"
    except InputError:
        return None, "nothing"


def _find(picture: Image, reference: Marking | None) -> Mask:
    if reference is None or reference.mask is None:
        return find_in_reference(picture, NAMELESS)
    shown = _read(reference.source, "reference")
    mask = open_object_mask(reference.mask, size=shown.size, name="reference mask")
    return find_in_scene(picture, shown, mask, NAMELESS)


@lru_cache(REMEMBERED)
def _read(source: Path, name: str) -> Image:
    picture = open_image(source, name=name)
    size = fitted(picture.size, LONGEST_SIDE)
    if size == picture.size:
        return picture
    alpha = None if picture.alpha is None else Mask(shrink(picture.alpha.values, size))
    return Image(resized(picture.pixels, size), alpha)
