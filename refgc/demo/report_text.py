"""The report in words and a few figures, as HTML."""

from __future__ import annotations

from html import escape

from refgc.engines import Report


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
