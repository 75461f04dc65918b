"""`refgc doctor`: what was found, as tables for people or as JSON."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from refgc.doctor import EngineState, Examination, PartState


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Show what this machine can run, and what is missing."""
    from refgc.doctor import examine

    examination = examine()
    if as_json:
        print(examination.model_dump_json(indent=2))
    else:
        _show(examination)


def _show(examination: Examination) -> None:
    """Prints the examination as tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console(highlight=False)

    engines = Table("engine", "state", title="Engines", title_justify="left")
    for engine in examination.engines:
        engines.add_row(engine.name, _ready(engine.ready))
    console.print(engines)
    parts = Table("part", "state", "without it", title="Optional parts", title_justify="left")
    for part in examination.parts:
        parts.add_row(part.name, _ready(part.ready), part.without)
    console.print(parts)
    states: list[EngineState | PartState] = [*examination.engines, *examination.parts]
    for item in states:
        if item.missing:
            console.print(f"{item.name} needs:")
        for sentence in item.missing:
            # Without markup, and broken here, so that commands and addresses can be copied.
            console.print(broken(sentence, console.width), markup=False, soft_wrap=True)

    machine = Table("", "found", title="Machine", title_justify="left")
    machine.add_row("refgc", examination.refgc)
    machine.add_row("python", examination.python)
    machine.add_row("system", examination.system)
    machine.add_row("processor", f"{examination.processor}, {examination.cores} cores")
    machine.add_row("memory", _gib(examination.memory_gib))
    gpus = [f"{gpu.name}, {_gib(gpu.memory_gib)}, driver {gpu.driver}" for gpu in examination.gpus]
    machine.add_row("GPU", "\n".join(gpus) or "no NVIDIA GPU")
    console.print(machine)

    # Names whole, also in a narrow terminal, since they are there to be copied.
    variable = Column("variable, and what it names", overflow="fold")
    weights = Table(variable, Column("for", no_wrap=True), "state", title="Weights", title_justify="left")
    for named in examination.weights:
        missing = "optional" if named.optional else "[yellow]missing[/]"
        source = f"\n  {escape(named.source)}" if named.source else ""
        weights.add_row(f"{named.variable}{source}", named.needed_for, "present" if named.present else missing)
    console.print(weights)

    bases = Table(
        Column("REFGC_BASE", no_wrap=True),
        "model",
        "licence",
        "on this GPU" if examination.gpus else "on a GPU",
        title="Diffusion models",
        title_justify="left",
    )
    for base in examination.bases:
        state = "present" if base.present else f"{base.gigabytes} GB to download"
        gate = "gated" if base.gated else "no account needed"
        title = f"{escape(base.title)}\n{base.steps}\n{state}{', taken' if base.chosen else ''}"
        bases.add_row(base.word, title, f"{escape(base.licence)}\n{gate}", base.fit)
    console.print(bases)

    libraries = Table("library", "version", "for", title="Libraries", title_justify="left")
    for library in examination.libraries:
        libraries.add_row(library.module, library.version or "[yellow]not installed[/]", library.needed_for)
    console.print(libraries)


# A command stands between these; no line is broken within it but by a backslash, as a shell takes it.
COMMAND = re.compile(r"`[^`]+`[.,;]?")
# Stands for a blank at which no line may end.
FIXED = "\N{NO-BREAK SPACE}"


def broken(sentence: str, width: int) -> str:
    """The sentence as a point of a list, in lines of at most that width; longer ones only where one word is.

    Args:
        sentence: with commands between backquotes.
        width: in columns.
    """
    room = width - 4

    def held(command: re.Match[str]) -> str:
        if len(command[0]) <= room:
            return command[0].replace(" ", FIXED)
        before, *options = command[0].split(" --")
        return " \\\n".join([before, "--" + " --".join(options)]).replace(" ", FIXED)

    parts = COMMAND.sub(held, sentence).split("\n")
    lines = [
        line for part in parts for line in textwrap.wrap(part, room, break_long_words=False, break_on_hyphens=False)
    ]
    return "\n".join(f"{'    ' if at else '  - '}{line}" for at, line in enumerate(lines)).replace(FIXED, " ")


def _gib(memory: float | None) -> str:
    return "unknown" if memory is None else f"{memory:.1f} GiB"


def _ready(ready: bool) -> str:
    return "[green]ready[/]" if ready else "[yellow]not ready[/]"
