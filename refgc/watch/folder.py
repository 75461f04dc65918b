"""The pictures of a watched folder, and whether they are written to their end.

The folder is looked at again and again. Notices of the system would come sooner, but none come from network drives and
some mounts of containers, where nothing would happen and nobody would be told. They also do not say that a file is
complete, so that its size and time would have to be looked at all the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from refgc.errors import InputError
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.imaging.files import real_path

# What begins like this is hidden, or a program's own: ".picture.png.Xy12ab" of rsync, "~$name" of office programs.
HIDDEN = (".", "~")


class UnreadableFolderError(InputError):
    """The watched folder cannot be read, at least for now."""


@dataclass(frozen=True, slots=True)
class State:
    """What tells that a file has changed.

    Attributes:
        size: in bytes.
        modified: the time of its last change, in nanoseconds.
    """

    size: int
    modified: int


def state_of(path: Path) -> State | None:
    """The state of a file; None where there is none, or something else."""
    try:
        status = path.stat()
    except OSError:
        return None
    return State(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def pictures_in(folder: Path, excluded: Collection[Path]) -> dict[Path, State]:
    """The pictures of a folder and of those inside it, by their paths relative to it, sorted.

    Left out are hidden files and folders, files that are not named as pictures are, and with them those that are being
    downloaded (.part, .crdownload and others). Links to folders are not followed.

    Args:
        folder: the watched folder.
        excluded: real paths of folders and files that are left out as well.

    Raises:
        UnreadableFolderError: the folder itself cannot be read.
    """
    try:
        found = dict(_pictures(folder, excluded, {path.name for path in excluded}))
    except OSError as error:
        raise UnreadableFolderError(
            f"The watched folder {str(folder)!r} cannot be read ({error.strerror}); check the path and its permissions."
        ) from error
    return {path.relative_to(folder): found[path] for path in sorted(found)}


def _pictures(folder: Path, excluded: Collection[Path], names: Collection[str]) -> Iterator[tuple[Path, State]]:
    """As `pictures_in`; `names` are those of the excluded, since finding real paths takes ten times as long."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name.startswith(HIDDEN) or not (is_folder or path.suffix.lower() in PICTURE_SUFFIXES):
                continue
            if (entry.name in names or entry.is_symlink()) and real_path(path) in excluded:
                continue
            if is_folder:
                # One that may not be read, or is deleted just now, holds nothing that can be refined.
                with suppress(OSError):
                    yield from _pictures(path, excluded, names)
            # Windows keeps old sizes in its listings of folders.
            elif state := state_of(path):
                yield path, state


class Settling:
    """Tells which pictures are written to their end: those that are the same at two looks one after the other."""

    def __init__(self) -> None:
        self._before: dict[Path, State] = {}

    def look(self, seen: dict[Path, State]) -> tuple[dict[Path, State], list[Path]]:
        """Sorts what is seen now into what is complete, and what is new or has changed since the last look."""
        complete = {path: state for path, state in seen.items() if self._before.get(path) == state}
        self._before = seen
        return complete, [path for path in seen if path not in complete]
