"""The pairs of a batch: read from a CSV or JSONL list, or found in a folder."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from refgc.errors import InputError, quoted
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.imaging.files import MEGABYTE, real_path
from refgc.imaging.profiles import ProfileName
from refgc.request import MAX_REFERENCES, check_reference_count

# What further references of a pair, and their masks, are called.
FURTHER = tuple((f"reference_{number}", f"reference_mask_{number}") for number in range(2, MAX_REFERENCES + 1))
# What a picture's file may be called, with its role in the pair.
ROLES = {
    "reference": "reference",
    "hrri": "reference",
    "generated": "generated",
    "lrgi": "generated",
    "reference_mask": "reference_mask",
    "hrri_mask": "reference_mask",
    "generated_mask": "generated_mask",
    "lrgi_mask": "generated_mask",
    **{
        role.replace("reference", called): role
        for roles in FURTHER
        for role in roles
        for called in ("reference", "hrri")
    },
}
FLAT_NAME = re.compile(rf"(?P<name>.+?)_(?P<role>{'|'.join(ROLES)})", re.IGNORECASE)
# JSON may spell one half of a character that takes two; no text and no UTF-8 file name can hold it.
SURROGATE = re.compile("[\ud800-\udfff]")


# A list of so many pairs takes days. The limits keep a wrong file, such as an archive, from filling the memory.
MAX_LIST_BYTES = 50 * MEGABYTE
MAX_PAIRS = 20_000
MAX_LINE = 20_000


def _check_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("it should be a path without a NUL character")
    return path


def _check_no_switch(value: Any) -> Any:
    """Refuses true and false, which pydantic would take for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("it should be a number")
    return value


PicturePath = Annotated[Path, AfterValidator(_check_path)]
WholeNumber = Annotated[int, BeforeValidator(_check_no_switch)]
Number = Annotated[float, BeforeValidator(_check_no_switch)]


class Pair(BaseModel):
    """One line of a list: a picture to refine with its reference; what is None is taken from the command's options.

    Attributes:
        reference: the HRRI.
        generated: the LRGI.
        output: the name of the result in the batch's output folder; derived from `generated` when None.
        reference_mask: the object in the reference.
        generated_mask: the object in the generated picture.
        reference_2: another photo of the same object, such as its back; so are `reference_3` and `reference_4`.
        reference_mask_2: the object in that photo; so with the other two.
        scale: output size over generated size.
        object: the object in words.
        seed: seed of everything random.
        strength: how much of the reference to bring in.
        surroundings: how what lies around the object is enlarged.
        profile: the colour space of the result's file.
        quality: of a JPEG or WebP.
        bits: of each channel of the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: PicturePath
    generated: PicturePath
    output: PicturePath | None = None
    reference_mask: PicturePath | None = None
    generated_mask: PicturePath | None = None
    reference_2: PicturePath | None = None
    reference_3: PicturePath | None = None
    reference_4: PicturePath | None = None
    reference_mask_2: PicturePath | None = None
    reference_mask_3: PicturePath | None = None
    reference_mask_4: PicturePath | None = None
    scale: WholeNumber | None = None
    object: str | None = None
    seed: WholeNumber | None = None
    strength: Number | None = None
    surroundings: str | None = None
    profile: ProfileName | None = None
    quality: WholeNumber | None = None
    bits: WholeNumber | None = None

    @classmethod
    def of(
        cls, references: list[Path], generated: Path, reference_masks: list[Path], generated_mask: Path | None
    ) -> Pair:
        """The pair of one picture.

        Args:
            references: photos of the object, one to `MAX_REFERENCES`.
            generated: the LRGI.
            reference_masks: none, one for the first reference, or one for each.
            generated_mask: the object in the generated picture.

        Raises:
            InputError: there are too many references, or the masks are too few or too many.
        """
        check_reference_count(len(references), len(reference_masks))
        roles = (("reference", "reference_mask"), *FURTHER)
        photos = dict(zip((role for role, _ in roles), references, strict=False))
        masks = dict(zip((role for _, role in roles), reference_masks, strict=False))
        return cls.model_validate({"generated": generated, "generated_mask": generated_mask, **photos, **masks})

    @field_validator("output")
    @classmethod
    def _check_output(cls, output: Path | None) -> Path | None:
        if output is not None and output.name in ("", ".."):
            raise ValueError("it should be the name of a file")
        return output

    @field_validator(*(mask for _, mask in FURTHER))
    @classmethod
    def _check_further_mask(cls, mask: Path | None, info: ValidationInfo) -> Path | None:
        reference = str(info.field_name).replace("_mask", "")
        if mask is not None and info.data.get(reference) is None:
            raise ValueError(f"it should have its {reference} beside it")
        return mask

    @property
    def references(self) -> list[tuple[Path, Path | None]]:
        """The photos of the object with their masks, the first one first."""
        further = ((getattr(self, reference), getattr(self, mask)) for reference, mask in FURTHER)
        return [(self.reference, self.reference_mask), *(one for one in further if one[0] is not None)]

    @property
    def inputs(self) -> list[Path]:
        """Every file the result is made from."""
        photos, masks = zip(*self.references, strict=True)
        given = (*photos, self.generated, *masks, self.generated_mask)
        return [path for path in given if path is not None]

    @property
    def output_name(self) -> Path:
        """`output`, or else a PNG named after the pair.

        NAME_generated.jpg gives NAME.png, NAME/generated.jpg gives NAME.png too, and any other NAME.jpg NAME.png.
        """
        if self.output is not None:
            return self.output
        stem = self.generated.stem
        if stem.lower() in ROLES:
            return Path(f"{self.generated.absolute().parent.name}.png")
        flat = FLAT_NAME.fullmatch(stem)
        return Path(f"{flat['name'] if flat else stem}.png")


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair as it was found.

    Attributes:
        label: where it was found, for people: "line 3" or the name in the folder.
        pair: the pair, or the error that says why it is none.
    """

    label: str
    pair: Pair | InputError


def read_pairs(source: Path) -> list[Entry]:
    """The pairs of a list or a folder, in order; a pair that cannot be used is an entry of its own.

    Args:
        source: a .csv file with a header or a .jsonl file of objects, both UTF-8 with the columns of `Pair`, one pair a
            line, and with paths relative to the file; or a folder, in which each subfolder holds reference.* (or
            hrri.*) and generated.* (or lrgi.*), or in which files are called NAME_reference.* and NAME_generated.*.
            Further photos of the object are called reference_2.* (or hrri_2.*) and so on.

    Raises:
        InputError: the list as a whole cannot be used: not found, too long, no pairs, a CSV header that is no header,
            not UTF-8 from its beginning.
    """
    place = real_path(source)
    try:
        if place.is_dir():
            return _limited(_in_folder(source), source) or _refuse_empty_folder(source)
        if not place.is_file():
            raise InputError(f"The list of pairs {quoted(str(source))} cannot be found; check the path.")
        if source.suffix.lower() not in (".csv", ".jsonl"):
            raise InputError(f"The list of pairs {str(source)!r} is neither a .csv nor a .jsonl file nor a folder.")
        if place.stat().st_size > MAX_LIST_BYTES:
            raise InputError(
                f"The list of pairs {str(source)!r} is larger than {MAX_LIST_BYTES // MEGABYTE} MB; split it."
            )
        content = place.read_bytes()
    except OSError as error:
        raise InputError(f"The pairs {str(source)!r} cannot be read ({error.strerror}); check permissions.") from error
    lines = _lines(content, source)
    rows = _csv_rows(lines, source) if source.suffix.lower() == ".csv" else _jsonl_rows(lines)
    entries = _limited((_entry(number, row, source) for number, row in rows), source)
    if not entries:
        raise InputError(f"The list {str(source)!r} holds no pairs; write one pair a line.")
    return entries


def _limited(entries: Iterable[Entry], source: Path) -> list[Entry]:
    kept = list(islice(entries, MAX_PAIRS + 1))
    if len(kept) > MAX_PAIRS:
        raise InputError(f"{str(source)!r} holds more than {MAX_PAIRS} pairs; split it.")
    return kept


def _refuse_empty_folder(folder: Path) -> NoReturn:
    raise InputError(
        f"The folder {str(folder)!r} holds no pairs; give each pair a subfolder with reference.* and "
        "generated.* or name the files NAME_reference.* and NAME_generated.*."
    )


Line = tuple[int, str | InputError]
Row = tuple[int, Mapping[str, Any] | InputError]


def _lines(content: bytes, source: Path) -> Iterator[Line]:
    """The lines that are not blank, numbered from 1."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"The list of pairs {str(source)!r} is not UTF-8 text; save it as UTF-8.")
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            text = line.decode().removesuffix("\r")
        except UnicodeDecodeError:
            yield number, InputError("It is not UTF-8 text; save the list as UTF-8.")
            continue
        if len(text) > MAX_LINE:
            yield number, InputError(f"It has {len(text)} characters, and {MAX_LINE} are the limit; shorten it.")
            continue
        yield number, text


def _csv_rows(lines: Iterator[Line], source: Path) -> Iterator[Row]:
    _, first = next(lines, (0, ""))
    try:
        if isinstance(first, InputError):
            raise first
        header = _cells(first)
        _check_header(header)
    except InputError as error:
        raise InputError(f"The list {str(source)!r} has no usable header in its first line: {error}") from error
    for number, line in lines:
        try:
            if isinstance(line, InputError):
                raise line
            cells = _cells(line)
            if len(cells) > len(header):
                raise InputError(
                    f"It has {len(cells)} cells but the header has {len(header)}; put quotes around a comma."
                )
            if any(cells):
                yield number, dict(zip(header, cells, strict=False))
        except InputError as error:
            yield number, error


def _cells(line: str) -> list[str]:
    """The cells of one line. A line is parsed by itself, so that a quote left open spoils no other line."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True, skipinitialspace=True))]
    except csv.Error as error:
        raise InputError(f"It is no CSV ({error}); put quotes around a whole cell and double those within.") from error


def _check_header(header: list[str]) -> None:
    unknown = sorted(set(header) - set(Pair.model_fields))
    missing = {"reference", "generated"} - set(header)
    twice = [column for column, count in Counter(header).items() if count > 1]
    if unknown:
        raise InputError(f"{quoted(unknown[0])} is an unknown column; the columns are {', '.join(Pair.model_fields)}.")
    if missing:
        raise InputError(f"there is no column {min(missing)!r}; add it.")
    if twice:
        raise InputError(f"the column {twice[0]!r} is there twice; remove one.")


def _jsonl_rows(lines: Iterator[Line]) -> Iterator[Row]:
    for number, line in lines:
        try:
            if isinstance(line, InputError):
                raise line
            yield number, _json_row(line)
        except InputError as error:
            yield number, error


def _json_row(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InputError(f"It is not valid JSON ({error.msg}, character {error.pos + 1}); correct the line.") from error
    except RecursionError as error:
        raise InputError("It is nested too deeply; write one object without others in it.") from error
    except ValueError as error:  # Python reads no whole number of thousands of digits
        raise InputError("It holds a number of too many digits; shorten it.") from error
    if not isinstance(row, dict):
        raise InputError("It is not a JSON object; write the keys reference and generated in braces.")
    unknown = sorted(set(row) - set(Pair.model_fields))
    if unknown:
        raise InputError(f"It has the unknown key {quoted(unknown[0])}; the keys are {', '.join(Pair.model_fields)}.")
    return row


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in items).items() if count > 1]
    if twice:
        raise InputError(f"It has the key {quoted(twice[0])} twice; remove one.")
    return dict(items)


def _entry(number: int, row: Mapping[str, Any] | InputError, source: Path) -> Entry:
    label = f"line {number}"
    if isinstance(row, InputError):
        return Entry(label, row)
    for key, value in row.items():
        if isinstance(value, str) and SURROGATE.search(value):
            return Entry(label, InputError(f"The {key} is {quoted(value)}, which has half of a character; mend it."))
    try:
        pair = Pair.model_validate({column: value for column, value in row.items() if value not in (None, "")})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = first["loc"][0]
        if first["type"] == "missing":
            return Entry(label, InputError(f"The {column} is missing; give its path."))
        wanted = "it should be a path" if first["type"] == "path_type" else _wanted(first["msg"])
        return Entry(label, InputError(f"The {column} is {quoted(first['input'])}; {wanted}."))
    beside_the_list = {
        column: source.parent / path
        for column in dict.fromkeys(ROLES.values())
        if (path := getattr(pair, column)) is not None
    }
    return Entry(label, pair.model_copy(update=beside_the_list))


def _wanted(message: str) -> str:
    """Pydantic's "Input should be a valid integer, unable to parse ..." as the end of a sentence."""
    return message.removeprefix("Value error, ").split(",")[0].replace("Input ", "it ")


def _in_folder(folder: Path) -> Iterator[Entry]:
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for subfolder in filter(Path.is_dir, paths):
        try:
            pictures = [path for path in sorted(subfolder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES]
        except OSError as error:
            yield Entry(subfolder.name, InputError(f"The folder cannot be read ({error.strerror}); check permissions."))
            continue
        found = [(ROLES[path.stem.lower()], path) for path in pictures if path.stem.lower() in ROLES]
        if found:
            yield _found(subfolder.name, found)
    flat: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
    for path in paths:
        match = FLAT_NAME.fullmatch(path.stem)
        if match and path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES:
            flat[match["name"]].append((ROLES[match["role"].lower()], path))
    for name, found in flat.items():
        yield _found(name, found)


def _found(label: str, pictures: list[tuple[str, Path]]) -> Entry:
    roles = Counter(role for role, _ in pictures)
    for role, count in roles.items():
        if count > 1:
            names = " and ".join(path.name for other, path in pictures if other == role)
            return Entry(label, InputError(f"The {role.replace('_', ' ')} is there {count} times, {names}; keep one."))
    for role, example in (("reference", "hrri"), ("generated", "lrgi")):
        if role not in roles:
            return Entry(label, InputError(f"The {role} picture is missing; add it as {role}.* or {example}.*."))
    for reference, mask in FURTHER:
        if mask in roles and reference not in roles:
            return Entry(label, InputError(f"There is a {mask} without its {reference}; add the picture."))
    return Entry(label, Pair.model_validate(dict(pictures)))
