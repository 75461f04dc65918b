"""The `refgc` command; each subcommand imports what it needs when it runs, so that the help comes at once."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from refgc import __version__
from refgc.cli.doctor import doctor
from refgc.cli.options import BAD_INPUT, FAILED, INTERRUPTED, Debug, remember_debug
from refgc.cli.preview import preview
from refgc.cli.refine import refine, report_schema
from refgc.errors import InputError, sentence_about

app = typer.Typer(
    help="Bring the true detail of a reference photo back into a generated picture.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (refine, preview, doctor, report_schema):
    app.command()(command)


def main() -> None:
    """Runs the command and ends the process: 0 done, 2 bad input, 1 anything else, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is no text must not stop the line that names it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = typer.main.get_command(app).main(prog_name="refgc", standalone_mode=False)
    except typer.TyperException as error:
        status = _fail(error, _usage_sentence(error), error.exit_code)
    except InputError as error:
        status = _fail(error, sentence_about(error), BAD_INPUT)
    except Exception as error:
        status = _fail(error, sentence_about(error), FAILED)
    if status == INTERRUPTED:
        print("Interrupted; every file that was written is whole.", file=sys.stderr)
    sys.exit(status)


def _fail(error: Exception, sentence: str, status: int) -> int:
    if _debugging():
        import traceback

        traceback.print_exception(error)
    else:
        print(f"refgc: {sentence}", file=sys.stderr)
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
    said = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
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
