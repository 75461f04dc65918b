"""`refgc figures`: grids of results, the paper's figures for any backbone and triplet, and a page with sliders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refgc.cli.options import Command, Debug, Group, remember_debug
from refgc.cli.streams import check_stopped, native_messages_off, stoppable, tell

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A dataset with triplets, a frozen set of `refgc dataset benchmark`, or a folder of folders with pictures "
        "called hrri, lrgi and hrgt.",
    ),
]
Outputs = Annotated[
    list[Path],
    typer.Option("--output", "-o", metavar="FILE", help="Ends in .pdf, .svg or .png; may be given for each."),
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
    help="Draw figures: grids of results, a model's blocks, an adapter's gates, the tasks, and a page of sliders.",
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


def blocks(
    folder: Folder,
    *,
    output: Outputs,
    base: Annotated[
        str | None,
        typer.Option(help="klein, klein-base, kontext, a folder or a Hub repository; REFGC_BASE if not given."),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="FreqMoLE's weights or a LoRA, a folder or a Hub repository; none if not given.")
    ] = None,
    panels: Annotated[
        str,
        typer.Option(
            help="a: each block against the last; b: latents; c: their low frequencies. bc loads the VAE alone."
        ),
    ] = "abc",
    timesteps: Annotated[
        str, typer.Option(help="Of panel a, above 0 and at most 1000, separated by commas.")
    ] = "888,558",
    ids: Ids = None,
    scenes: Annotated[int, typer.Option(min=1, help="The most scenes of panels b and c.")] = 200,
    block_scenes: Annotated[int, typer.Option(min=1, help="The most scenes of panel a.")] = 8,
    side: Annotated[int, typer.Option(help="Longer side of the pictures that the model sees, in pixels.")] = 1024,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    unreviewed: Unreviewed = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw the paper's Figure 5 of a model; run it again to go on where it was."""
    remember_debug(debug)
    from refgc.errors import InputError, quoted
    from refgc.evaluation.figures.blocks import BlockSettings, make_blocks
    from refgc.evaluation.figures.drawing import check_outputs
    from refgc.evaluation.figures.scenes import choose_scenes, read_scenes
    from refgc.machine import silence_libraries
    from refgc.terminal import stage_bar

    try:
        numbers = tuple(float(part) for part in timesteps.split(","))
    except ValueError as error:
        raise InputError(f"{quoted(timesteps)} are no timesteps; give numbers such as 888,558.") from error
    settings = BlockSettings(panels, numbers, scenes, block_scenes, side, seed)
    # Before the model is fetched, which may take long.
    settings.check()
    check_outputs(output)
    found = read_scenes(folder, unreviewed=unreviewed)
    items = list(found.items) if ids is None else choose_scenes(found, _listed(ids))
    silence_libraries()
    from refgc.model.backbones.catalogue import chosen_source
    from refgc.model.loading import Sources, fetch
    from refgc.settings import settings as environment

    sources = Sources(chosen_source(base or environment().base, adapter), adapter)
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        data = make_blocks(items, fetch(sources), output, settings, stoppable(bar))
    check_stopped()
    _tell([*output, data], quiet)


def alpha(
    adapter: Annotated[
        list[str], typer.Argument(metavar="ADAPTER...", help="Folders or Hub repositories, or LABEL=FOLDER.")
    ],
    *,
    output: Outputs,
    dpi: Dpi = 200,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw how far each block of an adapter leans to the low-frequency expert."""
    remember_debug(debug)
    from refgc.evaluation.figures.alpha import make_alpha

    data = make_alpha(adapter, output, dpi=dpi)
    _tell([*output, data], quiet)


def tasks(
    folder: Folder,
    *,
    output: Outputs,
    identity: Annotated[
        str | None, typer.Option("--id", help="The scene by its id; the first one with an HRGT when not given.")
    ] = None,
    dpi: Dpi = 200,
    unreviewed: Unreviewed = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw one scene as SR, RefSR, RefGCR and RefGC-SR2 see it: what each is given, and what it should give."""
    remember_debug(debug)
    from refgc.evaluation.figures.scenes import choose_scenes, read_scenes
    from refgc.evaluation.figures.taxonomy import make_tasks

    scenes = read_scenes(folder, unreviewed=unreviewed)
    if identity is None:
        item = next((item for item in scenes.items if item.hrgt is not None), scenes.items[0])
    else:
        item = choose_scenes(scenes, [identity])[0]
    data = make_tasks(item, output, dpi=dpi)
    _tell([*output, data], quiet)


def html(
    folder: Folder,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Ends in .html.")],
    method: Methods = None,
    evaluation: Evaluation = None,
    ids: Ids = None,
    pick: Pick = None,
    metric: Metric = "psnr",
    of: Of = None,
    over: Over = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = "Methods side by side",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the WebP pictures in the page.")] = 90,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="PNG pictures, which lose nothing and take much more.")
    ] = False,
    unreviewed: Unreviewed = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one HTML page with before/after sliders and all pictures in it, which needs no network."""
    remember_debug(debug)
    from refgc.evaluation.figures.page import make_page
    from refgc.evaluation.figures.selection import Choice, select
    from refgc.terminal import stage_bar

    choice = Choice(tuple(method or ()), ids, evaluation, pick, metric, of, over, unreviewed)
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        selection = select(folder, choice)
        make_page(selection, output, title=title, quality=None if lossless else quality, progress=stoppable(bar))
    check_stopped()
    _tell([output], quiet)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _tell(files: list[Path], quiet: bool) -> None:
    if not quiet:
        for file in files:
            tell(str(file))


for command in (grid, blocks, alpha, tasks, html):
    figures.command(cls=Command)(command)
