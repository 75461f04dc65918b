"""`refgc dataset pairs`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from refgc.cli.options import Debug, Runner, Workers, remember_debug
from refgc.cli.streams import check_stopped, native_messages_off, stoppable, tell

# As `refgc.dataset.settings.MaskChoice`, whose module would make the help slow.
MaskChoice = Literal["auto", "source", "weight-free", "sam3", "sam3-video"]


def pairs(
    source: Annotated[
        Path,
        typer.Argument(help="A folder of videos, a folder with a folder of photos for each object, or uCO3D."),
    ],
    *,
    output: Annotated[Path, typer.Option(help="The dataset's folder; a run that was ended goes on in it.")],
    server: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Filter and caption by the model of an OpenAI-compatible server."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FOLDER",
            help="Which model of the server; without --server a Qwen3-VL on this machine: a folder, or its name on "
            "the Hub.",
        ),
    ] = None,
    no_vlm: Annotated[
        bool, typer.Option("--no-vlm", help="Filter and caption without a multimodal model; the rows say so.")
    ] = False,
    masks: Annotated[
        MaskChoice | None,
        typer.Option(
            help="Who makes the masks: the source where it has them and else the weight-free segmenter (auto), or one "
            "of them alone, or the SAM 3 that REFGC_SAM names, in each picture or along a video."
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML with a table called pairs; what the command line says goes before it.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(help="CSV or JSONL: name, object, category, caption, licence; else captions.csv of the source."),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Name of the collection in the rows.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the collection, such as CC BY 4.0.")] = None,
    pairs_per_object: Annotated[int | None, typer.Option(help="The most pairs of one object.")] = None,
    frames_per_object: Annotated[int | None, typer.Option(help="The most frames of one object to look at.")] = None,
    frame_seconds: Annotated[float | None, typer.Option(help="Seconds of a video that give one frame.")] = None,
    runner: Runner = None,
    workers: Workers = None,
    gpus_per_worker: Annotated[
        int | None,
        typer.Option(help="GPUs of each worker; when not given 1 where it holds a model and there is a GPU, else 0."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Debug = False,
) -> None:
    """Make pairs of views (HRRI, HRGT) of objects, from videos or photos."""
    remember_debug(debug)
    from refgc.dataset.pairs import run_pairs
    from refgc.dataset.settings import read_pair_settings
    from refgc.terminal import stage_bar

    flags = {
        "server": server,
        "model": model,
        "no_vlm": no_vlm or None,
        "masks": masks,
        "collection": collection,
        "licence": licence,
        "pairs_per_object": pairs_per_object,
        "frames_per_object": frames_per_object,
        "frame_seconds": frame_seconds,
        "runner": runner,
        "workers": workers,
        "gpus_per_worker": gpus_per_worker,
    }
    chosen = read_pair_settings(settings, flags)
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        summary = run_pairs(
            source,
            output,
            chosen,
            captions=captions,
            tell=(lambda line: None) if quiet else tell,
            progress=stoppable(bar),
        )
        check_stopped()
    if quiet:
        return
    tell(f"{summary.pairs} pairs of {summary.objects} objects; {summary.skipped} objects were done before.")
    for step, count in sorted(summary.reasons.items()):
        tell(f"  left out at the step {step}: {count}")
    folder = shlex.quote(str(output))
    if summary.pairs:
        tell(f"Look at them with `refgc dataset review {folder}`, or check them with `refgc dataset check {folder}`.")
    else:
        tell(f"No pair was made; {output}/rejections.jsonl says why for each frame.")
