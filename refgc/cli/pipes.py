"""Pictures through the standard streams, which the command line calls "-"."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj

import typer

from refgc.cli.refine_options import FormatChoice, is_stream
from refgc.cli.streams import was_closed
from refgc.errors import InputError
from refgc.imaging.files import MEGABYTE
from refgc.imaging.limits import MAX_PIXELS

# Four channels of 32 bits of the largest picture that is read; metadata are limited elsewhere, and far smaller.
MAX_BYTES = 16 * MAX_PIXELS
BLOCK = 1 << 20
# What a shell says of a process that wrote into a pipe that nobody reads any more: 128 and the signal's number.
BROKEN_PIPE = 128 + int(getattr(signal, "SIGPIPE", 13))


def check_one_stream(inputs: Mapping[str, list[Path] | Path | None]) -> None:
    """Refuses more than one input from standard input.

    Args:
        inputs: what was given to each option.

    Raises:
        InputError: there is more than one.
    """
    streams = [
        option
        for option, paths in inputs.items()
        for path in (paths if isinstance(paths, list) else [paths])
        if is_stream(path)
    ]
    if len(streams) > 1:
        among = " and ".join(dict.fromkeys(streams))
        raise InputError(f"Only one picture can come through standard input, not both of {among}; give a file for one.")


def check_no_stream(places: Mapping[str, Path | None]) -> None:
    """Refuses "-" where only a picture's option takes it: it would become a file of that name.

    Args:
        places: what was given to each other option.

    Raises:
        InputError: one of them is "-".
    """
    for option, place in places.items():
        if is_stream(place):
            raise InputError(
                f"{option} takes no -, since only pictures go through the standard streams; give a name, or ./- for a "
                "file called -."
            )


@contextmanager
def picture_from_stdin() -> Iterator[Path]:
    """What comes through standard input, as a file that is deleted at the end.

    Python opens standard input in binary mode, on Windows too, so that no byte is changed.

    Raises:
        InputError: standard input is a terminal or closed, or holds nothing or too much.
    """
    if sys.stdin is None or was_closed(0):
        raise InputError("Standard input is closed; send a picture there, as in `refgc refine ... < scene.png`.")
    if sys.stdin.isatty():
        raise InputError("Standard input is a terminal; send a picture there, as in `refgc refine ... < scene.png`.")
    with tempfile.TemporaryDirectory(prefix="refgc-") as folder:
        # The door for pictures names a file by its last part.
        path = Path(folder, "standard input")
        size = 0
        with path.open("wb") as file:
            while block := sys.stdin.buffer.read(BLOCK):
                size += len(block)
                if size > MAX_BYTES:
                    raise InputError(
                        f"More than {MAX_BYTES // MEGABYTE} MB came through standard input; send one picture."
                    )
                file.write(block)
        if size == 0:
            raise InputError("Nothing came through standard input; send a picture, as in `... < scene.png`.")
        yield path


@contextmanager
def picture_to_stdout(file_format: FormatChoice) -> Iterator[Path]:
    """A place for a picture that goes through standard output in the end; nothing else does.

    Whatever prints to standard output inside, native libraries included, prints to standard error.

    Args:
        file_format: of the picture.

    Raises:
        InputError: standard output is a terminal or closed.
        typer.Exit: nobody reads the picture to its end, with `BROKEN_PIPE` as status.
        OSError: standard output takes no more.
    """
    if was_closed(1):
        raise InputError("Standard output is closed, so that the picture would be lost; add `> refined.png`.")
    if sys.stdout.isatty():
        raise InputError("Standard output is a terminal, which shows no picture; add `> refined.png` or give a name.")
    sys.stdout.flush()
    number = sys.stdout.fileno()
    kept = os.dup(number)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(kept, os.O_BINARY)
        os.dup2(sys.stderr.fileno(), number)
        try:
            with tempfile.TemporaryDirectory(prefix="refgc-") as folder:
                path = Path(folder, f"standard output.{file_format}")
                yield path
                _send(path, kept)
        finally:
            sys.stdout.flush()
            os.dup2(kept, number)
    finally:
        os.close(kept)


def _send(path: Path, number: int) -> None:
    try:
        with path.open("rb") as file, os.fdopen(number, "wb", closefd=False) as stream:
            copyfileobj(file, stream, BLOCK)
    except BrokenPipeError as error:
        raise typer.Exit(BROKEN_PIPE) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error
