"""Sentences on the page: how things stand, and what to do when they went wrong."""

from __future__ import annotations

from html import escape

import gradio as gr


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


def missing_pictures(reference: str | None, generated: str | None) -> str:
    """One sentence that says which of the two pictures is still to be given."""
    if reference is None and generated is None:
        return "Add the two pictures first: the reference photo and the generated picture."
    if reference is None:
        return "Add the reference photo first: the sharp picture of the real object."
    return "Add the generated picture first: the one to refine."
