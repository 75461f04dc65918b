"""Verdicts: what becomes of a row, who is shown which, and that nothing said is lost."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from refgc.dataset.manifest import VERDICTS, Verdict, append_row, read_rows
from refgc.dataset.verdicts import (
    REVIEW,
    VerdictLog,
    agreement_of,
    checked_name,
    read_decisions,
    verdict_of,
)
from refgc.errors import InputError

YES, NO = True, False


def said(*verdicts: tuple[str, bool]) -> list[Verdict]:
    return [Verdict(row="r", rater=rater, accepted=accepted, time="t", seconds=1) for rater, accepted in verdicts]


def log_of(root: Path, number: int = 20, **options) -> VerdictLog:
    return VerdictLog(root, {f"row-{index}": None for index in range(number)}, **options)


def record(log: VerdictLog, row: str, rater: str, accepted: bool = True) -> None:
    log.record(row, rater, accepted=accepted, reasons=() if accepted else ("blurred",), seconds=1)


@pytest.mark.parametrize(
    ("verdicts", "raters", "decision"),
    [
        ([], 2, "unreviewed"),
        ([("a", YES)], 2, "unreviewed"),
        ([("a", YES), ("a", YES)], 2, "unreviewed"),
        ([("a", YES), ("b", YES)], 2, "accepted"),
        ([("a", NO), ("b", NO)], 2, "rejected"),
        ([("a", YES), ("b", NO)], 2, "disputed"),
        ([("a", YES), ("b", NO), ("c", YES)], 2, "accepted"),
        ([("a", YES), ("b", NO), ("c", NO)], 2, "rejected"),
        # A person's last word counts.
        ([("a", YES), ("b", NO), ("b", YES)], 2, "accepted"),
        ([("a", YES), ("b", YES), ("b", NO)], 2, "disputed"),
        ([("a", YES)], 1, "accepted"),
        ([("a", NO)], 1, "rejected"),
        ([("a", NO), ("b", YES)], 1, "disputed"),
        ([("a", YES), ("b", YES)], 3, "unreviewed"),
        ([("a", YES), ("b", YES), ("c", NO)], 3, "disputed"),
        ([("a", YES), ("b", YES), ("c", NO), ("d", NO)], 3, "disputed"),
        ([("a", YES), ("b", YES), ("c", NO), ("d", YES)], 3, "accepted"),
    ],
)
def test_what_becomes_of_a_row(verdicts, raters, decision):
    assert verdict_of(said(*verdicts), raters) == decision


def test_alpha_is_that_of_an_example_by_hand():
    # Coincidences: 4 of no-no (two rows), 2 of yes-yes, and 1 each of yes-no and no-yes; 8 values, 5 no and 3 yes.
    # Observed disagreement 2/8, expected 2*5*3/(8*7): alpha = 1 - (2/8) / (30/56) = 8/15.
    assert agreement_of([(NO, NO), (NO, NO), (YES, YES), (YES, NO)]) == pytest.approx(8 / 15)
    # What one person alone judged says nothing of agreement.
    assert agreement_of([(NO, NO), (NO, NO), (YES, YES), (YES, NO), (YES,)]) == pytest.approx(8 / 15)


@pytest.mark.parametrize("judged", [[], [(YES,)], [(YES, YES), (YES, YES)]])
def test_alpha_is_left_open_where_it_is_not_defined(judged):
    assert agreement_of(judged) is None


def test_who_settles_a_dispute_does_not_count_for_agreement(tmp_path):
    with log_of(tmp_path) as log:
        for row, verdicts in {"row-0": (NO, NO), "row-1": (NO, NO), "row-2": (YES, YES), "row-3": (YES, NO)}.items():
            for rater, accepted in zip("ab", verdicts, strict=True):
                record(log, row, rater, accepted)
        before = log.agreement()
        record(log, "row-3", "c", YES)
        assert before == log.agreement() == pytest.approx(8 / 15)


def test_two_people_get_a_row_and_a_third_only_after_a_dispute(tmp_path):
    with log_of(tmp_path, 2) as log:
        assert log.lease("a", 1) == ["row-0"]
        assert log.lease("b", 1) == ["row-0"]
        assert log.lease("c", 5) == ["row-1"]
        record(log, "row-0", "a", YES)
        record(log, "row-0", "b", NO)
        assert log.lease("c", 5) == ["row-0", "row-1"]
        assert "row-0" not in log.lease("d", 5)
        record(log, "row-0", "c", NO)
        assert read_decisions(tmp_path)["row-0"] == "rejected"
        assert "row-0" not in log.lease("d", 5)


def test_a_row_that_somebody_has_begun_comes_before_fresh_ones(tmp_path):
    with log_of(tmp_path) as log:
        record(log, "row-7", "a")
        assert log.lease("b", 2) == ["row-7", "row-0"]
        assert "row-7" not in log.lease("a", 20)


def test_leases_end_with_time_and_are_renewed_by_whoever_holds_them(tmp_path):
    now = [0.0]
    with log_of(tmp_path, 1, raters_per_row=1, lease_seconds=60, clock=lambda: now[0]) as log:
        assert log.lease("a", 1) == ["row-0"]
        assert log.lease("b", 1) == []
        now[0] = 50
        assert log.lease("a", 0, holding=["row-0"]) == []
        now[0] = 100
        assert log.lease("b", 1) == []
        now[0] = 111
        assert log.lease("b", 1) == ["row-0"]
        # Meanwhile it is another person's.
        log.lease("a", 0, holding=["row-0"])
        now[0] = 172
        assert log.lease("a", 1) == ["row-0"]


def test_a_row_is_free_at_once_when_its_holder_leaves(tmp_path):
    with log_of(tmp_path, 1, raters_per_row=1) as log:
        log.lease("a", 1)
        log.give_back("a")
        assert log.lease("b", 1) == ["row-0"]


def test_a_person_takes_a_verdict_back_by_a_later_one(tmp_path):
    with log_of(tmp_path) as log:
        record(log, "row-0", "a", YES)
        record(log, "row-1", "a", YES)
        assert log.history("a", 5) == ["row-1", "row-0"]
        record(log, "row-0", "a", NO)
        assert log.history("a", 5) == ["row-0", "row-1"]
        last = log.said_by("row-0", "a")
        assert last is not None
        assert last.reasons == ("blurred",)
        assert log.counts("a").yours == 2
    # Nothing that was said is gone from the file.
    assert [verdict.accepted for verdict in read_rows(tmp_path / VERDICTS, Verdict)] == [YES, YES, NO]


def test_rows_made_of_a_rejected_one_are_dropped_and_come_back_with_it(tmp_path):
    with VerdictLog(tmp_path, {"pair": None, "triplet": "pair"}, raters_per_row=1) as log:
        record(log, "pair", "a", NO)
        assert log.lease("b", 5) == []
        assert (log.counts("b").rejected, log.counts("b").unreviewed) == (1, 0)
        record(log, "pair", "a", YES)
        assert log.lease("b", 5) == ["triplet"]
        assert (log.counts("b").accepted, log.counts("b").unreviewed) == (1, 1)


def test_many_people_at_once_decide_every_row_with_no_more_looks_than_needed(tmp_path):
    rows, seed = 60, 7
    # One row in five is such that people differ.
    truth = {f"row-{index}": index % 5 != 0 for index in range(rows)}

    def work(log: VerdictLog, rater: str) -> None:
        chance = random.Random(f"{seed}{rater}")
        while log.counts(rater).left:
            given = log.lease(rater, 2)
            for row in given:
                accepted = truth[row] or chance.random() < 0.5
                record(log, row, rater, accepted)

    with log_of(tmp_path, rows) as log:
        people = [threading.Thread(target=work, args=(log, f"person {number}"), daemon=True) for number in range(8)]
        for person in people:
            person.start()
        for person in people:
            person.join(30)
            assert not person.is_alive()
        assert log.counts("nobody").left == 0
    by_row: dict[str, list[Verdict]] = {}
    for verdict in read_rows(tmp_path / VERDICTS, Verdict):
        by_row.setdefault(verdict.row, []).append(verdict)
    assert by_row.keys() == truth.keys()
    for verdicts in by_row.values():
        assert len({verdict.rater for verdict in verdicts}) == len(verdicts)
        agreed = verdicts[0].accepted == verdicts[1].accepted
        assert len(verdicts) == (2 if agreed else 3)
    assert set(read_decisions(tmp_path).values()) <= {"accepted", "rejected"}


def test_after_a_restart_decided_rows_are_left_alone(tmp_path):
    with log_of(tmp_path, 3) as log:
        for rater in "ab":
            record(log, "row-0", rater)
        record(log, "row-1", "a")
        before = log.counts("a")
    with log_of(tmp_path, 3) as log:
        assert log.counts("a") == before
        assert log.lease("a", 5) == ["row-2"]
        assert log.lease("b", 5) == ["row-1", "row-2"]
        assert log.lease("c", 5) == []


WRITER = """
import sys
from pathlib import Path
from refgc.dataset.verdicts import VerdictLog
with VerdictLog(Path(sys.argv[1]), {f"row-{index}": None for index in range(100_000)}) as log:
    for index in range(100_000):
        log.record(f"row-{index}", "a", accepted=True, reasons=(), seconds=1)
        print(index, flush=True)
"""


def test_what_was_recorded_outlives_a_kill_and_the_lock_does_not(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        with pytest.raises(InputError, match="under review by another process"):
            log_of(tmp_path)
        process.kill()
        told = 20 + len(process.stdout.read().split())
    # As if the next line had been cut in the middle.
    with (tmp_path / VERDICTS).open("ab") as file:
        file.write(b'{"row":"row-99","ra')
    with log_of(tmp_path, 100_000) as log:
        # The last one may have been written and not told.
        assert log.counts("a").yours in (told, told + 1)
        record(log, "row-99999", "b")
    lines = (tmp_path / VERDICTS).read_bytes().splitlines()
    assert json.loads(lines[-1])["row"] == "row-99999"
    assert len(lines) in (told + 1, told + 2)


@pytest.mark.parametrize(("raters", "decision"), [(1, "accepted"), (2, "unreviewed"), (None, "unreviewed")])
def test_whoever_reads_verdicts_learns_how_many_people_a_row_needs(tmp_path, raters, decision):
    with log_of(tmp_path, raters_per_row=raters) as log:
        record(log, "row-0", "a")
        assert getattr(log.counts("b"), decision) == (1 if raters == 1 else 20)
    assert json.loads((tmp_path / REVIEW).read_bytes()) == {"raters_per_row": raters or 2}
    assert read_decisions(tmp_path) == {"row-0": decision}


def test_a_review_goes_on_with_as_many_people_a_row_as_before(tmp_path):
    log_of(tmp_path, raters_per_row=1).close()
    with log_of(tmp_path) as log:
        record(log, "row-0", "a")
        assert log.counts("a").accepted == 1
    with log_of(tmp_path, raters_per_row=2) as log:
        assert log.counts("a").accepted == 0
    assert read_decisions(tmp_path) == {"row-0": "unreviewed"}


def test_without_a_review_two_people_are_needed(tmp_path):
    for rater in "ab":
        assert read_decisions(tmp_path) == ({} if rater == "a" else {"r": "unreviewed"})
        append_row(tmp_path / VERDICTS, said((rater, YES))[0])
    assert read_decisions(tmp_path) == {"r": "accepted"}


@pytest.mark.parametrize("content", ["", "2", '{"raters_per_row": 0}', '{"raters": 2}', None])
def test_a_review_that_cannot_be_read_is_told(tmp_path, content):
    if content is None:
        (tmp_path / REVIEW).mkdir()
    else:
        (tmp_path / REVIEW).write_text(content)
    append_row(tmp_path / VERDICTS, said(("a", YES))[0])
    for read in (read_decisions, log_of):
        with pytest.raises(InputError, match=r"review\.json' cannot be used; write"):
            read(tmp_path)
    # And the lock is free again.
    with pytest.raises(InputError, match=r"review\.json"):
        log_of(tmp_path)
    told: list[InputError] = []
    assert read_decisions(tmp_path, told.append) == {"r": "unreviewed"}
    assert len(told) == 1


def test_a_verdict_that_cannot_be_written_changes_nothing(tmp_path):
    with log_of(tmp_path) as log:
        (tmp_path / VERDICTS).mkdir()
        with pytest.raises(OSError, match="directory"):
            record(log, "row-0", "a")
        assert log.counts("a").yours == 0
        assert log.lease("a", 1) == ["row-0"]


def test_a_row_that_is_not_there_is_refused(tmp_path):
    with log_of(tmp_path) as log, pytest.raises(InputError, match="no row 'other'"):
        record(log, "other", "a")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        log_of(tmp_path / "nothing" / "here")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(("text", "name"), [(" Ada  L. ", "Ada L."), ("7", "7"), ("Zoë", "Zoë")])
def test_names_of_people(text, name):
    assert checked_name(text) == name


@pytest.mark.parametrize("text", ["", "  ", "a" * 61, "a\0b", "\u202e"])
def test_what_is_no_name(text):
    with pytest.raises(InputError):
        checked_name(text)
