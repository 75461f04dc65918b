"""The clickable examples: pairs of our own, one folder each with its pictures and `meta.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageOps
from pydantic import BaseModel

from refgc.imaging.image import open_image, to_pil

PAGE = Path(__file__).resolve().parent
# The build of the package copies the examples to the page's assets; the repository has a folder for them.
INSTALLED = PAGE / "assets" / "examples"
EXAMPLES_FOLDER = INSTALLED if INSTALLED.is_dir() else PAGE.parents[1] / "examples"
THUMBNAIL_SIDE = 320
INSET_SIDE = 120
# The most convincing first, what is out of reach last.
ORDER = (
    "paperback",
    "record_sleeve",
    "cushion",
    "camera",
    "oats_box",
    "shoe_box",
    "sauce_bottle",
    "mug",
    "tea_tin",
    "vase",
)


class ExampleMeta(BaseModel):
    """`meta.json` of an example's folder."""

    title: str
    description: str
    object_name: str = "object"
    simulated: bool
    licence: str


@dataclass(frozen=True, slots=True)
class Example:
    """One pair; `name` is its folder's name."""

    name: str
    reference: Path
    generated: Path
    meta: ExampleMeta


def find_examples(folder: Path) -> list[Example]:
    """Every example in `folder`, the most convincing first; empty where the folder is missing.

    A folder without all of hrri.*, lrgi.* and meta.json is no example (yet).
    """
    examples = [
        Example(
            name=meta.parent.name,
            reference=reference,
            generated=generated,
            meta=ExampleMeta.model_validate_json(meta.read_bytes()),
        )
        for meta in folder.glob("*/meta.json")
        for reference in meta.parent.glob("hrri.*")
        for generated in meta.parent.glob("lrgi.*")
    ]
    return sorted(examples, key=lambda example: _place(example.name))


def is_ours(file: Path) -> bool:
    """Whether it is one of the examples' files."""
    return file.is_relative_to(EXAMPLES_FOLDER)


def _place(name: str) -> tuple[int, str]:
    return ORDER.index(name) if name in ORDER else len(ORDER), name


def thumbnail(example: Example) -> PIL.Image.Image:
    """The generated picture with the reference set into its corner, 320 x 320 pixels."""
    return with_inset(example.generated, example.reference)


def with_inset(picture: Path, inset: Path) -> PIL.Image.Image:
    """One picture with another set into its corner, 320 x 320 pixels."""
    large = to_pil(open_image(picture, name="picture"))
    small = to_pil(open_image(inset, name="reference"))
    both, framed = _square(large, THUMBNAIL_SIDE), _square(small, INSET_SIDE)
    corner = THUMBNAIL_SIDE - INSET_SIDE - 10
    both.paste(PIL.ImageOps.expand(framed, border=4, fill="white"), (corner - 4, 10 - 4))
    return both


def _square(picture: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """The middle of a picture as a square. The page's start waits for it, so a large one is first reduced quickly."""
    smaller = picture.reduce(max(1, min(picture.size) // (3 * side)))
    return PIL.ImageOps.fit(smaller, (side, side), PIL.Image.Resampling.LANCZOS)
