"""Progress bars and tables on a terminal; rich is imported only where there is one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from refgc.engine import Progress, no_progress
from refgc.errors import one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


@contextmanager
def stage_bar(*, quiet: bool) -> Iterator[Progress]:
    """A bar that names the stage, on stderr; nothing when quiet or when stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield no_progress
        return
    with _bars() as bars:
        task = bars.add_task("opening", total=1.0)
        yield lambda stage, fraction: bars.update(task, description=stage, completed=fraction)


class PairsProgress(Protocol):
    """Called when a pair of a batch begins; returns the progress of that pair."""

    def __call__(self, number: int, label: str) -> Progress:
        """`number` counts from 1; `label` names the pair."""
        ...


@contextmanager
def pairs_bars(total: int, *, quiet: bool) -> Iterator[PairsProgress]:
    """Two bars on stderr, one over the `total` pairs and one over the stages of the present pair."""
    if quiet or not sys.stderr.isatty():
        yield lambda number, label: no_progress
        return
    with _bars() as bars:
        over_pairs = bars.add_task("pairs", total=total)
        over_stages = bars.add_task("opening", total=1.0)

        def begin(number: int, label: str) -> Progress:
            bars.update(over_pairs, description=f"pair {number} of {total}: {label}", completed=number - 1)
            bars.update(over_stages, description="opening", completed=0.0)
            return lambda stage, fraction: bars.update(over_stages, description=stage, completed=fraction)

        yield begin


def show_bad_pairs(bad: list[tuple[str, str]]) -> None:
    """Lists every bad pair, by label and reason, on stderr: a table on a terminal, else one line each."""
    if not sys.stderr.isatty():
        with suppress(OSError):  # nobody reads them; the status tells that there are some
            for label, reason in bad:
                print(one_line(f"{label}: {reason}"), file=sys.stderr)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Pairs without a result", title_justify="left")
    table.add_column("pair")
    table.add_column("reason")
    for label, reason in bad:
        table.add_row(escape(one_line(label)), escape(one_line(reason)))
    Console(stderr=True).print(table)


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # A line printed to the terminal goes above the bars; one printed into a file or a pipe must still get there.
        redirect_stdout=sys.stdout.isatty(),
    )
