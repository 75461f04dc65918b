"""`refgc figures`: grids of results, the paper's figures for any backbone and triplet, and a page with sliders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from refgc.cli.options import Command, Debug, Group, remember_debug
from refgc.cli.streams import check_stopped, native_messages_off, stoppable, tell

RANKS = ("best", "median", "worst")

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A dataset with triplets, a frozen set of `refgc dataset benchmark`, or a folder of folders with pictures "
        "called hrri, lrgi and hrgt.",
    ),
]
Outputs = Annotated[
    list[Path], typer.Option("--output", "-o", metavar="FILE", help="Ends in .pdf, .svg or .png; may be given thrice.")
]
Methods = Annotated[
    list[str],
    typer.Option(
        "--method", metavar="LABEL=FOLDER", help="A folder of results named by id, such as ID.png; one for each column."
    ),
]
Ids = Annotated[str | None, typer.Option(metavar="A,B,C", help="The scenes, in this order, by their ids.")]
Results = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The results.jsonl of `refgc evaluate`, for --pick and scores.")
]
Pick = Annotated[
    str | None,
    typer.Option(
        metavar="RANKS", help="Choose scenes by a metric: best, median and worst, separated by commas, in this order."
    ),
]
Metric = Annotated[str, typer.Option(help="Which metric chooses, and is written below the pictures.")]
Of = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Whose metric chooses, as the results call it; the last --method.")
]
Over = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Choose by the metric's gain over this method of the results.")
]
Unreviewed = Annotated[
    bool,
    typer.Option(
        "--unreviewed/--accepted-only", help="Take rows of a dataset as well that too few people have looked at."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Dpi = Annotated[int, typer.Option(min=36, max=1200, help="Pixels an inch.")]
Width = Annotated[float, typer.Option(help="Of the figure, in inches.")]

figures = typer.Typer(
    cls=Group,
    name="figures",
    help="Draw figures: grids of results, what a model's blocks do, an adapter's gates, the tasks, a page with sliders.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def grid(
    folder: Folder,
    *,
    output: Outputs,
    method: Methods,
    ids: Ids = None,
    results: Results = None,
    pick: Pick = None,
    metric: Metric = "psnr",
    of: Of = None,
    over: Over = None,
    windows: Annotated[int, typer.Option(help="How many places of the object are enlarged, 0 to 2.")] = 2,
    width: Width = 7.0,
    dpi: Dpi = 200,
    unreviewed: Unreviewed = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw scenes as rows and methods as columns, with the object's detail enlarged below each picture."""
    remember_debug(debug)
    from refgc.evaluation.figures.grid import GridSettings, make_grid
    from refgc.evaluation.figures.results import parse_methods
    from refgc.evaluation.figures.selection import select
    from refgc.terminal import stage_bar

    methods = parse_methods(method)
    chosen = select(
        folder,
        methods,
        ids=ids,
        results=results,
        pick=pick,
        metric=metric,
        of=of,
        over=over,
        unreviewed=unreviewed,
    )
    settings = GridSettings(windows, chosen.metric, digits=chosen.digits, width=width, dpi=dpi)
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        data = make_grid(
            chosen.scenes, methods, output, scores=chosen.scores, settings=settings, progress=stoppable(bar)
        )
    check_stopped()
    _tell([*output, data], quiet)


def _tell(files: list[Path], quiet: bool) -> None:
    if not quiet:
        for file in files:
            tell(str(file))


for command in (grid,):
    figures.command(cls=Command)(command)
