"""The `refgc` command. Each subcommand imports what it needs when it runs, so that the help appears at once."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from refgc import __version__
from refgc.cli.dataset import dataset
from refgc.cli.doctor import doctor
from refgc.cli.evaluate import evaluate
from refgc.cli.figures import figures
from refgc.cli.options import BAD_INPUT, FAILED, Command, Debug, Group, remember_debug
from refgc.cli.page import page
from refgc.cli.preview import preview
from refgc.cli.refine import refine, report_schema
from refgc.cli.serve import serve
from refgc.cli.setup import setup
from refgc.cli.streams import StoppedError, complain, finish, open_streams, stopped_by_signals
from refgc.cli.study import study
from refgc.cli.train import train
from refgc.cli.watch import watch
from refgc.errors import InputError, one_line, sentence_about

app = typer.Typer(
    cls=Group,
    help="Bring the true detail of a reference photo back into a generated picture.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (refine, watch, preview, page, serve, setup, doctor, evaluate, report_schema):
    app.command(cls=Command)(command)
app.add_typer(dataset)
app.add_typer(figures)
app.add_typer(train)
app.add_typer(study)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and ends the process.

    The status is 0 where all is done, 2 for bad input, 1 for anything else, and 130, 143 or 129 after SIGINT, SIGTERM
    or SIGHUP.

    Args:
        arguments: of the command; None takes those of the process.
    """
    open_streams()
    try:
        with stopped_by_signals():
            status = typer.main.get_command(app).main(arguments, prog_name="refgc", standalone_mode=False)
    except StoppedError as stopped:
        complain(stopped.sentence)
        status = stopped.status
    except typer.TyperException as error:
        status = _fail(error, _usage_sentence(error), error.exit_code)
    except InputError as error:
        status = _fail(error, sentence_about(error), BAD_INPUT)
    except Exception as error:
        status = _fail(error, sentence_about(error), FAILED)
    sys.exit(finish(status or 0))


def _fail(error: Exception, sentence: str, status: int) -> int:
    complain("".join(traceback.format_exception(error)) if _debugging() else f"refgc: {sentence}")
    return status


def _debugging() -> bool:
    """Whether tracebacks are wanted. The settings are imported late, since the help does not need them."""
    from refgc.settings import settings

    try:
        return settings().debug
    except InputError:  # the sentence about the faulty variable is the one to be printed
        return False


def _usage_sentence(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = "refgc" if context is None else context.command_path
    said = one_line(error.format_message()).replace("Value error, ", "").rstrip(".")
    return f"{said}; `{command} --help` shows what can be given."


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"refgc {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Debug = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Bring the true detail of a reference photo back into a generated picture."""
    remember_debug(debug)
