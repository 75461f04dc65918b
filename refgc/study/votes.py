"""From what people said to the votes that count, and who is left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refgc.study.definition import RIGHT, Study
from refgc.study.estimates import MISSING, NONE, Choices
from refgc.study.store import AnsweredShowing, RaterRecord


@dataclass(frozen=True, slots=True)
class Rules:
    """Who is left out.

    Attributes:
        right: the least share of right answers to the attention checks. With two checks and three questions one slip is
            allowed, and who clicks at random among four results and none passes in 2 of 1000 cases.
        same: the least number of answers to the repeated item that are the same as before. 0 leaves nobody out: people
            who find results about equally good answer otherwise each time, and leaving them out gains nothing
            (`python -m benchmarks.study`).
        unfinished: whether people count who did not come to the end.
    """

    right: float = 0.8
    same: int = 0
    unfinished: bool = False

    def attentive(self, right: int, asked: int) -> bool:
        """Whether so many right answers to attention checks are enough."""
        return right >= self.right * asked

    def consistent(self, same: int, asked: int) -> bool:
        """Whether so many answers that are the same as before are enough."""
        return asked == 0 or same >= min(self.same, asked)


@dataclass(frozen=True, slots=True)
class Excluded:
    """Somebody who is left out.

    Attributes:
        rater: number of the person.
        reasons: in words.
    """

    rater: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """The votes that count.

    Attributes:
        questions: their names.
        choices: what a vote may be for: none, and the methods; a vote is an index into it.
        raters: numbers of the people who count.
        items: ids of all items.
        chosen: (questions, people, items), `MISSING` where there is no vote.
        places: of the chosen results, as they stood on the page, from 1 on; `MISSING` without a vote, `NONE` for none.
        seconds: (people, items) that people looked; NaN without a vote.
        excluded: who is left out.
        began: people who began.
        withdrawn: those who withdrew.
        same: answers to repeated items that were the same as before, of those who count.
        repeated: how many such answers there are.
    """

    questions: tuple[str, ...]
    choices: tuple[str, ...]
    raters: tuple[int, ...]
    items: tuple[str, ...]
    chosen: Choices
    places: Choices
    seconds: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    excluded: tuple[Excluded, ...]
    began: int
    withdrawn: int
    same: int
    repeated: int


def count_votes(study: Study, records: Sequence[RaterRecord], rules: Rules, none: str) -> Votes:
    """The votes that count. Of an item that is shown twice the first answers count.

    Args:
        study: what was asked.
        records: of all people.
        rules: who is left out.
        none: what a vote for no difference is called.
    """
    there = [record for record in records if not record.withdrawn]
    excluded = tuple(
        Excluded(record.number, reasons) for record in there if (reasons := reasons_against(record, rules))
    )
    out = {one.rater for one in excluded}
    counted = [record for record in there if record.number not in out]
    questions = tuple(question.name for question in study.questions)
    column = {item.id: number for number, item in enumerate(study.items)}
    shape = (len(questions), len(counted), len(column))
    chosen, places = np.full(shape, MISSING, np.int8), np.full(shape, MISSING, np.int8)
    seconds = np.full(shape[1:], np.nan)
    number_of: dict[str | None, int] = {None: NONE, **{name: n for n, name in enumerate(study.methods, 1)}}
    same = repeated = 0
    for row, record in enumerate(counted):
        equal, asked = repeated_answers(record)
        same, repeated = same + equal, repeated + asked
        for shown in record.showings:
            if shown.showing.kind != "item" or not shown.answers:
                continue
            at = column[shown.showing.item]
            seconds[row, at] = shown.seconds
            for number, question in enumerate(questions):
                choice = shown.answers[question]
                chosen[number, row, at] = number_of[choice]
                places[number, row, at] = NONE if choice is None else shown.showing.order.index(choice) + 1
    return Votes(
        questions=questions,
        choices=(none, *study.methods),
        raters=tuple(record.number for record in counted),
        items=tuple(column),
        chosen=chosen,
        places=places,
        seconds=seconds,
        excluded=excluded,
        began=len(records),
        withdrawn=len(records) - len(there),
        same=same,
        repeated=repeated,
    )


def reasons_against(record: RaterRecord, rules: Rules) -> tuple[str, ...]:
    """Why somebody is left out; empty for whoever counts."""
    reasons = []
    if record.answered < len(record.showings) and (not rules.unfinished or record.answered == 0):
        reasons.append(f"did not finish: answered {record.answered} of {len(record.showings)}")
    right, asked = right_answers(record)
    if not rules.attentive(right, asked):
        reasons.append(f"failed the attention checks: {right} of {asked} answers right")
    same, repeated = repeated_answers(record)
    if not rules.consistent(same, repeated):
        reasons.append(f"inconsistent: {same} of {repeated} answers to the repeated item as before")
    return tuple(reasons)


def right_answers(record: RaterRecord) -> tuple[int, int]:
    """Right answers to the attention checks, and all answers to them."""
    said = [choice for shown in _of_kind(record, "check") for choice in shown.answers.values()]
    return said.count(RIGHT), len(said)


def repeated_answers(record: RaterRecord) -> tuple[int, int]:
    """Answers to the repeated item that are the same as before, and all answers to it."""
    first = {shown.showing.item: shown.answers for shown in _of_kind(record, "item")}
    pairs = [
        (first[shown.showing.item].get(question, shown), choice)
        for shown in _of_kind(record, "repeat")
        for question, choice in shown.answers.items()
    ]
    return sum(before == now for before, now in pairs), len(pairs)


def _of_kind(record: RaterRecord, kind: str) -> list[AnsweredShowing]:
    return [shown for shown in record.showings if shown.showing.kind == kind]
