"""The quick import of Gradio: the same Gradio, without the stubs for editors."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import ast, inspect
taken_apart = []
segment, getfile = ast.get_source_segment, inspect.getfile
ast.get_source_segment = lambda *given, **named: taken_apart.append(given) or segment(*given, **named)
if {quick}:
    from refgc.webui.gradio_import import import_gradio
    import_gradio()
import gradio
from gradio.components.base import Component
assert inspect.getfile is getfile
assert inspect.getfile(gradio.Textbox).endswith("textbox.py")
print(len(taken_apart), len(Component.__subclasses__()))
"""


def test_gradio_is_imported_whole_and_no_source_is_taken_apart() -> None:
    (without, parts), (with_stubs, all_parts) = (
        map(
            int,
            subprocess.run(
                [sys.executable, "-c", CODE.format(quick=quick)], capture_output=True, text=True, check=True
            ).stdout.split(),
        )
        for quick in (True, False)
    )
    assert parts == all_parts > 20
    assert without * 5 < with_stubs
