"""What a visitor marked in a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from refgc.errors import InputError
from refgc.imaging.arrays import Size
from refgc.masks import Prompt

Share = Annotated[float, Field(ge=0, le=1)]


class Click(BaseModel):
    """A place on the object, or on what is not the object.

    `points` are x and y in shares of the picture's width and height.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["object", "background"]
    points: tuple[Share, Share]

    def pixel(self, size: Size) -> tuple[int, int]:
        """The pixel it lies in, of a picture of `size`."""
        (x, y), (width, height) = self.points, size
        return min(int(x * width), width - 1), min(int(y * height), height - 1)


class Box(BaseModel):
    """A box around the object; `points` are x and y of one corner and of the opposite one, in shares as well."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["box"]
    points: tuple[Share, Share, Share, Share]

    def pixels(self, size: Size) -> tuple[int, int, int, int]:
        """Its corners between the pixels of a picture of `size`."""
        (x0, y0, x1, y1), (width, height) = self.points, size
        return round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)

    def holds(self, click: Click) -> bool:
        """Whether a click lies in it."""
        (x, y), (x0, y0, x1, y1) = click.points, self.points
        return min(x0, x1) < x < max(x0, x1) and min(y0, y1) < y < max(y0, y1)


Mark = Click | Box
_MARK: TypeAdapter[Mark] = TypeAdapter(Annotated[Mark, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True)
class Marking:
    """One picture and how its object is marked.

    Attributes:
        source: the picture's file, as it was given.
        given: the file of a mask that came with it; what a visitor marks takes its place.
        marks: clicks and at most one box, in the order they were made.
        mask: the file of the mask that came of it; None while there is none.
    """

    source: Path
    given: Path | None = None
    marks: tuple[Mark, ...] = ()
    mask: Path | None = None

    def with_mark(self, mark: Mark) -> Marking:
        """One more mark; a new box takes the place of an earlier one and of clicks on the object beyond it."""
        kept = self.marks
        if isinstance(mark, Box):
            clicks = [earlier for earlier in self.marks if isinstance(earlier, Click)]
            kept = tuple(click for click in clicks if click.kind == "background" or mark.holds(click))
        return replace(self, marks=(*kept, mark))

    def without_last(self) -> Marking:
        """The last mark taken back."""
        return replace(self, marks=self.marks[:-1])

    def without_any(self) -> Marking:
        """Every mark taken back."""
        return replace(self, marks=())


def read_mark(kind: Any, points: Any) -> Mark:
    """A mark as the browser sent it.

    Raises:
        InputError: it is none.
    """
    try:
        return _MARK.validate_python({"kind": kind, "points": points})
    except ValidationError as error:
        raise InputError("That is neither a click nor a box in the picture; mark the object again.") from error


def prompt_of(marks: tuple[Mark, ...], size: Size) -> Prompt:
    """The marks in a picture of `size`; without any the most prominent object is meant.

    Raises:
        InputError: they contradict each other, or a box is too small.
    """
    clicks = [mark for mark in marks if isinstance(mark, Click)]
    boxes = [mark for mark in marks if isinstance(mark, Box)]
    return Prompt(
        size,
        box=boxes[0].pixels(size) if boxes else None,
        positive=tuple(click.pixel(size) for click in clicks if click.kind == "object"),
        negative=tuple(click.pixel(size) for click in clicks if click.kind == "background"),
    )
