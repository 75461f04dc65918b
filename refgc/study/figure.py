"""The figure of a study: the share of each choice with its interval, one panel a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refgc.evaluation.figures.drawing import COLOURS, GREY, INK, SMALL, figure_style, fitting_text, save_figure
from refgc.study.definition import NO_DIFFERENCE

# Inches: of a text's width, of a bar with the room around it, of head and axis, and of the names at the left.
WIDTH, BAR, FRAME, NAMES = 7.0, 0.24, 0.62, 1.15
# Between the panels, as a part of their width.
BETWEEN = 0.12
# Of an axis of percent: room for the number behind the longest bar.
ROOM = 0.2


def draw_shares(report: Mapping[str, Any], outputs: Sequence[Path]) -> None:
    """Draw the shares of a report; the same report gives the same bytes.

    Args:
        report: of `refgc.study.report.make_report`.
        outputs: files that end in .pdf, .svg or .png.

    Raises:
        InputError: a file cannot be written.
    """
    questions = report["questions"]
    names = [share["choice"] for share in questions[0]["shares"]]
    height = FRAME + BAR * len(names)
    most = max(
        bound for question in questions for share in question["shares"] for bound in (share["share"], _high(share))
    )
    with figure_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, height))
        panels = figure.subplots(1, len(questions), sharey=True, squeeze=False)[0]
        figure.subplots_adjust(
            left=NAMES / WIDTH, right=1 - 0.1 / WIDTH, top=1 - 0.24 / height, bottom=0.38 / height, wspace=BETWEEN
        )
        panel_width = (WIDTH - NAMES - 0.1) / len(questions)
        colours = [
            GREY if name == NO_DIFFERENCE else COLOURS[number % len(COLOURS)] for number, name in enumerate(names)
        ]
        for panel, question in zip(panels, questions, strict=True):
            found = question["shares"]
            values = [100 * share["share"] for share in found]
            panel.barh(range(len(names)), values, height=0.62, color=colours, alpha=0.85, linewidth=0)
            for place, share in enumerate(found):
                low, high = 100 * _low(share), 100 * _high(share)
                panel.plot([low, high], [place, place], color=INK, linewidth=1.0, solid_capstyle="butt")
                panel.plot([low, low, high, high], [place] * 4, "|", color=INK, markersize=4, markeredgewidth=1.0)
                panel.text(
                    high + 2.5 * most, place, f"{100 * share['share']:.0f}", va="center", fontsize=SMALL, color=INK
                )
            panel.set_title(fitting_text(question["question"], panel_width * 0.9, 8.0, weight="bold"), weight="bold")
            panel.set_xlim(0, min(100 * most * (1 + ROOM), 125))
            panel.set_xlabel("votes (%)")
            panel.set_yticks(range(len(names)), [fitting_text(name, NAMES - 0.15, SMALL) for name in names])
            panel.tick_params(axis="y", length=0)
            panel.grid(axis="y", visible=False)
            panel.spines[["top", "right", "left"]].set_visible(False)
        panels[0].invert_yaxis()
        save_figure(figure, outputs)


def _low(share: Mapping[str, Any]) -> float:
    return float(share["share"] if share["interval"] is None else share["interval"][0])


def _high(share: Mapping[str, Any]) -> float:
    return float(share["share"] if share["interval"] is None else share["interval"][1])
