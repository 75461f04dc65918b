"""Which pairs a batch is made of: read from a CSV or JSONL list, or found in a folder."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from refgc.errors import InputError

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
}
FLAT_NAME = re.compile(rf"(?P<name>.+?)_(?P<role>{'|'.join(ROLES)})", re.IGNORECASE)
PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
)


class Pair(BaseModel):
    """One line of a list: a picture to refine with its reference; what is None is taken from the command's options.

    Attributes:
        reference: the HRRI.
        generated: the LRGI.
        output: the name of the result in the batch's output folder; derived from `generated` when None.
        reference_mask: the object in the reference.
        generated_mask: the object in the generated picture.
        scale: output size over generated size.
        object: the object in words.
        seed: seed of everything random.
        strength: how much of the reference to bring in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: Path
    generated: Path
    output: Path | None = None
    reference_mask: Path | None = None
    generated_mask: Path | None = None
    scale: int | None = None
    object: str | None = None
    seed: int | None = None
    strength: float | None = None

    @property
    def inputs(self) -> list[Path]:
        """Every file the result is made from."""
        given = (self.reference, self.generated, self.reference_mask, self.generated_mask)
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
        source: a .csv file with a header or a .jsonl file of objects, both UTF-8 with the columns of `Pair` and with
            paths relative to the file; or a folder, in which each subfolder holds reference.* (or hrri.*) and
            generated.* (or lrgi.*), or in which files are called NAME_reference.* and NAME_generated.*.

    Raises:
        InputError: the list as a whole cannot be used: not found, no pairs, unknown columns, not UTF-8.
    """
    if source.is_dir():
        entries = list(_in_folder(source))
        if not entries:
            raise InputError(
                f"The folder {str(source)!r} holds no pairs; give each pair a subfolder with reference.* and "
                "generated.* or name the files NAME_reference.* and NAME_generated.*."
            )
        return entries
    if not source.is_file():
        raise InputError(f"The list of pairs {str(source)!r} cannot be found; check the path.")
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    if source.suffix.lower() not in readers:
        raise InputError(f"The list of pairs {str(source)!r} is neither a .csv nor a .jsonl file nor a folder.")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The list of pairs {str(source)!r} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"The list of pairs {str(source)!r} cannot be read ({error.strerror}).") from error
    entries = [_entry(number, row, source) for number, row in readers[source.suffix.lower()](text, source)]
    if not entries:
        raise InputError(f"The list {str(source)!r} holds no pairs; write one pair a line.")
    return entries


def _csv_rows(text: str, source: Path) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_columns(header, source)
        twice = [column for column, count in Counter(header).items() if count > 1]
        if twice:
            raise InputError(f"The list {str(source)!r} has the column {twice[0]!r} twice; remove one.")
        for cells in reader:
            if len(cells) > len(header):
                yield (
                    reader.line_num,
                    InputError(
                        f"It has {len(cells)} cells but the header has {len(header)}; put quotes around a comma."
                    ),
                )
            elif any(cell.strip() for cell in cells):
                yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=False))
    except csv.Error as error:
        raise InputError(f"The list {str(source)!r} is no CSV from line {reader.line_num} on ({error}).") from error


def _jsonl_rows(text: str, source: Path) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield number, InputError(f"It is not valid JSON ({error}); correct the line.")
            continue
        if not isinstance(row, dict):
            yield number, InputError("It is not a JSON object; write the keys reference and generated in braces.")
            continue
        _check_columns(row, source)
        yield number, row


def _check_columns(columns: Mapping[str, Any] | list[str], source: Path) -> None:
    unknown = sorted(set(columns) - set(Pair.model_fields))
    if unknown:
        raise InputError(
            f"The list {str(source)!r} has the unknown column {unknown[0]!r}; the columns are "
            f"{', '.join(Pair.model_fields)}."
        )
    if isinstance(columns, list):
        missing = {"reference", "generated"} - set(columns)
        if missing:
            raise InputError(f"The list {str(source)!r} has no column {min(missing)!r}; add it to the first line.")


def _entry(number: int, row: Mapping[str, Any] | InputError, source: Path) -> Entry:
    label = f"line {number}"
    if isinstance(row, InputError):
        return Entry(label, row)
    try:
        pair = Pair.model_validate({column: value for column, value in row.items() if value not in (None, "")})
    except ValidationError as error:
        first = error.errors()[0]
        column = first["loc"][0]
        if first["type"] == "missing":
            return Entry(label, InputError(f"The {column} is missing; give its path."))
        return Entry(label, InputError(f"The {column} is {first['input']!r}; {_wanted(first['msg'])}."))
    beside_the_list = {
        column: source.parent / path
        for column in ("reference", "generated", "reference_mask", "generated_mask")
        if (path := getattr(pair, column)) is not None
    }
    return Entry(label, pair.model_copy(update=beside_the_list))


def _wanted(message: str) -> str:
    """Pydantic's "Input should be a valid integer, unable to parse ..." as the end of a sentence."""
    return message.split(",")[0].replace("Input should be", "it should be")


def _in_folder(folder: Path) -> Iterator[Entry]:
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for subfolder in filter(Path.is_dir, paths):
        pictures = [path for path in sorted(subfolder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES]
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
    return Entry(label, Pair.model_validate(dict(pictures)))
