"""What people say of the rows: who is to look at which row, what becomes of it, and how well the people agree.

Each row goes to two people. Where they disagree, it goes to a third, and the majority decides. Several people may work
at once: a row that is shown to somebody is leased to that person for some time, so that nobody else gets it needlessly.

How many people a row needs is chosen when a review starts, and stands in `review.json` of the dataset, so that whoever
reads verdicts comes to the same decisions.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, ValidationError

from refgc.dataset.corrections import CORRECTIONS, Correction
from refgc.dataset.manifest import VERDICTS, Row, Verdict, append_row, read_rows
from refgc.errors import InputError, quoted
from refgc.imaging.files import write_whole

if TYPE_CHECKING:
    from filelock import FileLock

Decision: TypeAlias = Literal["accepted", "rejected", "disputed", "unreviewed"]
# Of rows that somebody has to look at.
OPEN = ("disputed", "unreviewed")

REVIEW = "review.json"
RATERS_PER_ROW = 2
# Far longer than anybody looks at the few rows that a page holds; whoever comes back later gets them anew if they are
# still open. Chosen by hand.
LEASE_SECONDS = 600.0
LONGEST_NAME = 60
LOCK_FILE = ".review.lock"


class Review(Row):
    """What `review.json` says.

    Attributes:
        raters_per_row: see `verdict_of`.
    """

    raters_per_row: Annotated[int, Field(ge=1)] = RATERS_PER_ROW


def verdict_of(verdicts: Iterable[Verdict], raters_per_row: int = RATERS_PER_ROW) -> Decision:
    """What becomes of a row.

    Args:
        verdicts: of this row, in the order they were given; a person's last one counts.
        raters_per_row: people who have to agree. Where they do not, one more is asked at a time, until there is a
            majority.

    Returns:
        "unreviewed" until so many people have looked; "disputed" while they do not agree and one more is to be asked.
    """
    last = {verdict.rater: verdict.accepted for verdict in verdicts}
    accepting = sum(last.values())
    rejecting = len(last) - accepting
    if len(last) < raters_per_row:
        return "unreviewed"
    if accepting == rejecting or (accepting and rejecting and len(last) == raters_per_row):
        return "disputed"
    return "accepted" if accepting > rejecting else "rejected"


def read_review(root: Path) -> Review:
    """How the last review of a dataset was started; `RATERS_PER_ROW` where there was none.

    Raises:
        InputError: the file cannot be read, or says something else.
    """
    try:
        return Review.model_validate_json((root / REVIEW).read_bytes())
    except FileNotFoundError:
        return Review()
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{quoted(str(root / REVIEW))} cannot be used; write how many people a row needs, such as "
            f'{{"raters_per_row": {RATERS_PER_ROW}}}.'
        ) from error


def read_decisions(root: Path, on_fault: Callable[[InputError], None] | None = None) -> dict[str, Decision]:
    """What becomes of each row that somebody has looked at; every other row is "unreviewed".

    Args:
        root: the dataset's folder.
        on_fault: told of each line that is no verdict, which is then left out, and of a `review.json` that cannot be
            used, in place of which `RATERS_PER_ROW` counts; None raises.

    Raises:
        InputError: the file of verdicts or `review.json` cannot be read.
    """
    review = Review()
    try:
        review = read_review(root)
    except InputError as error:
        if on_fault is None:
            raise
        on_fault(error)
    by_row: dict[str, list[Verdict]] = {}
    for verdict in read_rows(root / VERDICTS, Verdict, on_fault):
        by_row.setdefault(verdict.row, []).append(verdict)
    return {row: verdict_of(verdicts, review.raters_per_row) for row, verdicts in by_row.items()}


def agreement_of(judged: Iterable[Sequence[bool]]) -> float | None:
    """Krippendorff's alpha of what people said: 1 where they always agree, 0 where they agree as chance would.

    Krippendorff, Content Analysis (2004), for nominal data.

    Args:
        judged: for each row what people said of it, True where it was accepted.

    Returns:
        None where no row was judged by two people, or where all said the same of all rows, which leaves alpha
        undefined.
    """
    import krippendorff

    counts = np.array([(len(said) - sum(said), sum(said)) for said in judged if len(said) > 1]).reshape(-1, 2)
    if not counts.sum(axis=0).all():
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def checked_name(text: str) -> str:
    """The name or number of a person, without blanks around it.

    Raises:
        InputError: it is empty, too long, or has characters that cannot be seen.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InputError(f"A name or number has 1 to {LONGEST_NAME} letters that can be read; give another one.")
    return name


@dataclass(frozen=True, slots=True)
class Counts:
    """How far the review is.

    Attributes:
        accepted: rows.
        rejected: rows.
        disputed: rows that wait for one more person.
        unreviewed: rows that not enough people have looked at.
        yours: rows that the asking person has judged.
        left: rows that the asking person may still be shown.
    """

    accepted: int
    rejected: int
    disputed: int
    unreviewed: int
    yours: int
    left: int


class VerdictLog:
    """The verdicts of one dataset, read once and then added to by this process alone.

    All methods may be called from any thread. What was said before is never changed: a later verdict of the same person
    takes its place.
    """

    def __init__(
        self,
        root: Path,
        rows: Mapping[str, str | None],
        *,
        raters_per_row: int | None = None,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Reads what was said before, and locks the dataset against other processes that would write verdicts.

        The system lets go of the lock when the process ends, however it ends. How many people a row needs is written
        into `review.json`.

        Args:
            root: the dataset's folder.
            rows: ids of the rows to be reviewed, in the order in which they are shown; by each the id of the row that
                it was made of, or None. While that one is rejected, the row itself is not shown.
            raters_per_row: see `verdict_of`; None takes what the review before had.
            lease_seconds: how long a row is kept for the person it was given to.
            clock: seconds that never go back.

        Raises:
            InputError: another process has the dataset, the folder is missing or cannot be written, or the file of
                verdicts or `review.json` cannot be read.
        """
        self._root = root
        self._lease_seconds, self._clock = lease_seconds, clock
        self._lock = Lock()
        self._file_lock = _locked(root)
        try:
            self._wanted = _begun(root, raters_per_row)
            self._made_of = dict(rows)
            self._offspring: dict[str, list[str]] = {}
            for row, origin in rows.items():
                if origin is not None:
                    self._offspring.setdefault(origin, []).append(row)
            # Of each row, by person; a person's place is that of the first verdict.
            self._said: dict[str, dict[str, Verdict]] = {}
            # Of each person, the last one at the end.
            self._history: dict[str, dict[str, None]] = {}
            for verdict in read_rows(root / VERDICTS, Verdict):
                self._remember(verdict)
            # By row and person, until when; a row that is open is in one of the queues, the most urgent first.
            self._leases: dict[str, dict[str, float]] = {}
            self._queues: tuple[dict[str, None], ...] = ({}, {}, {})
            self._states: dict[str, Decision | Literal["dropped"]] = {}
            self._number: Counter[str] = Counter()
            # Of each open row who judged it, and of each person how many of those rows.
            self._judges: dict[str, tuple[str, ...]] = {}
            self._waiting: Counter[str] = Counter()
            for row in rows:
                self._sort_in(row)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VerdictLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process have the dataset."""
        self._file_lock.release()

    def lease(self, rater: str, most: int, holding: Iterable[str] = ()) -> list[str]:
        """Rows for a person to look at, kept for this person for some time.

        A disputed row comes before one that somebody has looked at, and that before a fresh one. A row is given to no
        more people at once than are needed to decide it.

        Args:
            rater: who asks.
            most: number of rows beside those held.
            holding: rows that the person's page has already. They are kept on where they are still needed.

        Returns:
            Rows beside those held. Fewer than `most` where no more are needed from this person now.
        """
        with self._lock:
            now = self._clock()
            held = set(holding)
            for row in held:
                if row in self._made_of and self._needs(row, rater, now):
                    self._leases.setdefault(row, {})[rater] = now + self._lease_seconds
            given = list(
                islice(
                    (row for row in chain(*self._queues) if row not in held and self._needs(row, rater, now)),
                    max(0, most),
                )
            )
            for row in given:
                self._leases.setdefault(row, {})[rater] = now + self._lease_seconds
            return given

    def give_back(self, rater: str) -> None:
        """End all leases of a person who leaves."""
        with self._lock:
            for row in list(self._leases):
                self._end_lease(row, rater)

    def record(self, row: str, rater: str, *, accepted: bool, reasons: Sequence[str], seconds: float) -> Verdict:
        """Write down what a person says of a row; it is on the disk when this returns.

        Raises:
            InputError: there is no such row.
            OSError: the disk is full or the file may not be written; nothing has changed.
        """
        if row not in self._made_of:
            raise InputError(f"There is no row {quoted(row)} to review in this dataset.")
        verdict = Verdict(
            row=row, rater=rater, accepted=accepted, reasons=tuple(reasons), time=utc_now(), seconds=round(seconds, 3)
        )
        with self._lock:
            append_row(self._root / VERDICTS, verdict)
            self._remember(verdict)
            self._end_lease(row, rater)
            self._sort_in(row)
            for offspring in self._offspring.get(row, ()):
                self._sort_in(offspring)
        return verdict

    def correct(self, correction: Correction) -> None:
        """Write down a mended mask; it is on the disk when this returns.

        Raises:
            OSError: the disk is full or the file may not be written; nothing has changed.
        """
        with self._lock:
            append_row(self._root / CORRECTIONS, correction)

    def said_by(self, row: str, rater: str) -> Verdict | None:
        """What a person said of a row last."""
        with self._lock:
            return self._said.get(row, {}).get(rater)

    def history(self, rater: str, most: int) -> list[str]:
        """The rows that a person judged last, the latest first."""
        with self._lock:
            return list(islice(reversed(self._history.get(rater, {})), most))

    def counts(self, rater: str) -> Counts:
        """How far the review is, in all and for one person. Rows that were made of rejected ones do not count."""
        with self._lock:
            number = self._number
            return Counts(
                accepted=number["accepted"],
                rejected=number["rejected"],
                disputed=number["disputed"],
                unreviewed=number["unreviewed"],
                yours=len(self._history.get(rater, {})),
                left=sum(map(len, self._queues)) - self._waiting[rater],
            )

    def agreement(self) -> float | None:
        """Krippendorff's alpha over all rows; see `agreement_of`.

        Of each row those count who were asked first. Who is asked after a dispute sees disputed rows only, which would
        make alpha too low.
        """
        with self._lock:
            judged = [
                [verdict.accepted for verdict in islice(said.values(), max(2, self._wanted))]
                for said in self._said.values()
            ]
        return agreement_of(judged)

    def _remember(self, verdict: Verdict) -> None:
        # Of a row that is not reviewed now nothing is needed, such as one of a triplet where pairs are reviewed.
        if verdict.row not in self._made_of:
            return
        self._said.setdefault(verdict.row, {})[verdict.rater] = verdict
        judged = self._history.setdefault(verdict.rater, {})
        judged.pop(verdict.row, None)
        judged[verdict.row] = None

    def _sort_in(self, row: str) -> None:
        """Puts a row into the queue where it belongs, at its end unless it is there already."""
        said = self._said.get(row, {})
        state = "dropped" if self._is_dropped(row) else verdict_of(said.values(), self._wanted)
        if row in self._states:
            self._number[self._states[row]] -= 1
        self._states[row] = state
        self._number[state] += 1
        self._waiting.subtract(self._judges.pop(row, ()))
        if state in OPEN and said:
            self._judges[row] = tuple(said)
            self._waiting.update(said.keys())
        right = {"disputed": 0, "unreviewed": 1 if said else 2}.get(state)
        for number, queue in enumerate(self._queues):
            if number == right:
                queue.setdefault(row)
            else:
                queue.pop(row, None)

    def _is_dropped(self, row: str) -> bool:
        origin = self._made_of[row]
        if origin is None:
            return False
        return verdict_of(self._said.get(origin, {}).values(), self._wanted) == "rejected"

    def _needs(self, row: str, rater: str, now: float) -> bool:
        """Whether a row needs this person beside those who judged it and those who are looking at it."""
        said = self._said.get(row, {})
        if rater in said or self._states[row] not in OPEN:
            return False
        leases = self._leases.get(row, {})
        for other, end in list(leases.items()):
            if end <= now:
                del leases[other]
        asked = len(said.keys() | leases.keys() - {rater})
        return asked < max(self._wanted, len(said) + (self._states[row] == "disputed"))

    def _end_lease(self, row: str, rater: str) -> None:
        leases = self._leases.get(row, {})
        leases.pop(rater, None)
        if not leases:
            self._leases.pop(row, None)


def _begun(root: Path, raters_per_row: int | None) -> int:
    """How many people a row needs, written down for whoever reads the verdicts."""
    review = read_review(root) if raters_per_row is None else Review(raters_per_row=raters_per_row)
    write_whole(root / REVIEW, f"{review.model_dump_json()}\n".encode())
    return review.raters_per_row


def _locked(root: Path) -> FileLock:
    from filelock import FileLock, Timeout

    # Else the folder would be made.
    if not root.is_dir():
        raise InputError(f"There is no folder {quoted(str(root))}; give that of a dataset.")
    lock = FileLock(root / LOCK_FILE, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"The dataset {quoted(str(root))} is under review by another process; open the page of that one, or end it."
        ) from error
    except OSError as error:
        raise InputError(
            f"The folder {quoted(str(root))} cannot be written ({error.strerror}); verdicts are kept in it."
        ) from error
    return lock


def utc_now() -> str:
    """The time as verdicts and corrections have it: UTC, ISO 8601, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
