"""Sentences on the page: how things stand, and what to do when they went wrong."""

from __future__ import annotations

import logging
from html import escape
from typing import Any

import gradio as gr

from refgc.engine import Report
from refgc.errors import RefGCError


def status_line(sentence: str, *, done: bool = False) -> str:
    """The line under the button; screen readers say it when they have finished what they are saying.

    Args:
        sentence: plain text.
        done: whether there is a new result to look at.
    """
    return f'<p class="status fine{" done" if done else ""}" role="status">{escape(sentence)}</p>'


def progress_line(stage: str, fraction: float) -> str:
    """The same while work goes on: what is being done, and how far it is over the whole, from 0 to 1."""
    bar = f'<progress max="1" value="{fraction:.3f}" aria-label="How far it is"></progress>'
    return f'<div class="status working"><span role="status">{escape(stage)}</span>{bar}</div>'


def problem_line(sentence: str, title: str = "Not refined") -> str:
    """The same for a problem, announced at once; it stays until the next run, and a passing notice repeats it."""
    gr.Warning(sentence, title=title)
    return f'<p class="status problem" role="alert">{escape(sentence)}</p>'


def missing_pictures(reference: object | None, generated: object | None) -> str:
    """One sentence that says which of the two pictures is still to be given."""
    if reference is None and generated is None:
        return "Add the two pictures first: the reference photo and the generated picture."
    if reference is None:
        return "Add the reference photo first: the sharp picture of the real object."
    return "Add the generated picture first: the one to refine."


def report_summary(report: Report) -> str:
    """The message first, then what a visitor wants to know: how sure, how much, how large, how long."""
    figures = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _figures(report))
    state = "placed" if report.placed else "unplaced"
    return f'<div class="report {state}"><p class="message">{escape(report.message)}</p><dl>{figures}</dl></div>'


def _figures(report: Report) -> list[tuple[str, str]]:
    width, height = report.output_size
    placement = [
        ("Confidence", _percent(report.confidence)),
        ("Refined area", f"{_percent(report.coverage)} of the picture"),
        ("Matching points", f"{report.matches:,}"),
    ]
    return [
        *(placement if report.placed else []),
        ("Size", f"{width} × {height} pixels"),
        ("Time", f"{sum(report.seconds.values()):.1f} s"),
        ("Engine", report.engine.capitalize()),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def capitalised(words: str) -> str:
    """The words with a capital at the beginning, the rest as it is."""
    return words[:1].upper() + words[1:]


logger = logging.getLogger(__name__)

# Gradio's own queue would show its own words, and turn light clicks away with the heavy runs: who waits for an engine
# waits in `refgc.page.service.queue`, and is told the place there.
ENGINE_QUEUE: dict[str, Any] = {"concurrency_limit": None}
# Brings the result into view where it is off the screen; defined in assets/page.js.
SCROLL_TO_RESULT = "() => window.refgcShowResult()"

OUR_FAULT = (
    "Something went wrong on our side and the pictures are not to blame; try again, and if it happens again, "
    "try smaller pictures."
)


def sentence_for(error: Exception) -> str:
    """What the visitor reads; an error nobody foresaw is logged in full and told without its details."""
    if isinstance(error, RefGCError):
        return str(error)
    logger.error("A refinement failed.", exc_info=error)
    return OUR_FAULT
