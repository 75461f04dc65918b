"""The code that makes a result again without the browser: as a library, as a command, and through the page's API."""

from __future__ import annotations

import json
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
from refgc.settings import settings
from refgc.webui.components import DEFAULT_SEED

# Options of the command whose name differs from the argument of the function.
SWITCHES = {"object_name": "object"}
# Where `refgc page` serves without options. The browser puts in its place where it has the page from.
DEFAULT_PAGE = "http://127.0.0.1:7860/"
PUT_PAGE = f"""code => {{
  const here = document.querySelector("gradio-app[src]")?.getAttribute("src") ?? window.location.href;
  return code.replaceAll("{DEFAULT_PAGE}", here.split(/[?#]/)[0].replace(/\\/?$/, "/"));
}}"""


@dataclass(frozen=True, slots=True)
class Code:
    """The code that makes a result without the browser.

    Attributes:
        python: a whole script.
        command: one command for a POSIX shell.
        client: a whole script that asks a running page.
        curl: the same for a POSIX shell.
        hint: where to run it, in sentences.
        masks: the masks that were marked on the page, named as in the code.
    """

    python: str
    command: str
    client: str
    curl: str
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
        _client(references, names, options, engine, output),
        _curl(references, names, options, engine, output),
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


def _client(
    references: list[str], names: dict[str, str], options: dict[str, object], engine: EngineName, output: str
) -> str:
    files = {"reference": references[0], **names}
    arguments = "".join(f"    {name}=handle_file({file!r}),\n" for name, file in files.items())
    if further := references[1:]:
        arguments += f"    further_references=[{', '.join(f'handle_file({file!r})' for file in further)}],\n"
    arguments += "".join(f"    {name}={value!r},\n" for name, value in {"engine": engine, **options}.items())
    return (
        "from shutil import copy\n\n"
        "from gradio_client import Client, handle_file\n\n"
        f'client = Client("{DEFAULT_PAGE}")\n'
        f'picture, report = client.predict(\n{arguments}    api_name="/refine",\n)\n'
        f"copy(picture, {output!r})\n"
        'print(report["message"])\n'
    )


def _curl(
    references: list[str], names: dict[str, str], options: dict[str, object], engine: EngineName, output: str
) -> str:
    """Uploads, call and download; each file's place in the call is held by %s, as `printf` reads it."""
    files = {"reference": references[0], **names}
    uploaded = {name: {"path": "%s"} for name in files}
    further = [{"path": "%s"} for _ in references[1:]]
    asked = json.dumps({"engine": engine, **options})[1:-1].replace("\\", "\\\\").replace("%", "%%")
    given = json.dumps({**uploaded, **({"further_references": further} if further else {})}).replace('"%s"', "%s")
    call = f"{given[:-1]}, {asked}}}"
    uploads = " \\\n  ".join(
        f'"$(up {shlex.quote(_form_name(_shell_name(file)))})"' for file in (*files.values(), *references[1:])
    )
    return (
        f"PAGE={DEFAULT_PAGE}gradio_api\n"
        """up() { curl -sF "files=@\\"$1\\"" $PAGE/upload | sed 's/^.//; s/.$//'; }\n"""
        f"CALL=$(printf {shlex.quote(call)} \\\n  {uploads})\n"
        'EVENT=$(printf %s "$CALL" | curl -sd @- -H "Content-Type: application/json" $PAGE/call/v2/refine '
        "| cut -d'\"' -f4)\n"
        'PICTURE=$(curl -sN $PAGE/call/v2/refine/$EVENT | grep -o \'"url": *"[^"]*\' | tail -n 1 | cut -d\'"\' -f4)\n'
        f'curl -so {shlex.quote(_shell_name(output))} "$PICTURE"\n'
    )


def _form_name(file: str) -> str:
    """The same file by a name that stands in quotation marks in a form of curl."""
    return file.replace("\\", "\\\\").replace('"', '\\"')


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
    client: gr.Textbox
    curl: gr.Textbox

    def show(self, code: Code) -> dict[Any, Any]:
        """The updates that show the code of another result."""
        return {
            self.hint: f'<p class="hint">{escape(code.hint)}</p>',
            self.python: code.python,
            self.command: code.command,
            self.masks: gr.update(value=[str(mask) for mask in code.masks], visible=bool(code.masks)),
            self.client: code.client,
            self.curl: code.curl,
        }


def build_code_view() -> CodeView:
    """Add the view to the page being built, closed."""
    with gr.Accordion("Use as code", open=False, elem_id="code"):
        hint = gr.HTML("")
        gr.HTML(_installing(settings().repository))
        python = _code("Python", "python", 12)
        command = _code("Command line", "command", 6)
        masks = gr.File(
            label="Masks that you marked", file_count="multiple", interactive=False, visible=False, elem_id="masks"
        )
        gr.HTML(THROUGH_THE_PAGE)
        client = _code("Python client of this page", "client", 12)
        curl = _code("Shell with curl", "curl", 8)
    for shown in (client, curl):
        shown.change(None, inputs=shown, outputs=shown, js=PUT_PAGE, api_visibility="private")
    return CodeView(hint, python, command, masks, client, curl)


THROUGH_THE_PAGE = (
    '<p class="hint"><b>Through this page</b>, which computes for you. The client comes with <code>pip install '
    'gradio_client</code>; <a href="?view=api" data-opens="api">every parameter</a> is documented.</p>'
)


def _installing(repository: str | None) -> str:
    """How to get the package; without a repository that is known, from a folder that the reader has."""
    where = "<code>pip install .</code> in the project’s folder"
    if repository:
        link = f'<a href="{escape(repository)}" target="_blank" rel="noopener">repository</a>'
        where = f"<code>pip install git+{escape(repository)}</code>, from the {link}"
    return (
        '<p class="hint"><b>On your own machine</b>, without this page. Install the package first: '
        f"{where}; then <code>refgc setup</code> fetches two small networks.</p>"
    )


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
