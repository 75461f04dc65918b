"""The manifest: one JSON line a pair or triplet, with files beside it that are named by their content.

A dataset is a folder:

    pairs.jsonl        a `Pair` a line: two views of one object, HRRI and HRGT
    triplets.jsonl     a `Triplet` a line: a pair by its id, and the LRGI that was made for it
    rejections.jsonl   a `Rejection` a line: what was left out, at which step, and why
    verdicts.jsonl     a `Verdict` a line: what people said of a row; a person's later one replaces the earlier
    corrections.jsonl  a `Correction` a line: a mask that a person mended; see `refgc.dataset.corrections`
    review.json        how many people a row needs; see `refgc.dataset.verdicts`
    files/ab/abcd….png pictures and masks, by the SHA-256 of their bytes

Rows never change once they are written. What people say stands in a file of its own, so that reviewing never rewrites
the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from refgc.errors import InputError, first_fault, quoted
from refgc.imaging.files import write_whole
from refgc.imaging.journal import append_line, line_of, whole_lines

VERSION = 1
PAIRS, TRIPLETS, REJECTIONS, VERDICTS = "pairs.jsonl", "triplets.jsonl", "rejections.jsonl", "verdicts.jsonl"

# Eleven of the paper's twelve are named in its Figure 2. The twelfth is not; clothing is ours.
Category: TypeAlias = Literal[
    "person",
    "animal",
    "vehicle",
    "food",
    "furniture_interior",
    "kitchen_cookware",
    "electronics_appliance",
    "tool_machinery",
    "nature_landscape",
    "scene_place",
    "clothing_accessory",
    "other",
]
CATEGORIES: tuple[Category, ...] = get_args(Category)
Split: TypeAlias = Literal["train", "validation", "test"]
Task: TypeAlias = Literal["compositing", "customisation", "diptych", "simulated"]
SourceKind: TypeAlias = Literal["video", "photos", "uco3d", "render"]


def _check_inside(path: str) -> str:
    """Refuses paths that lead out of the dataset's folder, since a manifest may come from somebody else."""
    if path.startswith("/") or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("it should be a path inside the dataset's folder, with forward slashes")
    return path


Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
# Of rows and objects; safe as a file name and in a web address.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,119}$")]
InsidePath = Annotated[str, AfterValidator(_check_inside)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Row(BaseModel):
    """Base of everything in a manifest: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredFile(Row):
    """A file of the dataset.

    Attributes:
        path: inside the dataset's folder.
        sha256: of its bytes.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """

    path: InsidePath
    sha256: Digest
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class Source(Row):
    """Where an object's pictures come from.

    Attributes:
        kind: what was read.
        name: of the collection, such as "uCO3D".
        licence: as the collection names it, such as "CC BY 4.0"; None where nobody said.
        address: where it can be had.
    """

    kind: SourceKind
    name: str
    licence: str | None = None
    address: str | None = None


class Score(Row):
    """A figure that somebody or something gave a view, a pair or an LRGI.

    Attributes:
        name: what was scored, such as "sharpness" or "same object".
        value: the higher the better, unless the name says otherwise.
        maker: who gave it: "refgc", or the name of a model.
    """

    name: str
    value: float
    maker: str


class ObjectView(Row):
    """One picture of an object: a crop of a frame or photo.

    Attributes:
        picture: RGB PNG.
        mask: grey PNG of the same size, 255 where the object is.
        mask_maker: what made the mask: "source", "grabcut", "sam3", "sam3-video", or "person".
        frame: the file it was taken from, as the source names it.
        seconds: time of the frame in its video; None for a photo.
        crop: left, top, right and bottom in the frame's pixels.
        enlargement: pixels of the picture for each pixel of the frame.
        object_share: pixels of the object over pixels of the picture.
        pose: camera to object, four rows of a 4x4 matrix, where the source has it.
        scores: sharpness and so on.
    """

    picture: StoredFile
    mask: StoredFile
    mask_maker: str
    frame: str
    seconds: Annotated[float, Field(ge=0.0)] | None = None
    crop: tuple[int, int, int, int]
    enlargement: Annotated[float, Field(gt=0.0)] = 1.0
    object_share: Share
    pose: tuple[tuple[float, float, float, float], ...] | None = None
    scores: tuple[Score, ...] = ()


class ViewChange(Row):
    """How two views of an object differ.

    Attributes:
        matches: matches of both views that agree with one motion.
        overlap: share of the HRGT's object that the HRRI shows as well.
        degrees: angle between the viewing directions: of the poses where the source has them, else None.
        shift: median motion of the matches after the best similarity, in parts of the object's side: 0 where the views
            differ in position, size and roll alone.
    """

    matches: Annotated[int, Field(ge=0)]
    overlap: Share
    degrees: float | None = None
    shift: Annotated[float, Field(ge=0.0)]


class Pair(Row):
    """Two views of one object.

    Attributes:
        version: of this schema.
        id: of the row; the same source and settings give the same.
        object_id: of the object; rows of one object never stand in different splits.
        object_name: in a word or two, for prompts.
        category: one of the paper's twelve.
        caption: a sentence on the object, for DipRefGC's left panel; None without a model that writes it.
        source: where the pictures come from.
        hrri: the reference.
        hrgt: the ground truth, another view.
        change: how they differ.
        filtered_by: name of the multimodal model that filtered and captioned; None with `--no-vlm`.
        scores: of the pair as a whole.
        split: given by `refgc dataset split`; None before.
    """

    version: Literal[1] = 1
    id: Id
    object_id: Id
    object_name: str
    category: Category
    caption: str | None = None
    source: Source
    hrri: ObjectView
    hrgt: ObjectView
    change: ViewChange
    filtered_by: str | None = None
    scores: tuple[Score, ...] = ()
    split: Split | None = None


class Generation(Row):
    """How an LRGI was made.

    Attributes:
        generator: "DipRefGC", "simulator", or the name of another generator.
        simulated: whether no generative model took part. Figures of simulated rows say less.
        task: how the generator was used: the paper's in-the-wild sets have compositing and customisation.
        weights: names and revisions of the weights; empty for the simulator.
        seed: of everything random.
        strengths: of the simulated artifacts, by name; empty for a generator.
        prompt: what the generator was asked.
    """

    generator: str
    simulated: bool
    task: Task
    weights: dict[str, str] = {}
    seed: int
    strengths: dict[str, float] = {}
    prompt: str | None = None


class Triplet(Row):
    """A pair with an LRGI of its HRGT's scene.

    Attributes:
        version: of this schema.
        id: of the row.
        pair: id of the pair.
        lrgi: RGB PNG, 256x256 in the paper.
        lrgi_panel: the LRGI before it was made smaller, 512x512 in the paper; None where there is none.
        made: how.
        scores: "outline overlap" with the HRGT's mask, and so on.
    """

    version: Literal[1] = 1
    id: Id
    pair: Id
    lrgi: StoredFile
    lrgi_panel: StoredFile | None = None
    made: Generation
    scores: tuple[Score, ...] = ()


class Rejection(Row):
    """What was left out.

    Attributes:
        step: such as "decode", "frames", "model", "masks", "pairs" or "pose".
        what: the video, the frame, or the id of a row.
        reason: one sentence.
    """

    step: str
    what: str
    reason: str


class Verdict(Row):
    """What one person said of one row.

    Attributes:
        row: id of a pair or triplet.
        rater: a name or number that the person chose.
        accepted: whether the row is good.
        reasons: why not; empty for an accepted row.
        time: when, in UTC as ISO 8601.
        seconds: how long the person looked.
    """

    row: Id
    rater: str
    accepted: bool
    reasons: tuple[str, ...] = ()
    time: str
    seconds: Annotated[float, Field(ge=0.0)]


AnyRow = TypeVar("AnyRow", bound=Row)


def read_rows(path: Path, kind: type[AnyRow], on_fault: Callable[[InputError], None] | None = None) -> Iterator[AnyRow]:
    """The rows of one file of a manifest; none where there is no file.

    Args:
        path: of the file.
        kind: of its rows.
        on_fault: told of each line that is no such row, which is then left out; None raises.

    Raises:
        InputError: a line is no row of that kind, or of a version that this program does not know.
    """
    return (row for _, row in placed_rows(path, kind, on_fault))


def placed_rows(
    path: Path, kind: type[AnyRow], on_fault: Callable[[InputError], None] | None = None
) -> Iterator[tuple[int, AnyRow]]:
    """The same, each with the number of bytes before its line, where `row_at` finds it again."""
    for number, start, value in whole_lines(path, on_fault):
        try:
            row = _checked(value, kind, number, path)
        except InputError as error:
            if on_fault is None:
                raise
            on_fault(error)
        else:
            yield start, row


def row_at(file: IO[bytes], start: int, kind: type[AnyRow]) -> AnyRow:
    """A row that `placed_rows` found in a file, which has not changed since."""
    file.seek(start)
    return kind.model_validate_json(file.readline())


def append_row(path: Path, row: Row) -> None:
    """Add a row; it is on the disk when this returns. See `append_line`."""
    append_line(path, row.model_dump(mode="json"))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Put rows in place of a whole file, or leave the file as it is. The rows may come from that file.

    Raises:
        InputError: the file cannot be written.
    """
    write_whole(path, (line_of(row.model_dump(mode="json")) for row in rows))


def _checked(value: dict[str, Any], kind: type[AnyRow], number: int, path: Path) -> AnyRow:
    if value.get("version", VERSION) != VERSION:
        raise InputError(
            f"Line {number} of {quoted(str(path))} has version {quoted(value['version'])} of the manifest, and this "
            f"program reads version {VERSION}; install a newer refgc."
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        field, fault = first_fault(error)
        where = f"Line {number} of {quoted(str(path))}"
        raise InputError(f"{where} cannot be used: {field or 'the row'}: {fault}.") from error
