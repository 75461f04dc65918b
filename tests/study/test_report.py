"""From answers to the report: who counts, what is found, and the same bytes each time."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refgc.errors import InputError
from refgc.study.definition import RIGHT, Study
from refgc.study.report import FIGURES, REPORT, TABLE, TEXT, VOTES, make_report, markdown, write_report
from refgc.study.simulation import Taste
from refgc.study.store import AnswerStore, Trial, read_records
from refgc.study.votes import Rules
from tests.study.test_design import a_study
from tests.support.command import assert_one_sentence, run_inside
from tests.support.study import METHODS, QUESTIONS, answer_all, favour, make_study


def honest(taste: Taste, study: Study, seed: int) -> Callable[[Trial], str | None]:
    """A person of a taste, who finds the same of an item each time but for chance."""
    items = np.random.default_rng(0).standard_normal((len(study.items), len(study.methods)))
    random = np.random.default_rng([1, seed])
    person = random.standard_normal(len(study.methods))
    row = {item.id: number for number, item in enumerate(study.items)}

    def choose(trial: Trial) -> str | None:
        if trial.showing.kind == "check":
            return RIGHT
        worth = np.array(taste.worth) + taste.people * person + taste.items * items[row[trial.showing.item]]
        chosen = int(taste.choose(worth, random))
        return study.methods[chosen - 1] if chosen else None

    return choose


def careless(seed: int) -> Callable[[Trial], str | None]:
    """Somebody who clicks at random."""
    random = np.random.default_rng([2, seed])
    return lambda trial: random.choice([*trial.showing.order, ""]) or None


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A study with 14 honest people, 3 careless ones, one who did not finish, and one who withdrew."""
    folder, study = tmp_path_factory.mktemp("answered"), a_study(4, 12)
    taste = Taste((2.0, 0.5, 0.0, 0.0))
    with AnswerStore(folder, study) as store:
        for seed in range(14):
            answer_all(store, honest(taste, study, seed))
        for seed in range(3):
            answer_all(store, careless(seed))
        answer_all(store, honest(taste, study, 99), most=4)
        store.withdraw(answer_all(store, favour("m0")))
    return folder, study


def test_a_report_finds_what_was_put_in_and_who_is_left_out(answered: tuple[Path, Study]) -> None:
    folder, study = answered
    report, votes = make_report(study, read_records(folder, study), Rules())
    assert report["people"] == {"began": 19, "withdrew": 1, "left out": 4, "counted": 14}
    reasons = {one["person"]: " ".join(one["reasons"]) for one in report["left out"]}
    assert set(reasons) == {14, 15, 16, 17}
    assert all("failed the attention checks" in reasons[person] for person in (14, 15, 16))
    assert "did not finish: answered 4 of 15" in reasons[17]
    truth = Taste((2.0, 0.5, 0.0, 0.0)).shares()
    for question in report["questions"]:
        assert question["votes"] == 14 * 12
        shares = {one["choice"]: one for one in question["shares"]}
        assert list(shares) == [*study.methods, "no difference"]
        assert sum(one["votes"] for one in shares.values()) == 14 * 12
        assert shares["m0"]["interval"][0] <= truth[1] <= shares["m0"]["interval"][1]
        assert shares["m0"]["share"] > shares["m1"]["share"]
        assert {one["method"] for one in question["differences"]} == {"m0"}
        assert 0 < question["alpha"] < 1
        assert sum(question["positions"]["votes"]) == 14 * 12 - shares["no difference"]["votes"]
    # The first answers count, and what is seen again does not.
    assert votes.repeated == 14 * 3
    assert 0 < votes.same < votes.repeated


def test_the_rules_decide_who_counts(answered: tuple[Path, Study]) -> None:
    folder, study = answered
    records = read_records(folder, study)

    def counted(rules: Rules) -> set[int]:
        return set(make_report(study, records, rules)[1].raters)

    usual = counted(Rules())
    assert counted(Rules(right=0.0)) == usual | {14, 15, 16}
    assert counted(Rules(unfinished=True)) == usual | {17}
    strict = counted(Rules(same=3))
    assert strict < usual
    report, _ = make_report(study, records, Rules(same=3))
    told = {one["person"]: one["reasons"] for one in report["left out"]}
    assert all("inconsistent" in " ".join(told[person]) for person in usual - strict)


def test_a_bias_by_position_is_reported_and_favours_nobody(tmp_path: Path) -> None:
    study = a_study(4, 12)
    with AnswerStore(tmp_path, study) as store:
        for _ in range(8):
            answer_all(store, lambda trial: RIGHT if trial.showing.kind == "check" else trial.showing.order[0])
    report, _ = make_report(study, read_records(tmp_path, study), Rules())
    for question in report["questions"]:
        assert question["positions"]["votes"] == [96, 0, 0, 0]
        assert question["positions"]["p"] < 1e-6
        assert [one["votes"] for one in question["shares"]] == [24, 24, 24, 24, 0]


def test_the_files_are_the_same_bytes_each_time(answered: tuple[Path, Study], tmp_path: Path) -> None:
    folder, study = answered
    for name in ("one", "two"):
        report, votes = make_report(study, read_records(folder, study), Rules())
        written = write_report(tmp_path / name, report, votes)
        assert [path.name for path in written] == [REPORT, TABLE, TEXT, VOTES, *FIGURES]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert json.loads((tmp_path / "one" / REPORT).read_text()) == json.loads(json.dumps(report))
    rows = list(csv.DictReader((tmp_path / "one" / TABLE).read_text().splitlines()))
    assert [(row["question"], row["choice"]) for row in rows[:2]] == [("refinement", "m0"), ("refinement", "m1")]
    single = list(csv.DictReader((tmp_path / "one" / VOTES).read_text().splitlines()))
    assert len(single) == 3 * 14 * 12
    assert {row["person"] for row in single} == {str(person) for person in range(14)}
    text = (tmp_path / "one" / TEXT).read_text()
    assert "14 people count; 19 began, 1 withdrew, and 4 are left out" in text
    assert " 1 person counts; 19" in markdown({**report, "people": {**report["people"], "counted": 1}})
    assert "| 14 | failed the attention checks" in text


def test_names_of_methods_are_no_markup(tmp_path: Path) -> None:
    study = a_study(2, 3, checks=0)
    names = ("$x$ |<b>", "a" * 60)
    items = tuple(item.model_copy(update={"choices": dict.fromkeys(names, item.reference)}) for item in study.items)
    study = study.model_copy(update={"methods": names, "items": items})
    with AnswerStore(tmp_path, study) as store:
        answer_all(store, lambda trial: names[0])
    report, votes = make_report(study, read_records(tmp_path, study), Rules())
    write_report(tmp_path / "report", report, votes)
    text = (tmp_path / "report" / TEXT).read_text()
    assert "| $x$ \\|\\<b\\> | 3 | 100.0% | fewer than 2 people or items |" in text


def test_without_votes_there_is_no_report(tmp_path: Path) -> None:
    study = a_study(4, 12)
    with AnswerStore(tmp_path, study) as store:
        answer_all(store, careless(0))
        store.begin()
    with pytest.raises(InputError, match="No votes are left: 2 of 2 people are left out and 0 withdrew"):
        make_report(study, read_records(tmp_path, study), Rules())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    study = make_study(root)
    with AnswerStore(root / "study", study) as store:
        for method in METHODS:
            answer_all(store, favour(method))
    return root


def test_the_command_makes_and_reports_a_study(made: Path, tmp_path: Path) -> None:
    methods = [word for name in METHODS for word in ("--method", f"{name}={made / name}")]
    done = run_inside("study", "init", tmp_path / "study", "--items", made / "items", *methods, "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert "5 items, 5 a person, 4 methods, 2 attention checks" in done.stdout
    done = run_inside("study", "report", made / "study", "--output", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert "4 people count, 0 are left out, 0 withdrew" in done.stdout
    assert f"{QUESTIONS[0]}: ours 25.0%, lanczos 25.0%, rival 25.0%, other 25.0%, no difference 0.0%" in done.stdout
    assert (tmp_path / "report" / "shares.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("init", "new", "--items", "items", "--method", "ours"), "write NAME=FOLDER"),
        (("init", "new", "--items", "items", "--method", "a=b", "--method", "a=c"), "Two methods are called 'a'"),
        (("init", "new", "--items", "gone", "--method", "a=b", "--method", "c=d"), "cannot be found"),
        (("serve", "gone"), "is no study; make one with `refgc study init`"),
        (("report", "gone", "--output", "out"), "is no study"),
        (("report", "study", "--output", "study/study.json"), "cannot be made"),
    ],
)
def test_bad_calls_are_answered_by_one_sentence(made: Path, arguments: tuple[str, ...], part: str) -> None:
    places = {"items", "gone", "study", "study/study.json", "new", "out"}
    done = run_inside("study", *(str(made / word) if word in places else word for word in arguments))
    assert_one_sentence(done, 2, part)


def test_the_command_simulates(tmp_path: Path) -> None:
    done = run_inside("study", "simulate", "--difference", "40", "--studies", "20", "--items", "10")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("40 points: ")
    assert "Intervals hold the truth in" in done.stdout
