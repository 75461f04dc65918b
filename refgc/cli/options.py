"""What all commands share: exit statuses and the option --debug."""

from __future__ import annotations

import os
from typing import Annotated

import typer

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
DEBUG = "REFGC_DEBUG"


def remember_debug(debug: bool) -> None:
    """Kept in the environment, where `main` finds it and processes started from here do too."""
    if debug:
        os.environ[DEBUG] = "1"


Debug = Annotated[
    bool,
    typer.Option("--debug", help=f"Show where an error came from; also {DEBUG}=1."),
]
