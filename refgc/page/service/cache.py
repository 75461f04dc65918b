"""The cache of results: a SQLite index beside folders of plain picture and JSON files.

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cache
from hashlib import blake2b, file_digest
from importlib.metadata import distributions
from pathlib import Path
from time import time

from gradio.utils import get_upload_folder
from pydantic import TypeAdapter

import refgc
from refgc import hub
from refgc.doctor import base_source
from refgc.engine import EngineName
from refgc.imaging.files import MEGABYTE
from refgc.page.pictures import ShownResult
from refgc.page.service.limits import HOUR
from refgc.page.service.logs import logger
from refgc.page.service.storage import remove
from refgc.settings import Settings, setting
from refgc.wheels import weights_folder

RESULT_FILE = "result.json"
# A folder that is younger may be one that another process is about to put into the index.
UNINDEXED_SECONDS = 3600.0
BUSY_SECONDS = 10.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, folder TEXT NOT NULL, digest TEXT NOT NULL, bytes INTEGER NOT NULL, made REAL NOT NULL,
    used REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS secret (only INTEGER PRIMARY KEY, value BLOB NOT NULL);
"""
LEAST_RECENTLY_USED = """
SELECT key, folder FROM (SELECT key, folder, sum(bytes) OVER (ORDER BY used DESC, key) AS total FROM results)
WHERE total > ?
"""
# Settings whose text decides the pixels of the diffusion engine.
ENGINE_SETTINGS = ("REFGC_SPEED", "REFGC_DEVICE", "REFGC_TOGETHER")

SHOWN_RESULT = TypeAdapter(ShownResult)


class ResultCache:
    """Results of earlier runs, bounded in bytes and age; safe to share among threads and processes."""

    def __init__(
        self, folder: Path, *, max_bytes: float, max_seconds: float, clock: Callable[[], float] = time
    ) -> None:
        """Makes the folder where it is missing, readable by this server alone.

        Args:
            folder: holds the index and the entries.
            max_bytes: how much the entries may take.
            max_seconds: how old they may get.
            clock: seconds since the epoch.

        Raises:
            OSError: the folder cannot be made, or is somebody else's.
        """
        self._folder, self._entries = folder, folder / "entries"
        self._max_bytes, self._max_seconds, self._clock = max_bytes, max_seconds, clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or (hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid()):
            raise PermissionError(f"{folder} belongs to somebody else")
        folder.chmod(0o700)
        self._secret = secrets.token_bytes(32)
        with self._index() as index:
            index.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (self._secret,))
            (self._secret,) = index.execute("SELECT value FROM secret").fetchone()

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
            with self._index() as index:
                query = "SELECT folder, digest FROM results WHERE key = ? AND made >= ?"
                found = index.execute(query, (key, self._clock() - self._max_seconds)).fetchone()
                if found is None:
                    return None
                index.execute("UPDATE results SET used = ? WHERE key = ?", (self._clock(), key))
        except sqlite3.Error as error:
            logger.warning("index of results not read", exc_info=error)
            return None
        name, digest = found
        try:
            shutil.copytree(self._entries / name, folder, copy_function=_link)
            if _folder_digest(folder) != digest:
                raise ValueError("a file has changed")
            text = (folder / RESULT_FILE).read_text(encoding="utf-8").replace(name, _as_json(folder))
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
            shutil.copytree(folder, entry, copy_function=_link)
            # The name of the entry stands for the folder. It cannot be guessed, so that it is nowhere else in the text.
            text = SHOWN_RESULT.dump_json(result).decode().replace(_as_json(folder), name)
            (entry / RESULT_FILE).write_text(text, encoding="utf-8")
            size = sum(file.lstat().st_size for file in entry.iterdir())
            row = (key, name, _folder_digest(entry), size, self._clock(), self._clock())
            with self._index() as index:
                is_new = index.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?)", row).rowcount
        except (OSError, sqlite3.Error) as error:
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
            with self._index() as index:
                old = index.execute("SELECT key, folder FROM results WHERE made < ?", (now - self._max_seconds,))
                doomed = old.fetchall() + index.execute(LEAST_RECENTLY_USED, (limit,)).fetchall()
                indexed = {folder for (folder,) in index.execute("SELECT folder FROM results")}
        except sqlite3.Error as error:
            logger.warning("cache of results not trimmed", exc_info=error)
            return
        self._delete(doomed)
        for entry in self._entries.glob("*"):
            with suppress(FileNotFoundError):
                if entry.name not in indexed and entry.lstat().st_mtime < time() - UNINDEXED_SECONDS:
                    remove(entry)

    def _delete(self, rows: list[tuple[str, str]]) -> None:
        with suppress(sqlite3.Error), self._index() as index:
            index.executemany("DELETE FROM results WHERE key = ? AND folder = ?", rows)
        for _, name in rows:
            remove(self._entries / name)

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """The index, made anew where it is missing or damaged; changes are committed at the end."""
        self._entries.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            index = self._open_index()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("damaged index of results deleted", exc_info=error)
            for file in self._folder.glob("index.sqlite*"):
                file.unlink(missing_ok=True)
            index = self._open_index()
        with closing(index), index:
            yield index

    def _open_index(self) -> sqlite3.Connection:
        index = sqlite3.connect(self._folder / "index.sqlite", timeout=BUSY_SECONDS)
        try:
            index.execute("PRAGMA journal_mode = WAL")
            index.executescript(SCHEMA)
            # Otherwise a page that is damaged would be noticed only by the query that needs it, and stay.
            (found,) = index.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        except sqlite3.Error:
            index.close()
            raise
        return index


def open_cache(settings: Settings) -> ResultCache | None:
    """The cache of this installation, beside the folder of uploads; None where nothing is kept."""
    if not settings.cache_megabytes:
        return None
    uploads = Path(get_upload_folder()).absolute()
    folder = uploads.with_name(f"{uploads.name}-results")
    try:
        return ResultCache(
            folder, max_bytes=settings.cache_megabytes * MEGABYTE, max_seconds=settings.keep_hours * HOUR
        )
    except (OSError, sqlite3.Error) as error:
        logger.warning("no results are cached", exc_info=error)
        return None


def engine_fingerprint(engine: EngineName) -> str:
    """An engine with its code, the installed packages and its weights: as long as this stays, so do its results."""
    common = f"{engine} {_installed()} {_states(weights_folder().glob('*'))}"
    if engine == "correspondence":
        return common
    return f"{common} {[setting(name) for name in ENGINE_SETTINGS]} {_weights()}"


@cache
def _installed() -> str:
    """A digest of this package's code, and of the names and versions of everything that is installed."""
    digest = blake2b(digest_size=16)
    for path in sorted(Path(refgc.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(repr(sorted((package.name, package.version) for package in distributions())).encode())
    return digest.hexdigest()


def _weights() -> str:
    """Where the weights of the diffusion engine are, and the state of each file of them."""
    found = []
    for source, files in ((base_source(), hub.PIPELINE_FILES), (setting(hub.ADAPTER), hub.ADAPTER_FILES)):
        folder = hub.on_disk(source, files) if source else None
        found.append((source, _states(folder.rglob("*") if folder else ())))
    adapter = setting(hub.ADAPTER)
    lora = hub.find_lora(adapter) if adapter else None
    return str((found, _states([lora] if lora else ())))


def _states(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of each file among the paths."""
    files = sorted(path for path in paths if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _link(source: str, target: str) -> None:
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


def _as_json(path: Path) -> str:
    """A path as it stands within the JSON text of a longer one."""
    return json.dumps(str(path), ensure_ascii=False)[1:-1]
