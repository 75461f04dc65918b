"""Sentences on the page: status, progress, problems and the report; and settings that the tabs' events share."""

from __future__ import annotations

import logging
from html import escape
from pathlib import Path
from typing import Any

from refgc.engine import EngineName, Report
from refgc.errors import RefGCError

logger = logging.getLogger(__name__)

# Gradio's queue would count light clicks and heavy runs together, and show texts of its own. Runs wait for an engine in
# `refgc.page.service.queue` instead.
ENGINE_QUEUE: dict[str, Any] = {"concurrency_limit": None}
# Scrolls to the result where it is off the screen; defined in assets/page.js.
SCROLL_TO_RESULT = "() => window.refgcShowResult()"

# Share of the object from which on a result counts as refined, not partly refined. Chosen by hand, not fitted.
MOSTLY_REFINED = 0.4
# Words of a result's state, by the class of its line.
REFINED, PARTLY_REFINED, ENLARGED = "refined", "partly", "enlarged"
HEADLINES = {REFINED: "Refined", PARTLY_REFINED: "Partly refined", ENLARGED: "Only enlarged"}
ADVICE = (
    "{share} of the object could be refined: mark the object in both pictures, or try another photo, taken from "
    "a more similar side."
)
# Where the message names no cause that can be mended.
NOT_FOUND_ADVICE = "Mark the object in both pictures, or try another photo, taken from a more similar side."
# What a warning's button says and which part of the page it presses, by the warning's code.
REMEDIES = {"swapped": ("Swap the two pictures", "#swap")}

NOT_PUBLIC = "The paper’s trained weights are not public."

OUR_FAULT = (
    "Something went wrong on our side and the pictures are not to blame; try again, and if it happens again, "
    "try smaller pictures."
)


def what_runs(engine: EngineName, adapter: str | None, model: str = "FLUX.1-Kontext") -> str:
    """Which engine refines here, in one line for everybody.

    Args:
        engine: the one that "auto" stands for.
        adapter: the diffusion engine's trained weights, a folder or a Hub repository; of a folder only the name is
            told.
        model: the diffusion engine's base, as people call it.
    """
    if engine == "correspondence":
        return f"This page runs our own correspondence engine, which needs no weights. {NOT_PUBLIC}"
    name = Path(adapter).name if adapter and Path(adapter).expanduser().is_dir() else adapter
    weights = f"with the weights {name}" if name else "with its stock weights"
    return f"This page runs the diffusion engine, {model} {weights}. {NOT_PUBLIC}"


def status_line(sentence: str, *, done: bool = False, cancelled: bool = False) -> str:
    """The status under the button. Screen readers announce it after their present sentence.

    Args:
        sentence: plain text.
        done: whether there is a new result to look at.
        cancelled: whether a run was; the line then stays in view.
    """
    state = " done" if done else " cancelled" if cancelled else ""
    return f'<p class="status fine{state}" role="status">{escape(sentence)}</p>'


def progress_line(stage: str, fraction: float, *, arrived: bool = False) -> str:
    """The status of a run.

    Args:
        stage: the present one, or another sentence.
        fraction: of the whole that is done, from 0 to 1.
        arrived: whether there is a result to look at already; assets/page.js brings it into view.
    """
    bar = f'<progress max="1" value="{fraction:.3f}" aria-label="How far it is"></progress>'
    state = "working arrived" if arrived else "working"
    return f'<div class="status {state}"><span role="status">{escape(stage)}</span>{bar}</div>'


def problem_line(sentence: str) -> str:
    """The status after a problem. Screen readers announce it at once; assets/page.js brings it into view."""
    return f'<p class="status problem" role="alert">{escape(sentence)}</p>'


def missing_pictures(reference: object | None, generated: object | None) -> str:
    """One sentence that says which of the two pictures is missing; None is a missing one."""
    if reference is None and generated is None:
        return "Add the two pictures first: the reference photo and the generated picture."
    if reference is None:
        return "Add the reference photo first: the sharp picture of the real object."
    return "Add the generated picture first: the one to refine."


def outcome_of(report: Report) -> str:
    """`REFINED`, `PARTLY_REFINED` or `ENLARGED`."""
    if not report.placed:
        return ENLARGED
    # A diffusion model redraws the whole picture and knows no share of the object.
    share = report.object_coverage
    return REFINED if share is None or share >= MOSTLY_REFINED else PARTLY_REFINED


def report_summary(report: Report) -> str:
    """How a result turned out and what to do about it, then the report's figures, as HTML."""
    outcome = outcome_of(report)
    told = {
        PARTLY_REFINED: (ADVICE.format(share=_about(report.object_coverage or 0.0)), report.message),
        ENLARGED: (report.message, "" if report.warnings else NOT_FOUND_ADVICE),
    }
    shown = told.get(outcome, (report.message,))
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in shown if sentence)
    remedies = "".join(
        f'<button type="button" class="remedy" data-press="{part}">{escape(words)}</button>'
        for words, part in (REMEDIES[code] for code in report.warnings if code in REMEDIES)
    )
    figures = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _figures(report))
    return (
        f'<div class="report {outcome}"><p class="outcome">{HEADLINES[outcome]}</p>'
        f'<div class="message">{sentences}{remedies}</div><dl>{figures}</dl></div>'
    )


def _figures(report: Report) -> list[tuple[str, str]]:
    width, height = report.output_size
    # Beside an object that is hardly changed the probability that what was changed is better would mislead.
    return [
        *([("Confidence", _percent(report.confidence))] if outcome_of(report) == REFINED else []),
        ("Size", f"{width} × {height} pixels"),
        ("Time", f"{sum(report.seconds.values()):.1f} s"),
        ("Engine", report.engine.capitalize()),
    ]


def _about(share: float) -> str:
    return "Less than 1%" if share < 0.01 else f"About {_percent(share)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def closer(gain: float, where: str = "") -> str:
    """By how much a refined picture is nearer to the truth than one that is only enlarged, as HTML.

    Args:
        gain: of the PSNR in dB; what is told is how the error, its root mean square, falls or rises.
        where: words that end the sentence.
    """
    change = 100 * (1 - 10 ** (-gain / 20))
    if abs(change) < 1:
        return "As close to the truth as by enlarging alone"
    return f"<b>{abs(change):.0f}% {'closer to' if change > 0 else 'farther from'}</b> the truth{where}"


def capitalised(words: str) -> str:
    """The words with a capital letter at the beginning."""
    return words[:1].upper() + words[1:]


def sentence_for(error: Exception) -> str:
    """The sentence for the visitor. An unexpected error is logged in full, and its details are not shown."""
    if isinstance(error, RefGCError):
        return str(error)
    logger.error("A refinement failed.", exc_info=error)
    return OUR_FAULT
