"""The `refgc` command; each subcommand imports what it needs when it runs, so that the help comes at once."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refgc import __version__
from refgc.errors import InputError, sentence_about

if TYPE_CHECKING:
    from refgc.batch import Defaults, Folders
    from refgc.engines import Report
    from refgc.outputs import Destination
    from refgc.pairs import Pair

EngineChoice = Literal["auto", "correspondence", "diffusion"]
GeneratorChoice = Literal["auto", "simulated", "diffusion"]

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
DEBUG = "REFGC_DEBUG"

app = typer.Typer(
    help="Bring the true detail of a reference photo back into a generated picture.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command and ends the process: 0 done, 2 bad input, 1 anything else, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is no text must not stop the line that names it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = typer.main.get_command(app).main(prog_name="refgc", standalone_mode=False)
    except typer.TyperException as error:
        status = _fail(error, _usage_sentence(error), error.exit_code)
    except InputError as error:
        status = _fail(error, sentence_about(error), BAD_INPUT)
    except Exception as error:
        status = _fail(error, sentence_about(error), FAILED)
    if status == INTERRUPTED:
        print("Interrupted; every file that was written is whole.", file=sys.stderr)
    sys.exit(status)


def _fail(error: Exception, sentence: str, status: int) -> int:
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    else:
        print(f"refgc: {sentence}", file=sys.stderr)
    return status


def _usage_sentence(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = "refgc" if context is None else context.command_path
    said = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    return f"{said}; `{command} --help` shows what can be given."


def _remember_debug(debug: bool) -> None:
    """Kept in the environment, where `main` finds it and processes started from here do too."""
    if debug:
        os.environ[DEBUG] = "1"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"refgc {__version__}")
        raise typer.Exit


Debug = Annotated[
    bool,
    typer.Option("--debug", help=f"Show where an error came from; also {DEBUG}=1."),
]


@app.callback()
def options(
    debug: Debug = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Bring the true detail of a reference photo back into a generated picture."""
    _remember_debug(debug)


@app.command()
def refine(
    *,
    reference: Annotated[Path | None, typer.Option(help="The sharp photo of the object (HRRI).")] = None,
    generated: Annotated[Path | None, typer.Option(help="The generated picture to refine (LRGI).")] = None,
    output: Annotated[
        Path,
        typer.Option(help="The refined picture (.png, .jpg, .webp), replaced if it exists; with --pairs a folder."),
    ],
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Many pairs instead of one: a .csv or .jsonl list, or a folder. See the README for the layouts."
        ),
    ] = None,
    scale: Annotated[int, typer.Option(help="Output size over generated size: 1, 2 or 4.")] = 4,
    engine: Annotated[
        EngineChoice,
        typer.Option(help="correspondence needs no weights; auto takes the best that `refgc doctor` finds ready."),
    ] = "auto",
    reference_mask: Annotated[
        Path | None, typer.Option(help="The object in the reference, white on black; found when not given.")
    ] = None,
    generated_mask: Annotated[
        Path | None, typer.Option(help="The object in the generated picture; found when not given.")
    ] = None,
    object_name: Annotated[str, typer.Option("--object", help="The object in words.")] = "object",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    strength: Annotated[
        float, typer.Option(help="How much of the reference to bring in, from 0 (plain upscale) to 1.")
    ] = 1.0,
    report: Annotated[
        Path | None, typer.Option(help="Write what happened as JSON to this file; with --pairs a folder.")
    ] = None,
    stages: Annotated[
        Path | None, typer.Option(help="Write the pictures that explain the result into this folder.")
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option(
            help="How the diffusion engine is made faster, such as compile,step-cache=0.1; also REFGC_SPEED. "
            "See the README."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --pairs: refine again what is already finished.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Debug = False,
) -> None:
    """Refine one generated picture with its reference, or every pair of a list or folder with --pairs."""
    _remember_debug(debug)
    from refgc.batch import Defaults, Folders
    from refgc.outputs import Destination
    from refgc.pairs import Pair

    defaults = Defaults(scale=scale, object_name=object_name, seed=seed, strength=strength)
    of_one_pair = {
        "reference": reference,
        "generated": generated,
        "reference_mask": reference_mask,
        "generated_mask": generated_mask,
    }
    given = {name: path for name, path in of_one_pair.items() if path is not None}
    if pairs is None:
        if reference is None or generated is None:
            raise InputError("Give --reference and --generated for one picture, or --pairs for many.")
        destination = Destination(output, report, stages)
        _refine_one(Pair.model_validate(given), destination, defaults, engine, speed, quiet)
    else:
        if given:
            option = "--" + next(iter(given)).replace("_", "-")
            raise InputError(f"With --pairs the list names the pictures; leave {option} out.")
        _refine_many(pairs, Folders(output, report, stages), defaults, engine, speed, overwrite, quiet)


@app.command()
def preview(
    *,
    reference: Annotated[Path, typer.Option(help="The sharp photo of the object (HRRI).")],
    scene: Annotated[
        Path, typer.Option(help="Another photo of the object (HRGT), or a scene with something in its place.")
    ],
    output: Annotated[Path, typer.Option(help="The folder for conditions, diptych, generated picture and report.")],
    reference_mask: Annotated[
        Path | None, typer.Option(help="The object in the reference, white on black; found when not given.")
    ] = None,
    scene_mask: Annotated[
        Path | None, typer.Option(help="The object in the scene, or the place for it; found when not given.")
    ] = None,
    object_name: Annotated[str, typer.Option("--object", "--object-name", help="The object in words.")] = "object",
    caption: Annotated[str | None, typer.Option(help="What the reference shows, in a longer phrase.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    artifact: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=STRENGTH",
            help="How strong a simulated artifact is, from 0 to 1: identity-distortion, detail-inconsistency, "
            "texture-loss or quality-degradation; may be given for each.",
        ),
    ] = None,
    factor: Annotated[int, typer.Option(help="Size of the scene over that of the generated picture: 1, 2 or 4.")] = 4,
    generator: Annotated[
        GeneratorChoice,
        typer.Option(help="simulated needs no weights; auto takes diffusion where a GPU and its weights are here."),
    ] = "auto",
    report: Annotated[
        Path | None, typer.Option(help="Write the report to this file instead of report.json in the folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier preview in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Debug = False,
) -> None:
    """Make a generated picture (LRGI) whose truth is known, from a reference and a scene, to try `refine` on."""
    _remember_debug(debug)
    from refgc.diprefgc.preview import make_preview_request, parse_artifacts
    from refgc.diprefgc.preview import preview as make_preview
    from refgc.diprefgc.preview_files import GENERATED, check_preview_folder, write_preview
    from refgc.terminal import stage_bar

    strengths = parse_artifacts(artifact or ())
    inputs = [path for path in (reference, scene, reference_mask, scene_mask) if path is not None]
    check_preview_folder(output, report, inputs, overwrite=overwrite)
    with stage_bar(quiet=quiet) as progress:
        request = make_preview_request(
            reference,
            scene,
            reference_mask=reference_mask,
            scene_mask=scene_mask,
            object_name=object_name,
            caption=caption,
            seed=seed,
            artifacts=strengths,
            factor=factor,
        )
        result = make_preview(request, generator=generator, progress=progress)
        write_preview(result, output, report)
    if not quiet:
        width, height = result.report.generated_size
        print(f"{output / GENERATED} ({width}x{height}): {result.report.message}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Show what this machine can run, and what is missing."""
    from refgc.doctor import examine
    from refgc.doctor_tables import show

    examination = examine()
    if as_json:
        print(examination.model_dump_json(indent=2))
    else:
        show(examination)


@app.command()
def report_schema() -> None:
    """Print the JSON schema of the file that `refine --report` writes."""
    import json

    from refgc.engines import Report

    print(json.dumps(Report.model_json_schema(), indent=2))


def _refine_one(
    pair: Pair, destination: Destination, defaults: Defaults, engine: EngineChoice, speed: str | None, quiet: bool
) -> None:
    from refgc.batch import request_for
    from refgc.engines import choose
    from refgc.outputs import check_destination, write_result
    from refgc.terminal import stage_bar

    check_destination(destination, pair.inputs, make_folders=False)
    with stage_bar(quiet=quiet) as progress:
        request = request_for(pair, defaults)
        result = choose(engine, speed=speed).refine(request, progress)
        write_result(result, destination)
    if not quiet:
        _show_result(destination.image, result.report)


def _refine_many(
    pairs: Path,
    folders: Folders,
    defaults: Defaults,
    engine: EngineChoice,
    speed: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    from refgc.batch import check_outputs, run_batch
    from refgc.engines import choose
    from refgc.pairs import read_pairs
    from refgc.terminal import pairs_bars, show_bad_pairs

    entries = read_pairs(pairs)
    check_outputs(entries, folders)
    with pairs_bars(len(entries), quiet=quiet) as begin:
        outcome = run_batch(
            entries,
            folders,
            defaults,
            choose(engine, speed=speed),
            overwrite=overwrite,
            begin=begin,
            finished=(lambda path, report: None) if quiet else _show_result,
        )
    if not quiet:
        print(f"{outcome.done} refined, {outcome.skipped} finished before, {len(outcome.bad)} without a result.")
    if outcome.bad:
        show_bad_pairs(outcome.bad)
        raise typer.Exit(BAD_INPUT)


def _show_result(path: Path, report: Report) -> None:
    width, height = report.output_size
    print(f"{path} ({width}x{height}): {report.message}")


if __name__ == "__main__":
    main()
