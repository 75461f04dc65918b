"""The cache of results: an index beside folders of plain picture and JSON files.

An entry is found by a keyed digest of everything that makes a result, the key being a secret of this installation:
without the pictures nobody can tell a name, and with them nobody needs one. No file of the cache is served. Whoever
gets a cached result gets files of their own, linked to the cache's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from time import time

from gradio.utils import get_upload_folder
from pydantic import TypeAdapter

from refgc.imaging.files import MEGABYTE
from refgc.page.pictures import ShownResult
from refgc.page.service.index import INDEX_ERRORS, FolderIndex, Index, Row, SqliteIndex
from refgc.page.service.limits import HOUR
from refgc.page.service.logs import logger
from refgc.page.service.storage import remove
from refgc.settings import Settings

RESULT_FILE = "result.json"
# A folder that is younger may be one that another process is about to put into the index.
UNINDEXED_SECONDS = 3600.0

SHOWN_RESULT = TypeAdapter(ShownResult)


class ResultCache:
    """Results of earlier runs, bounded in bytes and age; safe to share among threads and processes."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: float,
        max_seconds: float,
        clock: Callable[[], float] = time,
        index: Callable[[Path, Callable[[], float]], Index] = SqliteIndex,
    ) -> None:
        """Makes the folder where it is missing, readable by this server alone.

        Args:
            folder: holds the index and the entries.
            max_bytes: how much the entries may take.
            max_seconds: how old they may get.
            clock: seconds since the epoch.
            index: made of the folder and the clock.

        Raises:
            OSError: the folder cannot be made, or is somebody else's.
        """
        self._folder, self._entries = folder, folder / "entries"
        self._max_bytes, self._max_seconds, self._clock = max_bytes, max_seconds, clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or (hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid()):
            raise PermissionError(f"{folder} belongs to somebody else")
        folder.chmod(0o700)
        self._index = index(folder, clock)
        self._entries.mkdir(mode=0o700, exist_ok=True)
        self._secret = self._index.secret()

    def key(self, files: Mapping[str, Path | None], options: Mapping[str, object]) -> str:
        """The key of the result that these files and options make.

        Args:
            files: by their part in the request; only their bytes count. None stands for a file that is not given.
            options: everything else that the result depends on, the engine's fingerprint among it.

        Raises:
            OSError: a file cannot be read.
        """
        contents = {name: path and _file_digest(path) for name, path in files.items()}
        text = json.dumps([contents, dict(options)], sort_keys=True)
        return blake2b(text.encode(), key=self._secret, digest_size=32).hexdigest()

    def get(self, key: str, folder: Path) -> ShownResult | None:
        """A cached result as files in `folder`, which is made; None where there is none, or it is damaged."""
        try:
            found = self._index.find(key, self._clock() - self._max_seconds)
        except INDEX_ERRORS as error:
            logger.warning("index of results not read", exc_info=error)
            return None
        if found is None:
            return None
        name, digest = found.folder, found.digest
        try:
            shutil.copytree(self._entries / name, folder, copy_function=link_or_copy)
            if _folder_digest(folder) != digest:
                raise ValueError("a file has changed")
            text = (folder / RESULT_FILE).read_text(encoding="utf-8").replace(name, as_json(folder))
            (folder / RESULT_FILE).unlink()
            return SHOWN_RESULT.validate_json(text)
        except (OSError, ValueError) as error:
            logger.warning("damaged result deleted", exc_info=error)
            remove(folder)
            self._delete([(key, name)])
            return None

    def put(self, key: str, result: ShownResult, folder: Path) -> None:
        """Keeps a result whose files are in `folder`; where that fails, it is logged and nothing is kept."""
        name = secrets.token_hex(16)
        entry = self._entries / name
        try:
            shutil.copytree(folder, entry, copy_function=link_or_copy)
            # The name of the entry stands for the folder. It cannot be guessed, so that it is nowhere else in the text.
            text = SHOWN_RESULT.dump_json(result).decode().replace(as_json(folder), name)
            (entry / RESULT_FILE).write_text(text, encoding="utf-8")
            size = sum(file.lstat().st_size for file in entry.iterdir())
            is_new = self._index.add(key, Row(name, _folder_digest(entry), size, self._clock()))
        except INDEX_ERRORS as error:
            logger.warning("result not cached", exc_info=error)
            is_new = False
        if is_new:
            self.trim()
        else:
            remove(entry)

    def trim(self, max_bytes: float | None = None) -> None:
        """Deletes what is too old, then what was used longest ago, until the rest has room.

        Args:
            max_bytes: how much may stay; None for as much as the cache may hold.
        """
        now = self._clock()
        limit = self._max_bytes if max_bytes is None else max_bytes
        try:
            doomed, indexed = self._index.surplus(now - self._max_seconds, limit)
        except INDEX_ERRORS as error:
            logger.warning("cache of results not trimmed", exc_info=error)
            return
        self._delete(doomed)
        for entry in self._entries.glob("*"):
            with suppress(FileNotFoundError):
                if entry.name not in indexed and entry.lstat().st_mtime < time() - UNINDEXED_SECONDS:
                    remove(entry)

    def _delete(self, rows: list[tuple[str, str]]) -> None:
        with suppress(*INDEX_ERRORS):
            self._index.remove(rows)
        for _, name in rows:
            remove(self._entries / name)


def open_cache(settings: Settings) -> ResultCache | None:
    """The cache of this installation, beside the folder of uploads or in that of all pages; None for none."""
    if not settings.cache_megabytes:
        return None
    uploads = Path(get_upload_folder()).absolute()
    folder = uploads.with_name(f"{uploads.name}-results")
    index: type[SqliteIndex] | type[FolderIndex] = SqliteIndex
    if settings.shared is not None:
        folder, index = Path(settings.shared).absolute() / "results", FolderIndex
    try:
        return ResultCache(
            folder,
            max_bytes=settings.cache_megabytes * MEGABYTE,
            max_seconds=settings.keep_hours * HOUR,
            index=index,
        )
    except (OSError, sqlite3.Error) as error:
        logger.warning("no results are cached", exc_info=error)
        return None


def link_or_copy(source: str, target: str) -> None:
    """Puts a file at another place too, without its bytes where the file system can."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=32)).hexdigest()


def _folder_digest(folder: Path) -> str:
    contents = {path.name: _file_digest(path) for path in sorted(folder.iterdir())}
    return blake2b(json.dumps(contents).encode(), digest_size=32).hexdigest()


def as_json(path: Path) -> str:
    """A path as it stands within the JSON text of a longer one."""
    return json.dumps(str(path), ensure_ascii=False)[1:-1]
