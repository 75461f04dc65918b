"""The report of a study: who was left out, shares with intervals, agreement, and bias by position; as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refgc import __version__
from refgc.errors import InputError
from refgc.imaging.files import make_folder, write_files
from refgc.study.definition import NO_DIFFERENCE, Study
from refgc.study.estimates import (
    FEWEST,
    LEVEL,
    MISSING,
    RESAMPLES,
    Interval,
    agreement,
    difference,
    position_bias,
    shares,
)
from refgc.study.store import RaterRecord
from refgc.study.votes import Rules, Votes, count_votes

REPORT, TABLE, TEXT, VOTES = "report.json", "shares.csv", "report.md", "votes.csv"
FIGURES = ("shares.pdf", "shares.svg", "shares.png")
# Digits of what is written, so that the last bits of a sum on another processor change no file.
DIGITS = 6
SURE = 0.05
COLUMNS = (
    "question", "choice", "votes", "share", "low", "high", "bootstrap_low", "bootstrap_high", "wilson_low",
    "wilson_high",
)  # fmt: skip
HOW_TO_READ = """\
## How to read this

- The intervals hold the share in the population of people and items at a level of {level}. They know that people
  differ and that items differ: each share has the variance of both, and Student's quantile.
- The crossed bootstrap resamples people and items {resamples} times. Its intervals are too wide, since it counts the
  rest of the variance three times. Wilson's intervals take votes for independent, which they are not; they are too
  narrow.
- Krippendorff's alpha is 1 where all agree on each item, and 0 where they agree as chance would. A low alpha is no
  fault: it says that items or people differ.
- The test of positions asks whether people choose by the place at which a result stands. Orders are random and
  balanced, so that such a bias favours no method.
- Each interval and test holds for itself; among many, some miss.
"""


def make_report(
    study: Study, records: Sequence[RaterRecord], rules: Rules, *, seed: int = 0
) -> tuple[dict[str, Any], Votes]:
    """All figures of a study.

    Args:
        study: what was asked.
        records: of all people.
        rules: who is left out.
        seed: of the bootstrap.

    Returns:
        What `report.json` has, and the votes that it is made of.

    Raises:
        InputError: nobody is left who counts.
    """
    votes = count_votes(study, records, rules, NO_DIFFERENCE)
    if not (votes.chosen != MISSING).any():
        raise InputError(
            f"No votes are left: {len(votes.excluded)} of {votes.began} people are left out and {votes.withdrawn} "
            "withdrew; wait for more, or loosen the rules (`refgc study report --help`)."
        )
    seconds = votes.seconds[~np.isnan(votes.seconds)]
    report = {
        "version": __version__,
        "title": study.title,
        "study": study.digest,
        "methods": list(study.methods),
        "items": len(study.items),
        "items a person": study.items_per_rater,
        "checks": len(study.checks),
        "people": {
            "began": votes.began,
            "withdrew": votes.withdrawn,
            "left out": len(votes.excluded),
            "counted": len(votes.raters),
        },
        "left out": [{"person": one.rater, "reasons": list(one.reasons)} for one in votes.excluded],
        "rules": {
            "least share of right answers to checks": rules.right,
            "least answers to the repeated item as before": rules.same,
            "unfinished count": rules.unfinished,
        },
        "median seconds an item": float(np.median(seconds)),
        "answers to repeated items as before": {"same": votes.same, "all": votes.repeated},
        "level": LEVEL,
        "bootstrap": {"resamples": RESAMPLES, "seed": seed},
        "questions": [_question(study, votes, number, seed) for number in range(len(votes.questions))],
    }
    return _rounded(report), votes


def write_report(output: Path, report: Mapping[str, Any], votes: Votes) -> list[Path]:
    """Write the report as JSON, CSV and Markdown, every vote as CSV, and the figure; the same report, the same bytes.

    Args:
        output: a folder, made where it is missing.
        report: of `make_report`.
        votes: likewise.

    Returns:
        The files.

    Raises:
        InputError: matplotlib is missing, or the folder cannot be written.
    """
    from refgc.evaluation.figures.drawing import check_outputs
    from refgc.study.figure import draw_shares

    figures = [output / name for name in FIGURES]
    check_outputs(figures)
    make_folder(output)
    texts = {
        REPORT: json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        TABLE: table_csv(report),
        TEXT: markdown(report),
        VOTES: votes_csv(votes),
    }
    write_files({output / name: (lambda text=text: text.encode()) for name, text in texts.items()})  # type: ignore[misc]
    draw_shares(report, figures)
    return [*(output / name for name in texts), *figures]


def table_csv(report: Mapping[str, Any]) -> str:
    """A line for each question and choice."""
    rows = [
        [
            question["question"], share["choice"], share["votes"], share["share"],
            *_bounds(share["interval"]), *_bounds(share["bootstrap"]), *_bounds(share["wilson"]),
        ]
        for question in report["questions"]
        for share in question["shares"]
    ]  # fmt: skip
    return _csv(COLUMNS, rows)


def votes_csv(votes: Votes) -> str:
    """A line for each vote that counts."""
    rows = [
        [
            votes.raters[rater], votes.items[item], question, votes.choices[votes.chosen[number, rater, item]],
            max(0, int(votes.places[number, rater, item])), f"{votes.seconds[rater, item]:g}",
        ]
        for number, question in enumerate(votes.questions)
        for rater, item in np.argwhere(votes.chosen[number] != MISSING)
    ]  # fmt: skip
    return _csv(("person", "item", "question", "choice", "place", "seconds"), rows)


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    people, repeated = report["people"], report["answers to repeated items as before"]
    head = (
        f"Blind study of {len(report['methods'])} methods on {report['items']} items, {report['items a person']} a "
        f"person. {_people(people['counted'])}; {people['began']} began, {people['withdrew']} withdrew, and "
        f"{people['left out']} are left out. The median time an item is {report['median seconds an item']:.0f} seconds."
    )
    if repeated["all"]:
        head += f" Of the answers to the repeated item {repeated['same'] / repeated['all']:.0%} are the same as before."
    lines = [f"# {_cell(report['title'])}", "", head]
    for question in report["questions"]:
        lines += ["", f"## {_cell(question['question'])}", "", f"> {_cell(question['text'])}", ""]
        lines += [
            f"| choice | votes | share | {report['level']:.0%} interval | crossed bootstrap | Wilson |",
            "| --- | ---: | ---: | --- | --- | --- |",
        ]
        lines += [
            f"| {_cell(share['choice'])} | {share['votes']} | {share['share']:.1%} | {_span(share['interval'])} | "
            f"{_span(share['bootstrap'])} | {_span(share['wilson'])} |"
            for share in question["shares"]
        ]
        lines += ["", *_notes(question)]
    if report["left out"]:
        lines += ["", "## Left out", "", "| person | reason |", "| ---: | --- |"]
        lines += [f"| {one['person']} | {'; '.join(one['reasons'])} |" for one in report["left out"]]
    told = HOW_TO_READ.format(level=f"{report['level']:.0%}", resamples=report["bootstrap"]["resamples"])
    lines += ["", told, f"Study {report['study'][:16]}, RefGC-SR2 {report['version']}."]
    return "\n".join(lines) + "\n"


def _question(study: Study, votes: Votes, number: int, seed: int) -> dict[str, Any]:
    chosen, kinds = votes.chosen[number], len(votes.choices)
    found = shares(chosen, kinds, seed=seed)
    # Methods as the study names them, and none at the end.
    order = [*range(1, kinds), 0]
    leader = max(range(1, kinds), key=lambda kind: found[kind].votes)
    counts, p_value = position_bias(votes.places[number], kinds - 1)
    return {
        "question": study.questions[number].name,
        "text": study.questions[number].text,
        "votes": int((chosen != MISSING).sum()),
        "shares": [
            {
                "choice": votes.choices[kind],
                "votes": found[kind].votes,
                "share": found[kind].share,
                "interval": _listed(found[kind].interval),
                "bootstrap": _listed(found[kind].bootstrap),
                "wilson": _listed(found[kind].wilson),
            }
            for kind in order
        ],
        "differences": [
            {
                "method": votes.choices[leader],
                "other": votes.choices[other],
                "difference": value,
                "interval": _listed(span),
            }
            for other in range(1, kinds)
            if other != leader
            for value, span in [difference(chosen, leader, other)]
        ],
        "alpha": agreement(chosen, kinds),
        "positions": {"votes": counts, "p": p_value},
    }


def _notes(question: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in question["differences"]:
        interval = one["interval"]
        surely = interval is not None and interval[0] > 0
        span = "no interval with so few people or items" if interval is None else f"{_points(interval)} points"
        lines.append(
            f"- {_cell(one['method'])} over {_cell(one['other'])}: {100 * one['difference']:+.1f} points ({span})"
            f"{'' if surely else ', which may be chance'}."
        )
    alpha, positions = question["alpha"], question["positions"]
    lines.append(f"- Krippendorff's alpha: {'undefined' if alpha is None else f'{alpha:.2f}'}.")
    if positions["p"] is None:
        lines.append(f"- Votes by position {positions['votes']}: too few for a test.")
    else:
        biased = "people choose by position" if positions["p"] < SURE else "no bias by position is seen"
        lines.append(f"- Votes by position {positions['votes']}: p = {positions['p']:.3f}, {biased}.")
    return lines


def _people(number: int) -> str:
    return "1 person counts" if number == 1 else f"{number} people count"


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _bounds(interval: list[float] | None) -> list[float | str]:
    return ["", ""] if interval is None else list(interval)


def _span(interval: list[float] | None) -> str:
    return f"fewer than {FEWEST} people or items" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def _points(interval: list[float]) -> str:
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"


def _cell(text: str) -> str:
    """A text inside of Markdown: nothing in it is markup."""
    plain = " ".join(text.split())
    return "".join(f"\\{mark}" if mark in "\\`*_[]<>|#" else mark for mark in plain)


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
