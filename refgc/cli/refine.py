"""`refgc refine` and `refgc report-schema`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refgc.cli.options import BAD_INPUT, Debug, RunnerChoice, remember_debug
from refgc.cli.pipes import check_no_stream, check_one_stream, picture_from_stdin, picture_to_stdout
from refgc.cli.refine_options import (
    Bits,
    EngineChoice,
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
    is_stream,
    path_or_stream,
)
from refgc.cli.streams import check_stopped, complain, native_messages_off, stoppable, tell
from refgc.errors import InputError

if TYPE_CHECKING:
    from refgc.batch import Defaults, Folders
    from refgc.outputs.result import Destination
    from refgc.pairs import Pair


def refine(
    *,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path_or_stream,
            metavar="<path>",
            help="The sharp photo of the object (HRRI); up to four times, for more photos of the same object. One of "
            "the pictures may be -, standard input.",
        ),
    ] = None,
    generated: Annotated[
        Path | None,
        typer.Option(parser=path_or_stream, metavar="<path>", help="The generated picture to refine (LRGI)."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            parser=path_or_stream,
            metavar="<path>",
            help="The refined picture (.png, .jpg, .webp), replaced if it exists; - for standard output; with --pairs "
            "a folder.",
        ),
    ],
    file_format: Annotated[
        FormatChoice | None,
        typer.Option("--format", help="With --output -: the format of the picture; png when not given."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_stream,
            metavar="<path>",
            help="Many pairs instead of one: a .csv or .jsonl list, or a folder. docs/command.md has the layouts.",
        ),
    ] = None,
    scale: Scale = 4,
    engine: EngineName = "auto",
    reference_mask: ReferenceMask = None,
    generated_mask: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_stream, metavar="<path>", help="The object in the generated picture; found when not given."
        ),
    ] = None,
    object_name: ObjectName = "object",
    seed: Seed = 0,
    strength: Strength = 1.0,
    surroundings: SurroundingsName = "plain",
    profile: Profile = "srgb",
    quality: Quality = None,
    bits: Bits = 8,
    report: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_stream,
            metavar="<path>",
            help="Write what happened as JSON to this file; with --pairs a folder.",
        ),
    ] = None,
    stages: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_stream,
            metavar="<path>",
            help="Write the pictures that explain the result into this folder.",
        ),
    ] = None,
    layers: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_stream,
            metavar="<path>",
            help="Write the result as layers to paint on: .ora for Krita, .psd for Photoshop and GIMP too; with "
            "--pairs a folder.",
        ),
    ] = None,
    layers_format: Annotated[
        LayersChoice, typer.Option(help="With --pairs and --layers: the format of the files of layers.")
    ] = "ora",
    speed: Speed = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --pairs: refine again what is already finished.")
    ] = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="With --pairs: let the list's outputs lead out of the folder.")
    ] = False,
    runner: Annotated[
        RunnerChoice, typer.Option(help="With --pairs: processes of this machine, or a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="With --pairs: how many pairs at once; one when not given, with --runner ray one for each core or GPU."
        ),
    ] = None,
    gpus_per_worker: Annotated[
        int | None,
        typer.Option(help="With --pairs: GPUs of each worker; 1 for diffusion and else 0 when not given."),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Refine one generated picture with its reference, or every pair of a list or folder with --pairs."""
    remember_debug(debug)
    from refgc.batch import Defaults, Folders
    from refgc.imaging.encode import FileOptions, check_file_options
    from refgc.outputs.result import Destination
    from refgc.pairs import Pair

    file = FileOptions(profile, quality, bits)
    check_file_options(file)
    defaults = Defaults(
        scale=scale, object_name=object_name, seed=seed, strength=strength, surroundings=surroundings, file=file
    )
    of_one_pair = {
        "--reference": reference,
        "--generated": generated,
        "--reference-mask": reference_mask,
        "--generated-mask": generated_mask,
    }
    check_no_stream({"--pairs": pairs, "--report": report, "--stages": stages, "--layers": layers})
    to_stdout = is_stream(output)
    if file_format is not None and not to_stdout:
        raise InputError("--format is for --output -; the suffix of a file names its format.")
    given = [option for option, paths in of_one_pair.items() if paths]
    of_many_pairs = {
        "--overwrite": overwrite,
        "--allow-outside": allow_outside,
        "--runner": runner != "local",
        "--workers": workers is not None,
        "--gpus-per-worker": gpus_per_worker is not None,
        "--layers-format": layers_format != "ora",
    }
    if pairs is None:
        unused = [option for option, is_given in of_many_pairs.items() if is_given]
        if unused:
            raise InputError(f"{unused[0]} is for a list of pairs; leave it out, or give the list with --pairs.")
        if not reference or generated is None:
            raise InputError("Give --reference and --generated for one picture, or --pairs for many.")
        check_one_stream(of_one_pair)
        with ExitStack() as streams:
            if to_stdout:
                check_file_options(file, f"standard output.{file_format or 'png'}")
                output = streams.enter_context(picture_to_stdout(file_format or "png"))

            def opened(path: Path) -> Path:
                return streams.enter_context(picture_from_stdin()) if is_stream(path) else path

            pair = Pair.of(
                [opened(path) for path in reference],
                opened(generated),
                [opened(path) for path in reference_mask or []],
                generated_mask and opened(generated_mask),
            )
            line = _refine_one(
                pair,
                Destination(output, report, stages, layers),
                defaults,
                engine,
                speed,
                quiet,
                called="standard output" if to_stdout else "",
            )
        if not quiet:
            (complain if to_stdout else tell)(line)
    else:
        if to_stdout:
            raise InputError("Only one picture can go through standard output; with --pairs give a folder as --output.")
        if given:
            raise InputError(f"With --pairs the list names the pictures; leave {given[0]} out.")
        folders = Folders(output, report, stages, layers, layers_format)
        how = _Workers(engine, speed, runner, workers, gpus_per_worker)
        _refine_many(pairs, folders, defaults, how, overwrite, allow_outside, quiet)


def report_schema() -> None:
    """Print the JSON schema of the file that `refine --report` writes."""
    import json

    from refgc.engine import Report

    print(json.dumps(Report.model_json_schema(), indent=2))


def _refine_one(
    pair: Pair,
    destination: Destination,
    defaults: Defaults,
    engine: EngineChoice,
    speed: str | None,
    quiet: bool,
    called: str,
) -> str:
    """Refines the pair and returns what a person is told of it, in which `called` takes the place of the output."""
    from refgc.batch import request_for
    from refgc.imaging.encode import check_file_options
    from refgc.outputs.result import check_destination, result_line, write_result
    from refgc.refinement import choose
    from refgc.terminal import stage_bar

    check_destination(destination, pair.inputs, make_folders=False)
    check_file_options(defaults.file, destination.image)
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        request = request_for(pair, defaults)
        result = choose(engine, speed=speed).refine(request, stoppable(bar))
        check_stopped()
        write_result(result, destination, defaults.file)
    return result_line(result, destination.image, called)


@dataclass(frozen=True, slots=True)
class _Workers:
    """The options of the command that say what refines a batch; see its help."""

    engine: EngineChoice
    speed: str | None
    runner: RunnerChoice
    workers: int | None
    gpus_per_worker: int | None


def _refine_many(
    pairs: Path,
    folders: Folders,
    defaults: Defaults,
    how: _Workers,
    overwrite: bool,
    allow_outside: bool,
    quiet: bool,
) -> None:
    from refgc.batch import check_defaults, check_outputs, run_batch
    from refgc.pairs import read_pairs
    from refgc.refinement import best_engine, choose
    from refgc.terminal import pairs_bars, show_bad_pairs

    entries = check_outputs(read_pairs(pairs), folders, allow_outside=allow_outside)
    check_defaults(entries, folders, defaults)
    # Decided here, so that no two workers decide differently.
    name = best_engine(speed=how.speed) if how.engine == "auto" else how.engine
    open_engine = partial(choose, name, speed=how.speed)
    if how.runner == "local":
        open_engine()  # one that cannot run here is refused before anything is begun
    with native_messages_off(), pairs_bars(len(entries), quiet=quiet) as begin:
        outcome = run_batch(
            entries,
            folders,
            defaults,
            open_engine,
            overwrite=overwrite,
            begin=lambda number, label: stoppable(begin(number, label)),
            finished=(lambda line: None) if quiet else tell,
            runner=how.runner,
            workers=1 if how.workers is None and how.runner == "local" else how.workers,
            gpus_per_worker=int(name == "diffusion") if how.gpus_per_worker is None else how.gpus_per_worker,
        )
        check_stopped()
    if not quiet:
        tell(f"{outcome.done} refined, {outcome.skipped} finished before, {len(outcome.bad)} without a result.")
    if outcome.bad:
        show_bad_pairs(outcome.bad)
        raise typer.Exit(BAD_INPUT)
