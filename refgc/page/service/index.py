"""The index of cached results: a SQLite file on a disk of this machine, or files in a folder that several machines see.

SQLite with several writers needs memory that these share, which machines do not have. In a folder each entry is a file
of its own; a link to a finished file is made in one step, on network file systems too.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from refgc.page.service.logs import logger

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
# What reading or writing an index may raise.
INDEX_ERRORS = (sqlite3.Error, OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class Row:
    """A cached result.

    Attributes:
        folder: the name of its folder among the entries.
        digest: of what is in it.
        bytes: its size.
        made: when it was made, in seconds since the epoch.
    """

    folder: str
    digest: str
    bytes: int
    made: float


class Index(Protocol):
    """Which results are cached; each method raises one of `INDEX_ERRORS` where the index cannot be read or written."""

    def secret(self) -> bytes:
        """The secret of this installation; made by whoever asks first."""
        ...

    def find(self, key: str, since: float) -> Row | None:
        """The result of a key, which counts as used now; None where there is none that was made since then."""
        ...

    def add(self, key: str, row: Row) -> bool:
        """Adds a result; False where its key has one."""
        ...

    def surplus(self, since: float, max_bytes: float) -> tuple[list[tuple[str, str]], set[str]]:
        """Key and folder of what was made before or has no room, and the folders of all results.

        Args:
            since: seconds since the epoch; what was made earlier is too old.
            max_bytes: how much may stay, what was used last first.
        """
        ...

    def remove(self, rows: list[tuple[str, str]]) -> None:
        """Removes results, given by key and folder."""
        ...


class SqliteIndex:
    """The index on a disk of this machine; safe to share among threads and processes."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        """Nothing is opened yet.

        Args:
            folder: holds its file.
            clock: seconds since the epoch.
        """
        self._folder, self._clock = folder, clock

    def secret(self) -> bytes:
        """See `Index`."""
        with self._index() as index:
            index.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_bytes(32),))
            (secret,) = index.execute("SELECT value FROM secret").fetchone()
        return bytes(secret)

    def find(self, key: str, since: float) -> Row | None:
        """See `Index`."""
        with self._index() as index:
            query = "SELECT folder, digest, bytes, made FROM results WHERE key = ? AND made >= ?"
            found = index.execute(query, (key, since)).fetchone()
            if found is None:
                return None
            index.execute("UPDATE results SET used = ? WHERE key = ?", (self._clock(), key))
        return Row(*found)

    def add(self, key: str, row: Row) -> bool:
        """See `Index`."""
        values = (key, row.folder, row.digest, row.bytes, row.made, row.made)
        with self._index() as index:
            return bool(index.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?)", values).rowcount)

    def surplus(self, since: float, max_bytes: float) -> tuple[list[tuple[str, str]], set[str]]:
        """See `Index`."""
        with self._index() as index:
            old = index.execute("SELECT key, folder FROM results WHERE made < ?", (since,))
            doomed = old.fetchall() + index.execute(LEAST_RECENTLY_USED, (max_bytes,)).fetchall()
            return doomed, {folder for (folder,) in index.execute("SELECT folder FROM results")}

    def remove(self, rows: list[tuple[str, str]]) -> None:
        """See `Index`."""
        with self._index() as index:
            index.executemany("DELETE FROM results WHERE key = ? AND folder = ?", rows)

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """The index, made anew where it is missing or damaged; changes are committed at the end."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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


class FolderIndex:
    """The index in a folder that several machines see: a file for each result, whose time says when it was used."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        """Nothing is opened yet.

        Args:
            folder: holds its files.
            clock: seconds since the epoch.
        """
        self._folder, self._clock = folder / "index", clock

    def secret(self) -> bytes:
        """See `Index`."""
        self._write(self._folder.with_name("secret"), secrets.token_bytes(32))
        return self._folder.with_name("secret").read_bytes()

    def find(self, key: str, since: float) -> Row | None:
        """See `Index`."""
        file = self._folder / key
        try:
            row = self._read(file)
            if row.made < since:
                return None
            os.utime(file, (self._clock(), self._clock()))
        except FileNotFoundError:
            return None
        return row

    def add(self, key: str, row: Row) -> bool:
        """See `Index`."""
        return self._write(self._folder / key, json.dumps(asdict(row)).encode())

    def surplus(self, since: float, max_bytes: float) -> tuple[list[tuple[str, str]], set[str]]:
        """See `Index`."""
        found: list[tuple[float, str, Row]] = []
        for file in self._folder.glob("[!.]*"):
            # Another page may have removed it.
            with suppress(FileNotFoundError):
                found.append((file.stat().st_mtime, file.name, self._read(file)))
        doomed, total = [], 0
        for _, key, row in sorted(found, key=lambda one: (-one[0], one[1])):
            total += row.bytes
            if row.made < since or total > max_bytes:
                doomed.append((key, row.folder))
        return doomed, {row.folder for _, _, row in found}

    def remove(self, rows: list[tuple[str, str]]) -> None:
        """See `Index`."""
        for key, _ in rows:
            (self._folder / key).unlink(missing_ok=True)

    def _read(self, file: Path) -> Row:
        """The row in a file; one that is damaged is deleted, as if it had never been there."""
        content = file.read_bytes()
        try:
            return Row(**json.loads(content))
        except (ValueError, TypeError) as error:
            logger.warning("damaged entry of the index deleted", exc_info=error)
            file.unlink(missing_ok=True)
            raise FileNotFoundError(file) from error

    def _write(self, file: Path, content: bytes) -> bool:
        """Writes a file whole, unless it is there; whether it was not."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.parent / f".{secrets.token_hex(16)}"
        try:
            draft.write_bytes(content)
            os.utime(draft, (self._clock(), self._clock()))
            try:
                os.link(draft, file)
            except FileExistsError:
                return False
            except OSError:
                # A file system without links. Where two pages write at once, the later one counts.
                if file.exists():
                    return False
                draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
        return True
