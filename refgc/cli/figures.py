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
    list[str] | None,
    typer.Option(
        "--method",
        metavar="LABEL=FOLDER",
        help="A folder of results named by id, such as ID.png; one for each column. LABEL alone for a method of "
        "--evaluation; all of its methods when none is given.",
    ),
]
Ids = Annotated[str | None, typer.Option(metavar="A,B,C", help="The scenes, in this order, by their ids.")]
Evaluation = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder that `refgc evaluate` wrote: results and scores.")
]
Pick = Annotated[
    str | None,
    typer.Option(
        metavar="RANKS", help="Choose scenes by --metric: best, median and worst, separated by commas, in this order."
    ),
]
Metric = Annotated[str, typer.Option(help="The score that chooses, and that is shown.")]
Of = Annotated[
    str | None, typer.Option(metavar="LABEL", help="The method whose score chooses; the last one when not given.")
]
Over = Annotated[str | None, typer.Option(metavar="LABEL", help="Choose by the gain over this method.")]
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
    method: Methods = None,
    evaluation: Evaluation = None,
    ids: Ids = None,
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
    from refgc.evaluation.figures.selection import Choice, select
    from refgc.terminal import stage_bar

    choice = Choice(tuple(method or ()), ids, evaluation, pick, metric, of, over, unreviewed)
    settings = GridSettings(windows, width=width, dpi=dpi)
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        data = make_grid(select(folder, choice), output, settings=settings, progress=stoppable(bar))
    check_stopped()
    _tell([*output, data], quiet)


def _tell(files: list[Path], quiet: bool) -> None:
    if not quiet:
        for file in files:
            tell(str(file))


for command in (grid,):
    figures.command(cls=Command)(command)
