"""`refgc dataset review`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from refgc.cli.options import Debug, remember_debug
from refgc.cli.page import LAST_PORT, port_of_environment
from refgc.cli.streams import end_by_signals, tell
from refgc.errors import InputError

LIBRARIES = ("filelock", "gradio", "krippendorff", "starlette")


def review(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the dataset.")],
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LAST_PORT,
            help="The port to listen at; GRADIO_SERVER_PORT, or the first free one from 7860 on, when not given.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at. At any but this one everybody who reaches it may review.")
    ] = "127.0.0.1",
    raters_per_row: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=9,
            help="People who have to agree on a row; a dispute goes to one more. As in the review before, or 2, when "
            "not given.",
        ),
    ] = None,
    only: Annotated[
        Literal["all", "pairs", "triplets"], typer.Option(help="Which rows are shown; pairs come first.")
    ] = "all",
    debug: Debug = False,
) -> None:
    """Serve a page on which people accept or reject the rows of a dataset, until it is interrupted."""
    remember_debug(debug)
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"The review needs {', '.join(missing)}: pip install '.[demo,dataset]' in the project's folder."
        )
    wanted = port_of_environment()
    port = wanted if port is None else port
    from refgc.dataset.verdicts import VerdictLog
    from refgc.review.rows import ReviewedRows
    from refgc.webui.gradio_import import import_gradio

    rows = ReviewedRows(folder, only)
    with VerdictLog(folder, rows.made_of, raters_per_row=raters_per_row) as log:
        import_gradio()
        from refgc.review.page import build_page, launch_settings

        page = build_page(rows)
        end_by_signals(lambda: page.close(verbose=False))
        try:
            _, address, _ = page.launch(
                server_port=port, quiet=True, prevent_thread_lock=True, **launch_settings(rows, log, host)
            )
        except OSError as error:
            place = "All ports that were tried" if port is None else f"Port {port}"
            raise InputError(f"{place} of {host} cannot be had; give another --port or --host.") from error
        counts = log.counts("")
        tell(f"{counts.disputed + counts.unreviewed} of {len(rows.made_of)} rows are open.")
        tell(f"The page is at {address} and ends on Ctrl-C.")
        page.block_thread()
