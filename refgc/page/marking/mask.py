"""What a visitor marks in a picture, and the mask of the object that the marks make."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Annotated, Any, Literal, TypeAlias

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from refgc.diptych.conditions import checked_object_mask
from refgc.diptych.objects import NAMELESS, find_in_reference, find_in_scene
from refgc.errors import InputError
from refgc.imaging.arrays import Size, resized, shrink
from refgc.imaging.draw import overlay_mask
from refgc.imaging.image import MARKED, Image, Mask, to_pil
from refgc.imaging.matting import alpha_bytes
from refgc.imaging.warp import fitted
from refgc.masks import Prompt, choose_segmenter
from refgc.page.pictures import write_picture
from refgc.page.service.decoding import StoppedError
from refgc.page.service.queue import TooLongError
from refgc.page.service.runs import Service

# Large enough for the masks of a preview, whose panels are smaller, and quick to segment; chosen by hand, not fitted.
LONGEST_SIDE = 1024
# Shrunken pictures, of at most 4 MB each.
CACHED_PICTURES = 8
# More clicks than anybody makes.
MOST_MARKS = 200
TOO_LONG = "The {name} takes too long to mark here; make it smaller."

Fraction = Annotated[float, Field(ge=0, le=1)]
# Where a mask comes from. "detection" is the object that is found without a word of the visitor.
MaskSource = Literal["marks", "file", "transparency", "detection", "none"]
# The sources of masks that need no mark and no mask file.
AUTOMATIC: Collection[MaskSource] = ("transparency", "detection")


class Click(BaseModel):
    """A point on the object, or on the background.

    `points` are x and y as fractions of the picture's width and height.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["object", "background"]
    points: tuple[Fraction, Fraction]

    def pixel(self, size: Size) -> tuple[int, int]:
        """The pixel it lies in, of a picture of `size`."""
        (x, y), (width, height) = self.points, size
        return min(int(x * width), width - 1), min(int(y * height), height - 1)


class Box(BaseModel):
    """A box around the object; `points` are x and y of one corner and of the opposite one, as fractions."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["box"]
    points: tuple[Fraction, Fraction, Fraction, Fraction]

    def pixels(self, size: Size) -> tuple[int, int, int, int]:
        """Its corners between the pixels of a picture of `size`."""
        (x0, y0, x1, y1), (width, height) = self.points, size
        return round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)


Mark: TypeAlias = Click | Box
_MARKS: TypeAdapter[tuple[Mark, ...]] = TypeAdapter(
    Annotated[tuple[Annotated[Mark, Field(discriminator="kind")], ...], Field(max_length=MOST_MARKS)]
)


def read_marks(sent: Any) -> tuple[Mark, ...]:
    """The marks that a browser sent: clicks and at most one box, in the order they were made.

    Raises:
        InputError: something else was sent.
    """
    try:
        marks = _MARKS.validate_python(sent)
    except ValidationError as error:
        raise InputError("That is neither a click nor a box in the picture; mark the object again.") from error
    if sum(isinstance(mark, Box) for mark in marks) > 1:
        raise InputError("There are two boxes; clear the marks and draw one box around the object.")
    return marks


def prompt_of(marks: tuple[Mark, ...], size: Size) -> Prompt:
    """The marks as a segmenter's prompt, in pixels of a picture of `size`.

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


@dataclass(frozen=True, slots=True)
class Marking:
    """One picture and how its object is marked.

    Attributes:
        source: the picture's file, as it was uploaded.
        mask_file: a mask that was uploaded or comes with an example; marks take its place.
        marks: what the visitor marked.
        mask: the file of the mask that these make, at most 1024 pixels long; None where there is none, or none yet.
    """

    source: Path
    mask_file: Path | None = None
    marks: tuple[Mark, ...] = ()
    mask: Path | None = None

    @property
    def chosen_mask(self) -> Path | None:
        """The mask that the visitor chose, by marks or as a file; None where the visitor chose none."""
        return self.mask if self.marks else self.mask_file


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedPicture:
    """A picture with the mask of its object.

    Attributes:
        marking: what the mask was made from; its `mask` is not written yet.
        image: the picture, at most 1024 pixels long.
        mask: of the same size; None where there is none.
        mask_source: where the mask comes from.
    """

    marking: Marking
    image: Image
    mask: Mask | None
    mask_source: MaskSource

    def write(self, folder: Path) -> tuple[Path, Path | None]:
        """Write the picture with its mask laid over it, and the mask, into `folder`, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        picture = self.image if self.mask is None else overlay_mask(self.image, self.mask)
        return write_picture(to_pil(picture), folder / "picture.webp", LONGEST_SIDE), self.write_mask(folder)

    def write_mask(self, folder: Path) -> Path | None:
        """Write the mask into `folder`, which is made if missing; None where there is none."""
        if self.mask is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "mask.png"
        PIL.Image.fromarray(alpha_bytes(self.mask.values)).save(path)
        return path


class ObjectSegmenter:
    """Makes masks from markings. The last pictures are kept, shrunken: each click needs its picture again."""

    def __init__(self, service: Service) -> None:
        """Args: `service` opens the visitors' files and limits their marking."""
        self._service = service
        self._lock = Lock()
        self._pictures: OrderedDict[Path, Image] = OrderedDict()

    def segment(
        self,
        marking: Marking,
        name: str,
        *,
        visit: str | None = None,
        reference: Marking | None = None,
        automatic: Collection[MaskSource] = AUTOMATIC,
    ) -> SegmentedPicture:
        """The picture with the mask that its marks make.

        Without marks it is the mask file. Without that it is the picture's own transparency, or the object of the
        reference where it is found in the picture, or the most prominent object, as far as `automatic` allows.

        Args:
            marking: the file may be of any kind that can be decoded.
            name: what the picture is called in an error sentence, such as "scene".
            visit: the session whose limits hold; None for the page's own pictures, without limits.
            reference: how the object is marked in another picture of it.
            automatic: the sources to try where there is neither a mark nor a mask file; "detection" takes seconds.

        Raises:
            InputError: the picture or the mask file cannot be used, or the marks find nothing.
            BusyError: the visit has reached its limits.
            EngineError: the segmenter failed.
            TooLongError: the time for it is over.
        """
        with nullcontext(Event()) if visit is None else self._service.marking(visit) as stop:
            try:
                image = self._picture(marking.source, name, stop)
                mask, mask_source = self._mask(marking, image, name, reference, automatic, stop)
            except StoppedError as error:
                raise TooLongError(TOO_LONG.format(name=name)) from error
        return SegmentedPicture(marking, image, mask, mask_source)

    def _mask(
        self,
        marking: Marking,
        image: Image,
        name: str,
        reference: Marking | None,
        automatic: Collection[MaskSource],
        stop: Event,
    ) -> tuple[Mask | None, MaskSource]:
        if marking.marks:
            return choose_segmenter().segment(image, prompt_of(marking.marks, image.size)), "marks"
        if marking.mask_file is not None:
            return self._object_mask(marking.mask_file, image.size, f"{name} mask", stop), "file"
        if "transparency" in automatic and image.alpha is not None and image.alpha.values.min() < MARKED:
            return image.alpha, "transparency"
        if "detection" in automatic:
            try:
                return self._detect(image, reference, stop), "detection"
            except InputError:
                pass
        return None, "none"

    def _detect(self, image: Image, reference: Marking | None, stop: Event) -> Mask:
        if reference is None or reference.mask is None:
            return find_in_reference(image, NAMELESS)
        shown = self._picture(reference.source, "reference", stop)
        mask = self._object_mask(reference.mask, shown.size, "reference mask", stop)
        return find_in_scene(image, shown, mask, NAMELESS)

    def _object_mask(self, path: Path, size: Size, name: str, stop: Event) -> Mask:
        return checked_object_mask(self._service.decoder.mask(path, size=size, name=name, stop=stop), name)

    def _picture(self, source: Path, name: str, stop: Event) -> Image:
        with self._lock:
            if source in self._pictures:
                self._pictures.move_to_end(source)
                return self._pictures[source]
        image = shrunken(self._service.decoder.image(source, name=name, stop=stop))
        with self._lock:
            self._pictures[source] = image
            while len(self._pictures) > CACHED_PICTURES:
                self._pictures.popitem(last=False)
        return image


def shrunken(image: Image) -> Image:
    """The same picture, at most 1024 pixels long."""
    size = fitted(image.size, LONGEST_SIDE)
    if size == image.size:
        return image
    alpha = None if image.alpha is None else Mask(shrink(image.alpha.values, size))
    return Image(resized(image.pixels, size), alpha)
