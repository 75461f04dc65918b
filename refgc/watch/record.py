"""What became of each picture of a watched folder, kept beside the results so that it survives a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from refgc.errors import InputError, first_fault, quoted
from refgc.imaging.journal import append_line, whole_lines
from refgc.watch.folder import State

RECORD = ".refgc-watch.jsonl"


class Row(BaseModel):
    """What became of one picture.

    Attributes:
        picture: its path in the watched folder.
        size: of the file that was read, in bytes.
        modified: the time of its last change, in nanoseconds.
        output: the path of its result in the output folder.
        error: why there is no result; None where there is one.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    picture: str
    size: int
    modified: int
    output: str
    error: str | None = None

    @property
    def state(self) -> State:
        """The file that was read."""
        return State(self.size, self.modified)


def key_of(path: Path) -> str:
    """A relative path as it stands in the record, with / on every system; bytes that are no text are written out."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


class Record:
    """The rows of one output folder, the last one of each picture. One process may have it open at a time."""

    def __init__(self, folder: Path) -> None:
        """Reads what earlier runs wrote.

        Args:
            folder: of the results.

        Raises:
            InputError: the file cannot be read, or is no such record.
        """
        self._path = folder / RECORD
        self._rows: dict[str, Row] = {}
        # Some file systems take names that differ in case only for the same.
        self._owners: dict[str, str] = {}
        for line in whole_lines(self._path):
            try:
                row = Row.model_validate(line.value)
            except ValidationError as error:
                fault = ": ".join(filter(None, first_fault(error)))
                raise InputError(
                    f"Line {line.number} of {quoted(str(self._path))} is not as it was written ({fault}); delete it."
                ) from error
            self._keep(row)

    def find(self, picture: Path) -> Row | None:
        """What became of a picture; None where nothing is known of it."""
        return self._rows.get(key_of(picture))

    def add(self, picture: Path, state: State, output: Path, error: str | None = None) -> None:
        """Writes a row; it is on the disk when this returns.

        Raises:
            OSError: it cannot be written.
        """
        row = Row(picture=key_of(picture), size=state.size, modified=state.modified, output=key_of(output), error=error)
        append_line(self._path, row.model_dump(exclude_none=True))
        self._keep(row)

    def output_of(self, picture: Path, suffix: str) -> Path:
        """The name of a picture's result, which no other picture of the record has, and which stays the same.

        It is NAME and the suffix; where another picture has that, NAME_jpg and the suffix, after the picture's own.

        Args:
            picture: its path in the watched folder.
            suffix: of the result, such as ".png".
        """
        row, key = self.find(picture), key_of(picture)
        names = list(self._free_names(picture, suffix, key))
        return next((name for name in names if row is not None and key_of(name) == row.output), names[0])

    def _free_names(self, picture: Path, suffix: str, key: str) -> Iterator[Path]:
        own = picture.suffix[1:].lower()
        for name in (picture.stem, f"{picture.stem}_{own}", *(f"{picture.stem}_{own}_{n}" for n in range(2, 100))):
            output = picture.with_name(name + suffix)
            if self._owners.get(key_of(output).casefold(), key) == key:
                yield output

    def _keep(self, row: Row) -> None:
        self._rows[row.picture] = row
        self._owners[row.output.casefold()] = row.picture
