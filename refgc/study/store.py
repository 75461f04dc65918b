"""The answers of a study, in one SQLite file: who was shown what, and what they chose.

One connection writes, and one thread at a time uses it. Each answer is on the disk before the page hears of it
(write-ahead log, every commit synchronised), so that a process may be killed at any moment. The file may be read
meanwhile. Nothing in it says who somebody is: people have a number, and a random code with which they come back.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple

from refgc.errors import InputError, quoted
from refgc.study.definition import ANSWERS, Kind, Study
from refgc.study.design import Showing, showings

# Letters and figures that nobody mistakes for another; ten of them cannot be guessed.
CODE_LETTERS, CODE_LENGTH = "23456789ABCDEFGHJKMNPQRSTUVWXYZ", 10
# Seconds that a process waits for another one that writes.
PATIENCE = 10.0
# Far more than any study has; whoever fills the file on purpose ends here.
MOST_RATERS = 2000

_TABLES = """
CREATE TABLE IF NOT EXISTS study (digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (
    number INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, withdrawn INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS showings (
    rater INTEGER NOT NULL REFERENCES raters (number), place INTEGER NOT NULL, token TEXT NOT NULL UNIQUE,
    item TEXT NOT NULL, kind TEXT NOT NULL, choices TEXT NOT NULL, seconds REAL, PRIMARY KEY (rater, place)
) STRICT;
CREATE TABLE IF NOT EXISTS answers (
    rater INTEGER NOT NULL, place INTEGER NOT NULL, question TEXT NOT NULL, choice TEXT,
    PRIMARY KEY (rater, place, question), FOREIGN KEY (rater, place) REFERENCES showings (rater, place)
) STRICT;
"""


class Trial(NamedTuple):
    """A showing on the page.

    Attributes:
        token: names it in addresses; random, so that it says nothing.
        place: from 0 on, in the sequence of the person.
        showing: what is shown.
    """

    token: str
    place: int
    showing: Showing


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a person is.

    Attributes:
        code: of the person.
        total: showings in all.
        done: those that are answered.
        trials: the next one and the one after it, as far as there are any.
    """

    code: str
    total: int
    done: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class AnsweredShowing:
    """A showing and what was said of it.

    Attributes:
        showing: what was shown.
        answers: by question the name of the choice, None for no difference; empty where it was not answered.
        seconds: how long the person looked; None where it was not answered.
    """

    showing: Showing
    answers: Mapping[str, str | None]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class RaterRecord:
    """All of one person.

    Attributes:
        number: of the person.
        withdrawn: whether the answers were deleted on request.
        showings: in order.
    """

    number: int
    withdrawn: bool
    showings: tuple[AnsweredShowing, ...]

    @property
    def answered(self) -> int:
        """How many showings were answered."""
        return sum(bool(shown.answers) for shown in self.showings)


class AnswerStore:
    """Writes the answers of one study. All methods may be called from any thread."""

    def __init__(self, folder: Path, study: Study) -> None:
        """Opens the file, and makes it where it is missing.

        Args:
            folder: of the study.
            study: what is asked.

        Raises:
            InputError: the file is none of this study, is damaged, or cannot be written.
        """
        self._study, self._path, self._lock = study, folder / ANSWERS, Lock()
        try:
            self._connection = sqlite3.connect(
                self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA foreign_keys = ON")
                # What a person takes back is overwritten, not only given free.
                self._connection.execute("PRAGMA secure_delete = ON")
                self._connection.executescript(_TABLES)
                self._claim()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise InputError(f"{quoted(str(self._path))} cannot be used ({error}); check it and its folder.") from error

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._connection.close()

    def begin(self) -> Standing:
        """Take a new person in.

        Raises:
            InputError: the study has `MOST_RATERS` people.
        """
        code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
        with self._writing() as connection:
            (number,) = connection.execute("SELECT count(*) FROM raters").fetchone()
            if number >= MOST_RATERS:
                raise InputError("This study is complete; thank you for your interest.")
            connection.execute("INSERT INTO raters (number, code) VALUES (?, ?)", (number, code))
            connection.executemany(
                "INSERT INTO showings (rater, place, token, item, kind, choices) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (number, place, secrets.token_urlsafe(12), shown.item, shown.kind, json.dumps(shown.order))
                    for place, shown in enumerate(showings(self._study, number))
                ],
            )
            return self._standing(connection, code)

    def resume(self, code: str) -> Standing:
        """How far a person is.

        Raises:
            InputError: nobody has this code, or its answers were deleted.
        """
        with self._lock:
            return self._standing(self._connection, normal_code(code))

    def record(self, code: str, token: str, places: Mapping[str, int], seconds: float) -> Standing:
        """Write down what a person says of the showing that comes next; it is on the disk when this returns.

        A showing that is answered already stays as it is, since the page sends again what it heard no answer to.

        Args:
            code: of the person.
            token: of the showing.
            places: by question the place of the chosen result, from 1 on; 0 for no difference.
            seconds: how long the person looked.

        Raises:
            InputError: it is not this person's showing, not the next one, a question has no answer, or a place is none.
        """
        with self._writing() as connection:
            standing = self._standing(connection, normal_code(code))
            found = connection.execute(
                "SELECT s.rater, s.place, s.choices, s.seconds FROM showings s JOIN raters r ON r.number = s.rater "
                "WHERE s.token = ? AND r.code = ?",
                (token, standing.code),
            ).fetchone()
            if found is None:
                raise InputError("These pictures are not shown to you; load the page again.")
            rater, place, choices, before = found
            if before is not None:
                return standing
            if place != standing.done:
                raise InputError("Other pictures come before these; load the page again.")
            names = [question.name for question in self._study.questions]
            order = json.loads(choices)
            if set(places) != set(names) or not all(0 <= chosen <= len(order) for chosen in places.values()):
                raise InputError(f"Each question has one answer, a number from 0 to {len(order)}; give all of them.")
            connection.executemany(
                "INSERT INTO answers (rater, place, question, choice) VALUES (?, ?, ?, ?)",
                [(rater, place, name, order[places[name] - 1] if places[name] else None) for name in names],
            )
            connection.execute(
                "UPDATE showings SET seconds = ? WHERE rater = ? AND place = ?", (round(seconds, 1), rater, place)
            )
            return self._standing(connection, standing.code)

    def withdraw(self, code: str) -> None:
        """Delete what a person said; only the number of the person stays, since others' orders depend on it.

        Raises:
            InputError: nobody has this code, or it was done before.
        """
        with self._writing() as connection:
            number = self._number(connection, normal_code(code))
            connection.execute("DELETE FROM answers WHERE rater = ?", (number,))
            connection.execute("DELETE FROM showings WHERE rater = ?", (number,))
            connection.execute(
                "UPDATE raters SET withdrawn = 1, code = ? WHERE number = ?", (f"withdrawn {number}", number)
            )
        # The write-ahead log still has what was deleted. A report that reads just now keeps it until the next one.
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def shown(self, token: str) -> Showing:
        """The showing of a token.

        Raises:
            InputError: there is none.
        """
        with self._lock:
            row = self._connection.execute(
                "SELECT item, kind, choices FROM showings WHERE token = ?", (token,)
            ).fetchone()
        if row is None:
            raise InputError("There is no such picture; load the page again.")
        return _showing(*row)

    def count(self) -> tuple[int, int]:
        """People who began and did not withdraw, and those of them who are done."""
        with self._lock:
            (began,) = self._connection.execute("SELECT count(*) FROM raters WHERE NOT withdrawn").fetchone()
            (open_,) = self._connection.execute(
                "SELECT count(DISTINCT rater) FROM showings WHERE seconds IS NULL"
            ).fetchone()
        return began, began - open_

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, of which all is written or nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def _claim(self) -> None:
        """Writes down whose answers these are, or compares it with what is there."""
        with self._writing() as connection:
            row = connection.execute("SELECT digest FROM study").fetchone()
            if row is None:
                connection.execute("INSERT INTO study VALUES (?)", (self._study.digest,))
            elif row[0] != self._study.digest:
                raise InputError(_OTHER.format(place=quoted(str(self._path))))

    def _number(self, connection: sqlite3.Connection, code: str) -> int:
        row = connection.execute("SELECT number FROM raters WHERE code = ? AND NOT withdrawn", (code,)).fetchone()
        if row is None:
            raise InputError("Nobody has this code; look at it again, or begin anew.")
        return int(row[0])

    def _standing(self, connection: sqlite3.Connection, code: str) -> Standing:
        number = self._number(connection, code)
        (total,) = connection.execute("SELECT count(*) FROM showings WHERE rater = ?", (number,)).fetchone()
        rows = connection.execute(
            "SELECT place, token, item, kind, choices FROM showings WHERE rater = ? AND seconds IS NULL "
            "ORDER BY place LIMIT 2",
            (number,),
        ).fetchall()
        trials = tuple(Trial(token, place, _showing(item, kind, order)) for place, token, item, kind, order in rows)
        return Standing(code, total, trials[0].place if trials else total, trials)


_OTHER = (
    "{place} has the answers of another study: methods, items or settings have changed since; put study.json back as "
    "it was, or make a new study."
)


def normal_code(text: str) -> str:
    """A code without what people put into it: small letters, blanks and hyphens."""
    return "".join(letter for letter in text.upper() if letter.isalnum())


def read_records(folder: Path, study: Study) -> list[RaterRecord]:
    """All people of a study, in the order in which they came; the page may be running meanwhile.

    Raises:
        InputError: nobody has taken part yet, or the file is none of this study or is damaged.
    """
    place = folder / ANSWERS
    if not place.is_file():
        raise InputError(f"{quoted(str(folder))} has no answers yet; serve the study first.")
    try:
        with closing(sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro", timeout=PATIENCE, uri=True)) as connection:
            connection.execute("BEGIN")
            digest = connection.execute("SELECT digest FROM study").fetchone()
            raters = connection.execute("SELECT number, withdrawn FROM raters ORDER BY number").fetchall()
            rows = connection.execute(
                "SELECT rater, place, item, kind, choices, seconds FROM showings ORDER BY rater, place"
            ).fetchall()
            said = connection.execute("SELECT rater, place, question, choice FROM answers").fetchall()
    except sqlite3.Error as error:
        raise InputError(f"{quoted(str(place))} cannot be read ({error}); check it.") from error
    if digest is None or digest[0] != study.digest:
        raise InputError(_OTHER.format(place=quoted(str(place))))
    answers: dict[tuple[int, int], dict[str, str | None]] = {}
    for rater, at, question, choice in said:
        answers.setdefault((rater, at), {})[question] = choice
    shown: dict[int, list[AnsweredShowing]] = {}
    for rater, at, item, kind, order, seconds in rows:
        one = AnsweredShowing(_showing(item, kind, order), answers.get((rater, at), {}), seconds)
        shown.setdefault(rater, []).append(one)
    return [RaterRecord(number, bool(withdrawn), tuple(shown.get(number, ()))) for number, withdrawn in raters]


def _showing(item: str, kind: Kind, order: str) -> Showing:
    return Showing(item, kind, tuple(json.loads(order)))
