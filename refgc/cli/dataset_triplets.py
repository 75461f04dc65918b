"""`refgc dataset triplets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from refgc.cli.options import Debug, RunnerChoice, remember_debug
from refgc.cli.streams import check_stopped, native_messages_off, stoppable, tell
from refgc.errors import InputError

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
        TaskChoice, typer.Option(help="Whether the command or server draws into the HRGT's scene or one of its own.")
    ] = "compositing",
    seeds: Annotated[int, typer.Option(help="How many LRGIs of each pair.")] = 1,
    unreviewed: Annotated[
        bool,
        typer.Option("--unreviewed", help="Take pairs too that a model has filtered and too few people have reviewed."),
    ] = False,
    least_overlap: Annotated[
        float | None, typer.Option(help="Least overlap of the outlines of LRGI and HRGT, from 0 to 1.")
    ] = None,
    runner: Annotated[RunnerChoice, typer.Option(help="Processes of this machine, or a Ray cluster.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="How many at once; one for each core or GPU when not given.")
    ] = None,
    gpus_per_worker: Annotated[
        int | None, typer.Option(help="GPUs of each worker; 1 for DipRefGC and 0 for all else when not given.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Debug = False,
) -> None:
    """Make an LRGI for each accepted pair of a dataset; run it again to go on where it was."""
    remember_debug(debug)
    from refgc.dataset.lrgi import Command, DipRefGC, LrgiSource, Server, Simulator
    from refgc.dataset.triplets import LEAST_OVERLAP, TripletSettings, run_triplets
    from refgc.terminal import stage_bar

    if sum((simulated, generator_command is not None, server is not None)) > 1:
        raise InputError(
            "More than one generator is given; choose one of --simulated, --generator-command and --server."
        )
    foreign = generator_command is not None or server is not None
    if foreign and generator_name is None:
        raise InputError("The generator has no name; add --generator-name, such as --generator-name InsertAnything.")
    if generator_name is not None and not foreign:
        raise InputError("--generator-name is for --generator-command and --server; leave it out.")
    source: LrgiSource = Simulator() if simulated else DipRefGC()
    if generator_command is not None:
        source = Command(generator_command, generator_name or "", task)
    elif server is not None:
        source = Server(server, generator_name or "", task)
    settings = TripletSettings(
        source,
        seeds=seeds,
        unreviewed=unreviewed,
        least_overlap=LEAST_OVERLAP if least_overlap is None else least_overlap,
        runner=runner,
        workers=workers,
        gpus_per_worker=int(isinstance(source, DipRefGC)) if gpus_per_worker is None else gpus_per_worker,
    )
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        count = run_triplets(folder, settings, stoppable(bar))
        check_stopped()
    if not quiet:
        by_generator = "simulated" if simulated else f"by {source.name}"
        tell(
            f"{folder}: {count.made} triplets made ({by_generator}), {count.earlier} there before, {count.misfits} "
            f"left out for their pose, {count.failures} failed, {count.not_accepted} pairs not accepted."
        )
