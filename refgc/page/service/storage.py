"""Where the files of visits lie, how much room is left for them, and their end."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from time import time
from typing import TypeVar
from uuid import uuid4

from gradio.utils import get_upload_folder

from refgc.engine import Progress, Viewer
from refgc.errors import EngineError
from refgc.page.service.logs import logger, note

# What the page writes for a visitor lies in a folder of its own, in one that says what it is: refined/<this>.
OWN_FOLDER = re.compile(r"[0-9a-f]{32}")
# Gradio keeps uploads, and what a page shows from its start, in folders named after their content.
GRADIO_FOLDER = re.compile(r"[0-9a-f]{64}")
SWEEPS_PER_AGE = 6
FULL = (errno.ENOSPC, errno.EDQUOT)
# Before the page is built: what Gradio writes meanwhile is shown, and stays, as long as this server runs.
BEGAN = time()

Made = TypeVar("Made")


class NoRoomError(EngineError):
    """The disk that holds uploads and results is full."""

    def __init__(self) -> None:
        super().__init__("The server has no room left for new pictures; please try again in a few minutes.")


def new_folder(kind: str) -> Path:
    """A place that nobody can guess, not made yet, for what is deleted after some hours.

    Args:
        kind: what will lie there, such as "refined".
    """
    return Path(get_upload_folder()) / kind / uuid4().hex


def free_bytes() -> int:
    """Free room where uploads and results lie, or will lie."""
    folder = Path(get_upload_folder()).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def room_watched(work: Callable[[Progress, Viewer], Made]) -> Callable[[Progress, Viewer], Made]:
    """The same work, in which a full disk is told as what it is.

    Raises:
        NoRoomError: from the work, when the disk is full.
    """

    def watched_work(progress: Progress, viewer: Viewer) -> Made:
        try:
            return work(progress, viewer)
        except Exception as error:
            if is_full(error):
                raise NoRoomError from error
            raise

    return watched_work


def sweep(folder: Path, *, older_than: float, started: float) -> int:
    """Deletes what is too old, and what an earlier server left behind; never anything through a symbolic link.

    Args:
        folder: Gradio's, of this server alone.
        older_than: seconds since the epoch; what was last written to before is too old.
        started: when this server did; what Gradio has kept since then is Gradio's to delete, since it knows what the
            page still shows.

    Returns:
        How many folders were deleted.
    """
    doomed = []
    for entry in _folders_in(folder):
        if GRADIO_FOLDER.fullmatch(entry.name):
            if _last_handed_out(entry) < min(older_than, started):
                doomed.append(entry)
            continue
        own = (below for below in _folders_in(entry) if OWN_FOLDER.fullmatch(below.name))
        doomed += [below for below in own if _last_added_to(below) < older_than]
    return sum(remove(entry) for entry in doomed)


def remove(folder: Path) -> bool:
    """Deletes a folder with everything in it, as far as that can be done; whether it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def start_janitor(keep_seconds: float, also: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """Sweeps now and again and again, beside everything else.

    Args:
        keep_seconds: how long files are kept.
        also: what else is done each time.

    Returns:
        What ends it.
    """
    stopped = Event()

    def tidy() -> None:
        while True:
            try:
                gone = sweep(Path(get_upload_folder()), older_than=time() - keep_seconds, started=BEGAN)
                for chore in also:
                    chore()
                if gone:
                    note("swept", folders=gone)
            except Exception as error:
                logger.error("sweep", exc_info=error)
            if stopped.wait(keep_seconds / SWEEPS_PER_AGE):
                return

    Thread(target=tidy, name="janitor", daemon=True).start()
    return stopped.set


def _folders_in(folder: Path) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def _last_added_to(folder: Path) -> float:
    """When a file was last put into the folder, seconds since the epoch; 0 for what is gone."""
    try:
        return folder.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _last_handed_out(folder: Path) -> float:
    """When Gradio last wrote, or refreshed, a file in one of its folders, seconds since the epoch; 0 if it is gone."""
    try:
        with os.scandir(folder) as entries:
            times = [entry.stat(follow_symlinks=False).st_ctime for entry in entries]
        return max([folder.lstat().st_ctime, *times])
    except FileNotFoundError:
        return 0.0
