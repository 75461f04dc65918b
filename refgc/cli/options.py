"""What all commands share: exit statuses and the option --debug."""

from __future__ import annotations

import os
from typing import Annotated

import typer

FAILED, BAD_INPUT = 1, 2
DEBUG = "REFGC_DEBUG"


def remember_debug(debug: bool) -> None:
    """Keeps the choice in the environment, where `main` and every process started from here find it."""
    if debug:
        os.environ[DEBUG] = "1"


Debug = Annotated[
    bool,
    typer.Option("--debug", help=f"Show where an error came from; also {DEBUG}=1."),
]
