"""A result as code to copy, folded away."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import gradio as gr

from refgc.demo.code_text import Code


class CodeView(NamedTuple):
    """Its components."""

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
    """Adds it to the page being built, closed."""
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
