"""`refgc dataset triplets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from refgc.cli.options import Debug, Runner, Workers, remember_debug
from refgc.cli.streams import check_stopped, native_messages_off, stoppable, tell

TaskChoice = Literal["compositing", "customisation"]


def triplets(
    folder: Annotated[Path, typer.Argument(help="The dataset's folder, with the pairs in it.", metavar="DIR")],
    *,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Simulate the LRGIs; without it DipRefGC draws them, on a GPU.")
    ] = False,
    generator_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Let a command draw each LRGI: {hrri}, {hrri_mask}, {hrgt}, {mask}, {background}, {object}, "
            "{caption}, {seed} and {output} in it are filled in.",
        ),
    ] = None,
    server: Annotated[str | None, typer.Option(metavar="URL", help="Let a server at this address draw them.")] = None,
    generator_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the command or the server is called in the rows.")
    ] = None,
    task: Annotated[
        TaskChoice | None,
        typer.Option(help="Whether the command or server draws into the HRGT's scene, the default, or one of its own."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML with a table called triplets; what the command line says goes before it.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many LRGIs of each pair; 1 when not given.")] = None,
    unreviewed: Annotated[
        bool | None,
        typer.Option(
            "--unreviewed/--accepted-only",
            help="Take pairs too that a model has filtered and too few people have reviewed.",
            show_default=False,
        ),
    ] = None,
    least_overlap: Annotated[
        float | None, typer.Option(help="Least overlap of the outlines of LRGI and HRGT, from 0 to 1.")
    ] = None,
    runner: Runner = None,
    workers: Workers = None,
    gpus_per_worker: Annotated[
        int | None, typer.Option(help="GPUs of each worker; 1 for DipRefGC and 0 for all else when not given.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Debug = False,
) -> None:
    """Make an LRGI for each accepted pair of a dataset; run it again to go on where it was."""
    remember_debug(debug)
    from refgc.dataset.lrgi import chosen_source
    from refgc.dataset.settings import read_triplet_settings
    from refgc.dataset.triplets import run_triplets
    from refgc.terminal import stage_bar

    flags = {
        "simulated": simulated or None,
        "generator_command": generator_command,
        "server": server,
        "generator_name": generator_name,
        "task": task,
        "seeds": seeds,
        "unreviewed": unreviewed,
        "least_overlap": least_overlap,
        "runner": runner,
        "workers": workers,
        "gpus_per_worker": gpus_per_worker,
    }
    chosen = read_triplet_settings(settings, flags)
    source = chosen_source(chosen)
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        count = run_triplets(folder, source, chosen, stoppable(bar))
        check_stopped()
    if not quiet:
        by_generator = "simulated" if chosen.simulated else f"by {source.name}"
        tell(
            f"{folder}: {count.made} triplets made ({by_generator}), {count.earlier} there before, {count.misfits} "
            f"left out for their pose, {count.failures} failed, {count.not_accepted} pairs not accepted."
        )
