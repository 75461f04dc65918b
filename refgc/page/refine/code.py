"""The Python script and the command that make a result again without the page."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from refgc.engine import EngineName
from refgc.page.examples import EXAMPLES_FOLDER, is_ours
from refgc.page.refine.inputs import (
    DEFAULT_OBJECT_NAME,
    DEFAULT_SCALE,
    DEFAULT_STRENGTH,
    DEFAULT_SURROUNDINGS,
    Submission,
)
from refgc.webui.components import DEFAULT_SEED

# Options of the command whose name differs from the argument of the function.
SWITCHES = {"object_name": "object"}


@dataclass(frozen=True, slots=True)
class Code:
    """The code that makes a result without the page.

    Attributes:
        python: a whole script.
        command: one command for a POSIX shell.
        hint: where to run it, in sentences.
        masks: the masks that were marked on the page, named as in the code.
    """

    python: str
    command: str
    hint: str
    masks: tuple[Path, ...]


def code_for(submission: Submission, engine: EngineName, output: str, folder: Path) -> Code:
    """The code for a folder with the visitor's files and the masks. Options with their default values are left out.

    Args:
        submission: what was refined.
        engine: made the result; "auto" might stand for another engine on another machine.
        output: the name of the result's file; it gets a number where a file of the visitor has that name.
        folder: the marked masks are copied there, named as in the code; made if there are any.
    """
    names: dict[str, str] = {}
    masks, sentences = [], [_where(submission)]

    def name_file(role: str, known: str) -> None:
        names[role] = _unused(known, names)
        if names[role] != known:
            sentences.append(f"Two files are called {known}: give one of them the name {names[role]}.")

    for role, marking in (("reference", submission.reference), ("generated", submission.generated)):
        name_file(role, _name(marking.source))
        mask = marking.chosen_mask
        if mask is None:
            continue
        if not marking.marks:
            name_file(f"{role}_mask", _name(mask))
            continue
        names[f"{role}_mask"] = _unused(f"{role}-mask.png", names)
        folder.mkdir(parents=True, exist_ok=True)
        masks.append(Path(shutil.copy(mask, folder / names[f"{role}_mask"])))
    further = [f"reference_{number}" for number, _ in enumerate(submission.further_references, start=2)]
    for role, file in zip(further, submission.further_references, strict=True):
        name_file(role, _name(file))
    if masks:
        sentences.append("Put the masks below into the same folder.")
    output = _unused(output, names)
    options = {name: value for name, value, default in _options(submission) if value != default}
    references = [names.pop(role) for role in ("reference", *further)]
    return Code(
        _python(references, names, options, engine, output),
        _command(references, names, options, engine, output),
        " ".join(sentences),
        tuple(masks),
    )


def _where(submission: Submission) -> str:
    ours = is_ours(submission.reference.source)
    return "Run it in the project’s folder." if ours else "Run it in the folder of your files."


def _options(submission: Submission) -> tuple[tuple[str, object, object], ...]:
    return (
        ("scale", submission.scale, DEFAULT_SCALE),
        ("object_name", submission.object_name, DEFAULT_OBJECT_NAME),
        ("seed", submission.seed, DEFAULT_SEED),
        ("strength", submission.strength, DEFAULT_STRENGTH),
        ("surroundings", submission.surroundings, DEFAULT_SURROUNDINGS),
    )


def _python(
    references: list[str], names: dict[str, str], options: dict[str, object], engine: EngineName, output: str
) -> str:
    reference = references if len(references) > 1 else references[0]
    values = {"reference": reference, **names, "engine": engine, **options}
    arguments = "".join(f"    {name}={value!r},\n" for name, value in values.items())
    return (
        "from refgc import refine\n"
        "from refgc.imaging.image import save_image\n\n"
        f"result = refine(\n{arguments})\n"
        f"save_image(result.image, {output!r})\n"
        "print(result.report.message)\n"
    )


def _command(
    references: list[str], names: dict[str, str], options: dict[str, object], engine: EngineName, output: str
) -> str:
    files = [(name, _shell_name(file)) for name, file in names.items()]
    files = [*(("reference", _shell_name(file)) for file in references), *files, ("output", _shell_name(output))]
    parts = [
        f"--{SWITCHES.get(name, name.replace('_', '-'))} {shlex.quote(str(value))}"
        for name, value in (*files, ("engine", engine), *options.items())
    ]
    return " \\\n  ".join(["refgc refine", *parts]) + "\n"


def _name(file: Path) -> str:
    """The file's name; one of our examples is named by its path in the project."""
    return file.relative_to(EXAMPLES_FOLDER.parent).as_posix() if is_ours(file) else file.name


def _shell_name(file: str) -> str:
    """The same file by a name that a command does not read as an option."""
    return f"./{file}" if file.startswith("-") else file


def _unused(name: str, names: dict[str, str]) -> str:
    """`name`, or with a number where it is taken already."""
    stem, suffix = Path(name).stem, Path(name).suffix
    candidates = (name, *(f"{stem}-{number}{suffix}" for number in range(2, 8)))
    return next(candidate for candidate in candidates if candidate not in names.values())


class CodeView(NamedTuple):
    """The components that show the code."""

    hint: gr.HTML
    python: gr.Textbox
    command: gr.Textbox
    masks: gr.File

    def show(self, code: Code) -> dict[Any, Any]:
        """The updates that show the code of another result."""
        return {
            self.hint: f'<p class="hint">{escape(code.hint)}</p>',
            self.python: code.python,
            self.command: code.command,
            self.masks: gr.update(value=[str(mask) for mask in code.masks], visible=bool(code.masks)),
        }


def build_code_view() -> CodeView:
    """Add the view to the page being built, closed."""
    with gr.Accordion("Use as code", open=False, elem_id="code"):
        hint = gr.HTML("")
        python = _code("Python", "python", 12)
        command = _code("Command line", "command", 6)
        masks = gr.File(
            label="Masks that you marked", file_count="multiple", interactive=False, visible=False, elem_id="masks"
        )
    return CodeView(hint, python, command, masks)


def _code(label: str, elem_id: str, lines: int) -> gr.Textbox:
    return gr.Textbox(
        label=label,
        lines=lines,
        max_lines=24,
        interactive=False,
        buttons=["copy"],
        elem_id=elem_id,
        elem_classes="code",
    )
