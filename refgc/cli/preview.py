"""`refgc preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from refgc.cli.options import Debug, remember_debug
from refgc.cli.streams import check_stopped, stoppable, tell

GeneratorChoice = Literal["auto", "simulated", "diffusion"]


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
    remember_debug(debug)
    from refgc.diptych.preview import make_preview_request, parse_artifacts
    from refgc.diptych.preview import preview as make_preview
    from refgc.outputs.preview import GENERATED, check_preview_folder, write_preview
    from refgc.terminal import stage_bar

    strengths = parse_artifacts(artifact or ())
    inputs = [path for path in (reference, scene, reference_mask, scene_mask) if path is not None]
    check_preview_folder(output, report, inputs, overwrite=overwrite)
    with stage_bar(quiet=quiet) as bar:
        progress = stoppable(bar)
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
        check_stopped()
        write_preview(result, output, report)
    if not quiet:
        width, height = result.report.generated_size
        tell(f"{output / GENERATED} ({width}x{height}): {result.report.message}")
