"""Files of JSON lines that grow line by line and survive being cut off at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from refgc.errors import InputError, quoted


class Line(NamedTuple):
    """A whole line.

    Attributes:
        number: in its file, counted from 1.
        start: bytes before it.
        value: the object.
    """

    number: int
    start: int
    value: dict[str, Any]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; see `whole_lines`."""
    return (line.value for line in whole_lines(path))


def whole_lines(path: Path, on_fault: Callable[[InputError], None] | None = None) -> Iterator[Line]:
    """The lines of a file of JSON lines; none where there is no file.

    A last line without its end is left out: it is what was being written when a process ended.

    Args:
        path: of the file.
        on_fault: told of each whole line that is no JSON object, which is then left out; None raises.

    Raises:
        InputError: the file cannot be read, or one of its whole lines is no JSON object.
    """
    start = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n") and line.strip():
                    try:
                        value = _object(line, number, path)
                    except InputError as error:
                        if on_fault is None:
                            raise
                        on_fault(error)
                    else:
                        yield Line(number, start, value)
                start += len(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{quoted(str(path))} cannot be read ({error.strerror}); check permissions.") from error


def has_cut_line(path: Path) -> bool:
    """Whether the last line of a file has no end, so that `whole_lines` leaves it out; no where there is no file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                return False
            file.seek(size - 1)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{quoted(str(path))} cannot be read ({error.strerror}); check permissions.") from error


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add an object to a file of JSON lines; it is on the disk when this returns.

    What an interrupted write left without an end is cut off first. One process may write to a file at a time.

    Raises:
        OSError: the disk is full or the file may not be written; the file holds what it held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        end = _end_of_whole_lines(file)
        file.truncate(end)
        try:
            file.write(line_of(row))
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise


def line_of(row: Mapping[str, Any]) -> bytes:
    """An object as its line; the same object gives the same bytes."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _object(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"Line {number} of {quoted(str(path))} is not JSON; mend or delete it.") from error
    if not isinstance(value, dict):
        raise InputError(f"Line {number} of {quoted(str(path))} is no JSON object; mend or delete it.")
    return value


def _end_of_whole_lines(file: BinaryIO) -> int:
    """Bytes up to the end of the last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        tail = file.read(end - start)
        if (last := tail.rfind(b"\n")) >= 0:
            return start + last + 1
        end = start
    return 0
