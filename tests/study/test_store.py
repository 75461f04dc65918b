"""The file of answers: one after the other, by many at once, and killed at any moment."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refgc.errors import InputError
from refgc.study.definition import ANSWERS, Study
from refgc.study.store import AnswerStore, normal_code, read_records
from tests.support.study import METHODS, QUESTIONS, answer_all, favour, make_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    root = tmp_path_factory.mktemp("made")
    return root / "study", make_study(root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(folder: Path, made: tuple[Path, Study]) -> Iterator[AnswerStore]:
    with AnswerStore(folder, made[1]) as store:
        yield store


def test_a_person_begins_goes_on_by_code_and_comes_to_an_end(
    store: AnswerStore, folder: Path, made: tuple[Path, Study]
) -> None:
    first = store.begin()
    assert (first.done, first.total, len(first.trials)) == (0, 8, 2)
    second = store.record(first.code, first.trials[0].token, dict.fromkeys(QUESTIONS, 2), 5)
    assert (second.done, second.trials[0]) == (1, first.trials[1])
    # As people write it.
    assert store.resume(f" {first.code[:5].lower()}-{first.code[5:]} ") == second
    assert store.count() == (1, 0)
    while second.trials:
        second = store.record(first.code, second.trials[0].token, dict.fromkeys(QUESTIONS, 0), 7)
    assert (second.done, second.total) == (8, 8)
    assert store.count() == (1, 1)
    (record,) = read_records(folder, made[1])
    said = record.showings[0]
    assert said.answers == dict.fromkeys(QUESTIONS, said.showing.order[1])
    assert said.seconds == 5
    assert record.showings[1].answers == dict.fromkeys(QUESTIONS)


def test_what_is_sent_again_changes_nothing(store: AnswerStore, folder: Path, made: tuple[Path, Study]) -> None:
    standing = store.begin()
    token = standing.trials[0].token
    once = store.record(standing.code, token, dict.fromkeys(QUESTIONS, 1), 5)
    assert store.record(standing.code, token, dict.fromkeys(QUESTIONS, 2), 6) == once
    (record,) = read_records(folder, made[1])
    assert record.showings[0].seconds == 5
    assert set(record.showings[0].answers.values()) == {record.showings[0].showing.order[0]}


@pytest.mark.parametrize(
    ("answers", "part"),
    [
        ({}, "Each question has one answer"),
        ({"refinement": 1, "detail": 1}, "Each question has one answer"),
        ({**dict.fromkeys(QUESTIONS, 1), "other": 1}, "Each question has one answer"),
        ({**dict.fromkeys(QUESTIONS, 1), "detail": 5}, "a number from 0 to 4"),
        ({**dict.fromkeys(QUESTIONS, 1), "detail": -1}, "a number from 0 to 4"),
    ],
)
def test_answers_that_cannot_be_are_refused_and_nothing_is_written(
    store: AnswerStore, answers: dict[str, int], part: str
) -> None:
    standing = store.begin()
    with pytest.raises(InputError, match=part):
        store.record(standing.code, standing.trials[0].token, answers, 5)
    assert store.resume(standing.code) == standing


def test_nobody_answers_for_another_or_out_of_turn(store: AnswerStore) -> None:
    one, other = store.begin(), store.begin()
    with pytest.raises(InputError, match="not shown to you"):
        store.record(one.code, other.trials[0].token, dict.fromkeys(QUESTIONS, 1), 5)
    with pytest.raises(InputError, match="Other pictures come before"):
        store.record(one.code, one.trials[1].token, dict.fromkeys(QUESTIONS, 1), 5)
    with pytest.raises(InputError, match="Nobody has this code"):
        store.resume("AAAAA-AAAAA")


def test_who_withdraws_leaves_nothing_behind(store: AnswerStore, folder: Path, made: tuple[Path, Study]) -> None:
    code = answer_all(store, favour("ours"))
    stays = answer_all(store, favour("rival"))
    store.withdraw(code)
    for again in (store.resume, store.withdraw):
        with pytest.raises(InputError, match="Nobody has this code"):
            again(code)
    gone, there = read_records(folder, made[1])
    assert (gone.withdrawn, gone.showings) == (True, ())
    assert there.answered == 8
    assert store.resume(stays).done == 8
    # While the page goes on, neither the file nor its write-ahead log has anything of it.
    content = b"".join(path.read_bytes() for path in folder.glob(f"{ANSWERS}*"))
    assert normal_code(code).encode() not in content


def test_a_study_takes_so_many_people_and_no_more(store: AnswerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refgc.study.store.MOST_RATERS", 2)
    first = store.begin()
    store.begin()
    with pytest.raises(InputError, match="This study is complete"):
        store.begin()
    # Whoever has begun goes on.
    assert store.resume(first.code) == first


def test_nothing_in_the_file_says_who_somebody_is(store: AnswerStore, folder: Path) -> None:
    answer_all(store, favour("ours"))
    with sqlite3.connect(folder / ANSWERS) as connection:
        columns = {
            f"{table}.{row[1]}"
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for row in connection.execute(f"PRAGMA table_info({table})")
        }
    assert columns == {
        "study.digest", "raters.number", "raters.code", "raters.withdrawn",
        "showings.rater", "showings.place", "showings.token", "showings.item", "showings.kind", "showings.choices",
        "showings.seconds", "answers.rater", "answers.place", "answers.question", "answers.choice",
    }  # fmt: skip


def test_thirty_at_once_lose_nothing(store: AnswerStore, folder: Path, made: tuple[Path, Study]) -> None:
    with ThreadPoolExecutor(30) as threads:
        codes = list(threads.map(lambda number: answer_all(store, favour(METHODS[number % 4])), range(30)))
    assert len(set(codes)) == 30
    records = read_records(folder, made[1])
    assert [record.number for record in records] == list(range(30))
    for record in records:
        assert record.answered == len(record.showings) == 8
        chosen = {
            choice for shown in record.showings if shown.showing.kind != "check" for choice in shown.answers.values()
        }
        assert len(chosen) == 1
    places = Counter(
        (shown.showing.item, name, place)
        for record in records[:28]
        for shown in record.showings
        if shown.showing.kind == "item"
        for place, name in enumerate(shown.showing.order)
    )
    assert set(places.values()) == {7}


def test_two_processes_may_write(folder: Path, made: tuple[Path, Study]) -> None:
    with AnswerStore(folder, made[1]) as one, AnswerStore(folder, made[1]) as other:
        first, second = one.begin(), other.begin()
        assert other.resume(first.code) == first
        assert one.resume(second.code) == second
    assert [record.number for record in read_records(folder, made[1])] == [0, 1]


KILLED = """
import os, signal, sys
from pathlib import Path
from refgc.study.definition import read_study
from refgc.study.store import AnswerStore
store = AnswerStore(Path(sys.argv[2]), read_study(Path(sys.argv[1])))
standing = store.begin()
print(standing.code, flush=True)
for number in range(5):
    answers = {"refinement": 1, "detail": 2, "overall": 0}
    standing = store.record(standing.code, standing.trials[0].token, answers, 5)
    print(standing.done, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_has_kept_all_that_it_confirmed(folder: Path, made: tuple[Path, Study]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(made[0]), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    code, *numbers = done.stdout.split()
    assert numbers == ["1", "2", "3", "4", "5"]
    with AnswerStore(folder, made[1]) as store:
        assert store.resume(code).done == 5


def test_answers_of_another_study_are_refused(folder: Path, made: tuple[Path, Study]) -> None:
    other = made[1].model_copy(update={"seed": 9})
    with AnswerStore(folder, made[1]) as store:
        store.begin()
    with pytest.raises(InputError, match="answers of another study"):
        AnswerStore(folder, other)
    with pytest.raises(InputError, match="answers of another study"):
        read_records(folder, other)
    (folder / ANSWERS).write_bytes(b"no database at all, though it is long enough to be one" * 20)
    for path in folder.glob(f"{ANSWERS}-*"):
        path.unlink()
    with pytest.raises(InputError, match="cannot be used"):
        AnswerStore(folder, made[1])
    with pytest.raises(InputError, match="cannot be read"):
        read_records(folder, made[1])
    (folder / ANSWERS).unlink()
    with pytest.raises(InputError, match="has no answers yet"):
        read_records(folder, made[1])
