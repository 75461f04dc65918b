"""Rows joined: each triplet with its pair, and with what people say of both."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from refgc.dataset.check import check_is_dataset
from refgc.dataset.corrections import corrected, read_corrections, read_pairs
from refgc.dataset.manifest import PAIRS, TRIPLETS, Pair, StoredFile, Triplet, placed_rows, read_rows, row_at
from refgc.dataset.verdicts import Decision, read_decisions
from refgc.errors import InputError, quoted

UNSPLIT = "unsplit"


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the dataset as others want it.

    Attributes:
        pair: HRRI and HRGT, with their mended masks.
        triplet: the LRGI; None in a dataset that has pairs only.
        decision: on the pair and on the triplet, see `joint_decision`.
    """

    pair: Pair
    triplet: Triplet | None
    decision: Decision

    @property
    def id(self) -> str:
        """Of the triplet, or of the pair where there is none."""
        return self.pair.id if self.triplet is None else self.triplet.id

    @property
    def split(self) -> str:
        """The pair's, or "unsplit"."""
        return self.pair.split or UNSPLIT

    def files(self) -> dict[str, StoredFile]:
        """Pictures and masks by their short names, without those that the entry does not have."""
        files = {
            "hrri": self.pair.hrri.picture,
            "hrri_mask": self.pair.hrri.mask,
            "hrgt": self.pair.hrgt.picture,
            "hrgt_mask": self.pair.hrgt.mask,
        }
        if self.triplet is not None:
            files["lrgi"] = self.triplet.lrgi
            if self.triplet.lrgi_panel is not None:
                files["lrgi_panel"] = self.triplet.lrgi_panel
        return files


# The short names of all files that an entry can have.
FILE_NAMES = ("hrri", "hrri_mask", "hrgt", "hrgt_mask", "lrgi", "lrgi_panel")


def joint_decision(pair: Decision, triplet: Decision) -> Decision:
    """What becomes of a triplet, from the decisions on its pair and on itself.

    A decision against either is enough. One for either is enough as well: who looks at a triplet sees its pair, and a
    pair that is good gives a triplet whose pose the program checks.
    """
    strongest: tuple[Decision, ...] = ("rejected", "disputed", "accepted")
    return next((decision for decision in strongest if decision in (pair, triplet)), "unreviewed")


def read_entries(root: Path, *, unreviewed: bool) -> Iterator[Entry]:
    """The triplets of a dataset that may be used, in the order of triplets.jsonl; its pairs where it has no triplets.

    Rejected and disputed ones are left out.

    Args:
        root: folder of the dataset.
        unreviewed: take those as well that not enough people have looked at.

    Raises:
        InputError: there is no dataset, a row cannot be read, or the pair of a triplet is not there.
    """
    taken = ("accepted", "unreviewed") if unreviewed else ("accepted",)
    return (entry for entry in _all_entries(root) if entry.decision in taken)


def check_some_entries(root: Path, *, unreviewed: bool, choice: str = "--unreviewed") -> None:
    """Refuses a dataset of which nothing may be used.

    Args:
        root: the dataset's folder.
        unreviewed: whether rows may be used that too few people have looked at.
        choice: how whoever asked chooses that.

    Raises:
        InputError: as for `read_entries`; or nothing is left, and the sentence says why.
    """
    if next(read_entries(root, unreviewed=unreviewed), None) is not None:
        return
    numbers = Counter(entry.decision for entry in _all_entries(root))
    if not numbers:
        raise InputError(f"The dataset in {quoted(str(root))} has no rows; make some with `refgc dataset pairs`.")
    told = ", ".join(f"{number} {decision}" for decision, number in numbers.most_common())
    advice = f"review them, or take them as they are with {choice}" if numbers["unreviewed"] else "review more"
    raise InputError(f"No row of the dataset in {quoted(str(root))} may be used ({told}); {advice}.")


def _all_entries(root: Path) -> Iterator[Entry]:
    check_is_dataset(root)
    decisions = read_decisions(root)
    if not (root / TRIPLETS).is_file():
        for pair in read_pairs(root):
            yield Entry(pair, None, decisions.get(pair.id, "unreviewed"))
        return
    corrections = read_corrections(root)
    # Pairs lie on the disk, and only their places in a database that goes to the disk where it grows large.
    with closing(sqlite3.connect("")) as database, (root / PAIRS).open("rb") as pairs:
        database.execute("CREATE TABLE places (id TEXT PRIMARY KEY, start INTEGER) WITHOUT ROWID")
        places = ((pair.id, start) for start, pair in placed_rows(root / PAIRS, Pair))
        database.executemany("INSERT OR IGNORE INTO places VALUES (?, ?)", places)
        for triplet in read_rows(root / TRIPLETS, Triplet):
            found = database.execute("SELECT start FROM places WHERE id = ?", (triplet.pair,)).fetchone()
            if found is None:
                raise InputError(
                    f"The triplet {quoted(triplet.id)} is of the pair {quoted(triplet.pair)}, which is not in the "
                    "dataset; `refgc dataset check` lists such rows."
                )
            pair = corrected(row_at(pairs, found[0], Pair), corrections)
            decision = joint_decision(decisions.get(pair.id, "unreviewed"), decisions.get(triplet.id, "unreviewed"))
            yield Entry(pair, triplet, decision)
