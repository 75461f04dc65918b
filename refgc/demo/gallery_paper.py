"""The authors' part of the gallery as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from refgc.demo.gallery_cards import Card, render_cards
from refgc.demo.paper_pictures import LARGE_SIDE, PROJECT_PAGE, SMALL_SIDE, Outcome, PaperSet

CREDIT = (
    f'The authors’ own pictures and results, from the <a href="{PROJECT_PAGE}">project page of RefGC-SR²</a> by CMLab, '
    'Chung-Ang University: <a href="https://creativecommons.org/licenses/by-sa/4.0/">CC BY-SA 4.0</a>, converted to '
    "WebP here. They show what the paper’s model does, not the engine of this page."
)


def render_paper(outcome: Outcome) -> str:
    """The cards that could be had, and one line on those that could not."""
    problem = f'<p class="hint" role="status">{escape(outcome.problem)}</p>' if outcome.problem else ""
    cards = render_cards(_cards(outcome.sets)) if outcome.sets else ""
    return f'<div class="paper">{problem}{cards}</div>'


def _cards(sets: Sequence[PaperSet]) -> list[Card]:
    return [
        Card(
            title=wanted.title,
            kind="paper",
            tag=wanted.origin,
            words="",
            pictures=(Path(wanted.files[0]).stem, Path(wanted.files[1]).stem, Path(wanted.files[2]).stem),
            labels=("Generated", "Paper’s result"),
            details=[("Source", "CMLab, Chung-Ang University, project page of RefGC-SR², CC BY-SA 4.0")],
            sizes=((SMALL_SIDE, SMALL_SIDE), (LARGE_SIDE, LARGE_SIDE)),
        )
        for wanted in sets
    ]
