"""Writing files whole or not at all, and where a path leads.

A new content is written to a draft beside its place and moved there when it is complete. Moving within one folder is
atomic, so that nobody ever sees a part of a file.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from refgc.errors import InputError, quoted

# As disks, networks and file managers count.
MEGABYTE = 1_000_000
# Bytes of one name in a path, on nearly all file systems.
LONGEST_NAME = 255


def real_path(path: str | os.PathLike[str]) -> Path:
    """The place that a path leads to, through all symbolic links; nothing needs to be there.

    Raises:
        InputError: the links go in a circle, or no file can have such a name.
    """
    name = os.fspath(path)
    try:
        # In a folder that is not there yet the system does not look at the length.
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(name).parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        Path(name).stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{quoted(name)} is a circle of symbolic links; give another path.") from error
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{quoted(name)} is too long for a path; give a shorter one.") from error
    except ValueError as error:
        raise InputError(f"{quoted(name)} is a name that no file can have; give another path.") from error
    return Path(os.path.realpath(name))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {quoted(str(folder))} cannot be made ({error.strerror}); choose another."
        ) from error


def make_own_folder(folder: Path) -> None:
    """Make a folder as `make_folder` does, before long work whose results go into it.

    Raises:
        InputError: it cannot be made, or no file can be made in it.
    """
    make_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"The folder {quoted(str(folder))} is write-protected; choose another or change its permissions."
        )


def write_whole(path: str | os.PathLike[str], content: bytes | Iterable[bytes]) -> None:
    """Put `content` at `path`; whatever goes wrong, `path` holds either its old content or all of the new.

    The file gets the permissions of any new file (the umask decides), and a symbolic link is followed, not replaced.

    Args:
        path: of the file.
        content: of the file, whole or in pieces, of which one at a time is in memory.

    Raises:
        InputError: the folder is missing, `path` is a folder, or the file cannot be written. What `content` raises goes
            on.
    """
    asked = os.fspath(path)
    try:
        target = real_path(asked)
        if target.is_dir():
            raise InputError(f"{asked!r} is a folder; give the name of a file to write.")
        if target.exists() and not os.access(target, os.W_OK):
            raise InputError(f"{asked!r} is write-protected; choose another name or change its permissions.")
        if not target.parent.is_dir():
            raise InputError(f"The folder of {asked!r} does not exist; make it first or choose another.")
        write_files({target: lambda: content})
    except OSError as error:
        raise InputError(f"{asked!r} cannot be written ({error.strerror}); choose another place.") from error


def write_files(files: Mapping[Path, Callable[[], bytes | Iterable[bytes]]]) -> None:
    """Write several files, all of them or none; they appear in the order given.

    Folders that are missing are made, and removed again when the files cannot be written. Symbolic links are followed.

    Args:
        files: by its place, what gives the content of a file. It is called when the file is written, so that no more
            than one content is in memory.

    Raises:
        OSError: the disk is full or a folder may not be written; the error names the place, and every place is as it
            was before.
        InputError: what a content raised, or a place that leads nowhere; as before, nothing was written.
    """
    with ExitStack() as made, ExitStack() as drafts:
        moves: list[tuple[Path, Path]] = []
        for place, content in files.items():
            target = real_path(place)
            draft = target.with_name(f".refgc-{secrets.token_hex(8)}.tmp")
            data = content()
            try:
                _make_folder(target.parent, made)
                drafts.callback(draft.unlink, missing_ok=True)
                _write(draft, data)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(place)) from error
            moves.append((draft, target))
        for draft, target in moves:
            try:
                draft.replace(target)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(target)) from error
        made.pop_all()


def _write(draft: Path, content: bytes | Iterable[bytes]) -> None:
    with draft.open("xb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path, made: ExitStack) -> None:
    """Makes a folder and those above it, and leaves their removal to `made`."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        made.callback(_remove_empty, parent)
        parent.mkdir(exist_ok=True)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
