"""What all commands share: exit statuses, the option --debug, and how their help shows flags."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

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


# As `refgc.runner.RunnerName`, whose module would make every help slow.
RunnerChoice = Literal["local", "ray"]
# Of the commands that take them from a settings file too.
Runner = Annotated[RunnerChoice | None, typer.Option(help="Processes of this machine, the default, or a Ray cluster.")]
Workers = Annotated[int | None, typer.Option(help="How many at once; one for each core or GPU when not given.")]


class Command(TyperCommand):
    """A subcommand whose help shows flags as flags."""

    def get_help(self, ctx: Any) -> str:
        """The help, also of what `--help` prints."""
        _show_flags(self, ctx)
        return super().get_help(ctx)


class Group(TyperGroup):
    """The command itself, likewise."""

    def get_help(self, ctx: Any) -> str:
        """The help, also of what `--help` prints."""
        _show_flags(self, ctx)
        return super().get_help(ctx)


def _show_flags(command: TyperCommand | TyperGroup, ctx: Any) -> None:
    """Takes the type away that the help would show after a flag, which takes no value.

    Args:
        command: whose help is asked for.
        ctx: typer's context, the class of which typer does not publish.
    """
    for parameter in command.get_params(ctx):
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
