"""`refgc doctor`: what was found, as tables for people or as JSON."""

from __future__ import annotations

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
            # Unbroken and without markup, so that commands and addresses can be copied.
            console.print(f"  - {sentence}", markup=False, soft_wrap=True)

    machine = Table("", "found", title="Machine", title_justify="left")
    machine.add_row("refgc", examination.refgc)
    machine.add_row("python", examination.python)
    machine.add_row("system", examination.system)
    machine.add_row("processor", f"{examination.processor}, {examination.cores} cores")
    machine.add_row("memory", _gib(examination.memory_gib))
    gpus = [f"{gpu.name}, {_gib(gpu.memory_gib)}, driver {gpu.driver}" for gpu in examination.gpus]
    machine.add_row("GPU", "\n".join(gpus) or "no NVIDIA GPU")
    console.print(machine)

    # Whole names, also in a narrow terminal, since they are there to be copied.
    variable, source = Column("variable", no_wrap=True), Column("from", overflow="fold")
    weights = Table(variable, "for", source, "state", title="Weights", title_justify="left")
    for named in examination.weights:
        missing = "not set, optional" if named.optional else "[yellow]missing[/]"
        weights.add_row(named.variable, named.needed_for, named.source or "-", "present" if named.present else missing)
    console.print(weights)

    libraries = Table("library", "version", "for", title="Libraries", title_justify="left")
    for library in examination.libraries:
        libraries.add_row(library.module, library.version or "[yellow]not installed[/]", library.needed_for)
    console.print(libraries)


def _gib(memory: float | None) -> str:
    return "unknown" if memory is None else f"{memory:.1f} GiB"


def _ready(ready: bool) -> str:
    return "[green]ready[/]" if ready else "[yellow]not ready[/]"
