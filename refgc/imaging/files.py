"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from refgc.errors import InputError


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` at `path`; whatever goes wrong, `path` holds either its old content or all of the new.

    The file gets the permissions of any new file (the umask decides), and a symbolic link is followed, not replaced.

    Raises:
        InputError: the folder is missing, `path` is a folder, or the file cannot be written.
    """
    asked = os.fspath(path)
    try:
        _write(asked, Path(os.path.realpath(asked)), content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{asked!r} cannot be written ({reason}); choose another place.") from error


def _write(asked: str, target: Path, content: bytes) -> None:
    if target.is_dir():
        raise InputError(f"{asked!r} is a folder; give the name of a file to write.")
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"{asked!r} is write-protected; choose another name or change its permissions.")
    if not target.parent.is_dir():
        raise InputError(f"The folder of {asked!r} does not exist; make it first or choose another.")
    unfinished = target.parent / f".refgc-{secrets.token_hex(8)}.tmp"
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
