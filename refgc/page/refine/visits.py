"""What the server remembers of visits: what each cancelled, its newest run, and its results."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TypeVar
from uuid import uuid4

from gradio.utils import get_upload_folder
from pydantic import TypeAdapter

from refgc.errors import InputError
from refgc.imaging.files import write_whole
from refgc.page.refine.result import History
from refgc.page.service.cache import as_json, link_or_copy
from refgc.page.service.logs import logger
from refgc.page.service.storage import remove

# A run ends soon after it is cancelled, long before this many other visits have cancelled something.
MOST_VISITS = 10_000
Value = TypeVar("Value")


class Cancellations:
    """When each visit last cancelled.

    A run looks here, and ends its own answers. Where Gradio ends the event from outside, an answer that is under way to
    the browser may arrive after the answer to Cancel, and take its place.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._times: OrderedDict[str, float] = OrderedDict()

    def cancel(self, visit: str) -> None:
        """Cancel everything that the visit has submitted until now."""
        with self._lock:
            _put(self._times, visit, monotonic())

    def covers(self, visit: str, submitted_at: float) -> bool:
        """Whether the visit has cancelled since the time `submitted_at`, in seconds of `time.monotonic`."""
        with self._lock:
            return self._times.get(visit, submitted_at) > submitted_at


class LatestRuns:
    """The newest run of each visit; earlier ones that still go on look here, and end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: OrderedDict[str, str] = OrderedDict()

    def begin(self, visit: str) -> str:
        """A name for a new run of the visit, which is the newest from now on."""
        with self._lock:
            run = uuid4().hex
            _put(self._runs, visit, run)
            return run

    def is_latest(self, visit: str, run: str) -> bool:
        """Whether the visit has begun no other run since."""
        with self._lock:
            return self._runs.get(visit, run) == run


class KeptResults:
    """The results of each browser, so that a page that is loaded again shows them again.

    The browser keeps a token that nobody can guess. What is kept here names files only; those are deleted after some
    hours, and results without files are left out.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """No visit has any.

        Args:
            folder: one that other pages see, so that these find the results as well; None keeps them in this process.
        """
        self._lock = Lock()
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._histories: OrderedDict[str, History] = OrderedDict()
        self._folder = folder

    def open(self, visit: str, token: object) -> tuple[str, History]:
        """The token and the results of a browser that has opened the page; one without a token gets a new one.

        Args:
            visit: the visitor's session.
            token: what the browser had kept.
        """
        with self._lock:
            known = token if isinstance(token, str) and re.fullmatch(r"[0-9a-f]{32}", token) else uuid4().hex
            _put(self._tokens, visit, known)
            history = self._histories.get(known, History())
        if self._folder is not None:
            history = read_history(self._folder, known)
        return known, history.without_deleted()

    def keep(self, visit: str, history: History) -> None:
        """Keep the results of a visit; a visit that was never opened, or long ago, has none kept."""
        with self._lock:
            token = self._tokens.get(visit)
            if token is not None and self._folder is None:
                _put(self._histories, token, history)
        if token is not None and self._folder is not None:
            write_history(self._folder, token, history)


HISTORY = TypeAdapter(History)
# In the place of the folder of uploads, which differs from page to page.
UPLOADS = "uploads://"


def write_history(folder: Path, token: str, history: History) -> None:
    """Keeps a history and its files in a folder that all pages see; where that fails it is logged.

    Args:
        folder: holds a file for each token, named by its digest, and the files of all.
        token: of the browser.
        history: names files in this page's folder of uploads.
    """
    uploads = Path(get_upload_folder()).absolute()
    try:
        text = HISTORY.dump_json(history).decode().replace(as_json(uploads) + "/", UPLOADS)
        for name in _files_in(text):
            _place(uploads / name, folder / "files" / name)
        write_whole(_file_of(folder, token), text.encode())
    except (OSError, ValueError, InputError) as error:
        logger.warning("results of a visit not kept for other pages", exc_info=error)


def read_history(folder: Path, token: str) -> History:
    """The history that some page has kept, with its files in this page's folder of uploads; empty where there is none.

    Args:
        folder: as for `write_history`.
        token: of the browser.
    """
    uploads = Path(get_upload_folder()).absolute()
    try:
        text = _file_of(folder, token).read_text(encoding="utf-8")
        for name in _files_in(text):
            # What is missing was too old; the history leaves it out.
            _place(folder / "files" / name, uploads / name)
        return HISTORY.validate_json(text.replace(UPLOADS, as_json(uploads) + "/"))
    except FileNotFoundError:
        return History()
    except (OSError, ValueError) as error:
        logger.warning("results of a visit not read", exc_info=error)
        return History()


def sweep_histories(folder: Path, older_than: float) -> None:
    """Deletes the histories and files that were kept before a time, in seconds since the epoch."""
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if file.is_file() and not file.is_symlink() and file.stat().st_mtime < older_than:
                remove(file)
    for below in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        # One that has files stays.
        with suppress(OSError):
            below.rmdir()


def _file_of(folder: Path, token: str) -> Path:
    return folder / f"{blake2b(token.encode(), digest_size=16).hexdigest()}.json"


def _place(file: Path, target: Path) -> None:
    """Puts a file at another place as well, unless one is there."""
    if file.is_file() and not target.exists():
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link_or_copy(str(file), str(target))


def _files_in(text: str) -> set[str]:
    """The files that a history names, by their paths in the folder of uploads; none that leads out of it."""
    named = {json.loads(f'"{name}"') for name in re.findall(rf'"{UPLOADS}((?:[^"\\]|\\.)*)"', text)}
    return {name for name in named if ".." not in Path(name).parts and not Path(name).is_absolute()}


def _put(kept: OrderedDict[str, Value], key: str, value: Value) -> None:
    """Remember the value as the newest; the oldest of too many is forgotten."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MOST_VISITS:
        kept.popitem(last=False)
