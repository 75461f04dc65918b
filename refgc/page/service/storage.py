"""The folder of uploads and results: free room, and the deletion of old files."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from time import time
from uuid import uuid4

from gradio.utils import get_upload_folder

from refgc.errors import EngineError
from refgc.page.service.logs import logger

# What the page writes for a visitor lies in a folder with such a name, in one named after its kind: refined/<this>.
OWN_FOLDER = re.compile(r"[0-9a-f]{32}")
# Gradio keeps uploads, and what a page shows from its start, in folders named after their content.
GRADIO_FOLDER = re.compile(r"[0-9a-f]{64}")
# An upload is written to such a file of Python's `tempfile`, directly in the folder of uploads, until it is complete.
PARTIAL_UPLOAD = re.compile(r"tmp[a-z0-9_]{8}")
# An upload to which nothing was added for so long was broken off: the server closes slower ones.
PARTIAL_UPLOAD_SECONDS = 120.0
LONGEST_SWEEP_INTERVAL = 60.0
SWEEPS_PER_AGE = 6
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# This module is imported before the page is built: what Gradio writes after that is shown as long as the server runs.
SERVER_STARTED = time()


class NoRoomError(EngineError):
    """The disk that holds uploads and results is full."""

    def __init__(self) -> None:
        super().__init__("The server has no room left for new pictures; please try again in a few minutes.")


def new_folder(kind: str) -> Path:
    """The path of a new folder, not made yet, whose name nobody can guess; the janitor deletes it by its age.

    Args:
        kind: what it will hold, such as "refined".
    """
    return Path(get_upload_folder()) / kind / uuid4().hex


def free_bytes() -> int:
    """Free room where uploads and results lie, or will lie."""
    folder = Path(get_upload_folder()).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_room(needed_bytes: float) -> None:
    """Checks that the disk of uploads and results is not nearly full.

    Args:
        needed_bytes: free room that has to be left.

    Raises:
        NoRoomError: there is less.
    """
    if free_bytes() < needed_bytes:
        raise NoRoomError


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def sweep(folder: Path, *, older_than: float, started: float, now: float | None = None) -> int:
    """Deletes what is too old, what an earlier server left, broken-off uploads and empty folders.

    Nothing is deleted through a symbolic link.

    Args:
        folder: the folder of uploads, of this server alone.
        older_than: seconds since the epoch; what was last written to before is too old.
        started: when this server started; what Gradio has kept since then is Gradio's to delete, since it knows what
            the page still shows.
        now: seconds since the epoch; None takes the clock.

    Returns:
        The number of files and folders that were deleted.
    """
    orphaned = (time() if now is None else now) - PARTIAL_UPLOAD_SECONDS
    doomed, empty = [], []
    for entry in _entries(folder):
        if not entry.is_dir(follow_symlinks=False):
            is_partial = PARTIAL_UPLOAD.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            if is_partial and _last_written(entry.path) < orphaned:
                doomed.append(entry.path)
        elif GRADIO_FOLDER.fullmatch(entry.name):
            if _last_handed_out(entry.path) < min(older_than, started):
                doomed.append(entry.path)
            elif _last_written(entry.path) < orphaned:
                empty.append(entry.path)
        else:
            own = [below.path for below in _entries(entry.path) if OWN_FOLDER.fullmatch(below.name)]
            own = [below for below in own if Path(below).is_dir() and not Path(below).is_symlink()]
            doomed += [below for below in own if _last_written(below) < older_than]
            empty += [below for below in own if older_than <= _last_written(below) < orphaned]
    return sum(map(remove, map(Path, doomed))) + sum(map(_remove_if_empty, empty))


def remove(path: Path) -> bool:
    """Deletes a file, or a folder with everything in it, as far as that can be done; whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return not path.exists()


def start_janitor(keep_seconds: float, chores: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """Sweeps the folder of uploads now and then again and again, in a thread of its own.

    Args:
        keep_seconds: how long files are kept.
        chores: what else is done each time.

    Returns:
        What ends it.
    """
    stopped = Event()

    def tidy() -> None:
        while True:
            try:
                deleted = sweep(Path(get_upload_folder()), older_than=time() - keep_seconds, started=SERVER_STARTED)
                for chore in chores:
                    chore()
                if deleted:
                    logger.info("swept", deleted=deleted)
            except Exception as error:
                logger.error("sweep", exc_info=error)
            if stopped.wait(min(LONGEST_SWEEP_INTERVAL, keep_seconds / SWEEPS_PER_AGE)):
                return

    Thread(target=tidy, name="janitor", daemon=True).start()
    return stopped.set


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    path = Path(folder)
    if path.is_symlink() or not path.is_dir():
        return
    with suppress(FileNotFoundError), os.scandir(path) as entries:
        yield from entries


def _remove_if_empty(folder: str) -> bool:
    with suppress(OSError):
        Path(folder).rmdir()
        return True
    return False


def _last_written(path: str) -> float:
    """When a file was last written, or a file put into a folder, in seconds since the epoch; 0 for what is gone."""
    try:
        return Path(path).lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _last_handed_out(folder: str) -> float:
    """When Gradio last wrote, or refreshed, a file in one of its folders, seconds since the epoch; 0 if it is gone."""
    try:
        with os.scandir(folder) as entries:
            times = [entry.stat(follow_symlinks=False).st_ctime for entry in entries]
        return max([Path(folder).lstat().st_ctime, *times])
    except FileNotFoundError:
        return 0.0
