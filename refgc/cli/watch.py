"""`refgc watch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refgc.cli.options import BAD_INPUT, Debug, remember_debug
from refgc.cli.refine_options import (
    Bits,
    EngineName,
    FormatChoice,
    LayersChoice,
    ObjectName,
    Profile,
    Quality,
    Quiet,
    ReferenceMask,
    Scale,
    Seed,
    Speed,
    Strength,
    SurroundingsName,
)
from refgc.cli.streams import check_stopped, complain, native_messages_off, stoppable, tell
from refgc.errors import one_line

if TYPE_CHECKING:
    from refgc.engine import Progress


def watch(
    *,
    folder: Annotated[Path, typer.Argument(metavar="IN", help="The folder that generated pictures come into.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the refined pictures.")],
    reference: Annotated[
        list[Path],
        typer.Option(
            help="The sharp photo of the object (HRRI), for every picture; up to four times, for more photos of it."
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Work through what is there, and end.")] = False,
    interval: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=3600,
            help="Seconds between two looks at the folder. A picture that is the same at both is complete.",
        ),
    ] = 2.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Refine again, once, what earlier runs were through with.")
    ] = False,
    file_format: Annotated[FormatChoice, typer.Option("--format", help="The format of the refined pictures.")] = "png",
    scale: Scale = 4,
    engine: EngineName = "auto",
    reference_mask: ReferenceMask = None,
    object_name: ObjectName = "object",
    seed: Seed = 0,
    strength: Strength = 1.0,
    surroundings: SurroundingsName = "plain",
    profile: Profile = "srgb",
    quality: Quality = None,
    bits: Bits = 8,
    report: Annotated[
        Path | None, typer.Option(help="Write what happened to each picture as JSON into this folder.")
    ] = None,
    stages: Annotated[
        Path | None, typer.Option(help="Write the pictures that explain each result into this folder.")
    ] = None,
    layers: Annotated[
        Path | None, typer.Option(help="Write each result as layers to paint on into this folder.")
    ] = None,
    layers_format: Annotated[
        LayersChoice,
        typer.Option(help="With --layers: ora for Krita, psd for Photoshop and GIMP too."),
    ] = "ora",
    speed: Speed = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Refine each picture that comes into a folder, once, until Ctrl+C ends it."""
    remember_debug(debug)
    from refgc.batch import Defaults, Folders
    from refgc.imaging.encode import FileOptions
    from refgc.refinement import best_engine, choose
    from refgc.terminal import stage_bar
    from refgc.watch.watcher import Watched, Watcher, alone_in, check_watched, watch_once
    from refgc.watch.watcher import watch as watch_on

    watched = Watched(
        folder,
        Folders(output, report, stages, layers, layers_format),
        f".{file_format}",
        tuple(reference),
        tuple(reference_mask or ()),
    )
    defaults = Defaults(
        scale=scale,
        object_name=object_name,
        seed=seed,
        strength=strength,
        surroundings=surroundings,
        file=FileOptions(profile, quality, bits),
    )
    check_watched(watched, defaults)
    name = best_engine(speed=speed) if engine == "auto" else engine

    @contextmanager
    def begin() -> Iterator[Progress]:
        # A bar of its own for each picture, so that nothing is drawn while there is none.
        with stage_bar(quiet=quiet) as bar:
            yield stoppable(bar)

    open_engine = partial(choose, name, speed=speed)
    open_engine()  # one that cannot run here is refused before anything is begun
    with alone_in(output), native_messages_off():
        watcher = Watcher(
            watched,
            defaults,
            open_engine,
            overwrite=overwrite,
            begin=begin,
            finished=(lambda line: None) if quiet else tell,
            refused=lambda label, reason: complain(one_line(f"{label}: {reason}")),
        )
        if not once:
            if not quiet:
                tell(f"Watching {str(folder)!r}; Ctrl+C ends it.")
            watch_on(watcher, interval, complain, (lambda line: None) if quiet else tell)
        unfinished = watch_once(watcher, interval)
        check_stopped()
    for picture in unfinished:
        complain(one_line(f"{folder / picture}: It is still being written; it is left for the next time."))
    outcome = watcher.outcome
    if not quiet:
        tell(f"{outcome.done} refined, {outcome.skipped} finished before, {len(outcome.bad)} without a result.")
    if outcome.bad:
        raise typer.Exit(BAD_INPUT)
