"""One upload whose object is marked by clicks and boxes, with the mask shown over the picture at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import gradio as gr
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder

from refgc.demo.marked import Marked, Origin
from refgc.demo.messages import problem_line
from refgc.diprefgc.preview_report import coverage

# Browsers name no type for some of these, so they are told by their endings.
FILE_TYPES = ["image", ".heic", ".heif", ".avif", ".tif", ".tiff", ".webp", ".bmp", ".ppm"]
MODES = [("Object", "object"), ("Background", "background"), ("Box", "box")]
EMPTY_HEIGHT = 240
INVITATION = "Click the object, or drag a box around it."
# What is said of a mask, by what it came of; what is not here is not looked for.
ORIGINS: Mapping[Origin, str] = {
    "marks": "{} is marked.",
    "given": "The example’s own mask: {}. What you mark takes its place.",
    "transparency": "The picture’s own transparency: {}. What you mark takes its place.",
    "found": "Found by itself: {}. If that is not the object, click it or drag a box around it.",
    "nothing": INVITATION,
}
NOT_USED, NOT_MARKED = "Cannot be used", "Not marked"
KEYS = "Arrow keys move the cross, with Shift in small steps; Enter marks."
# What is in it is drawn by assets/marking.js.
SKELETON = (
    '<p class="pad-title">{}</p>'
    '<div class="pad-frame" tabindex="0" role="application" hidden>'
    '<img class="pad-picture" draggable="false" alt=""><div class="pad-marks"></div>'
    '<i class="pad-cross" hidden></i><i class="pad-band" hidden></i><i class="pad-pending" hidden></i></div>'
)
CONNECT = "window.refgcConnectMarking(element, props, trigger, watch);"


class MarkingPad(NamedTuple):
    """The components of one picture.

    Attributes:
        label: what the visitor reads above it.
        name: what it is called in a sentence, such as "scene".
        file: the upload.
        pad: the picture with its mask.
        tools: what a click means, and taking marks back.
        undo: takes the last mark back.
        clear: takes all of them back.
        note: how it stands, or what is wrong.
        marking: its `Marking`; None while there is no picture.
        origins: what is said of a mask, by what it came of; what is not here is not looked for.
    """

    label: str
    name: str
    file: gr.File
    pad: gr.HTML
    tools: gr.Column
    undo: gr.Button
    clear: gr.Button
    note: gr.HTML
    marking: gr.State
    origins: Mapping[Origin, str]

    @property
    def changing(self) -> list[Any]:
        """The components that `show` changes."""
        return [self.pad, self.tools, self.undo, self.clear, self.note, self.marking]

    def show(self, marked: Marked | None, problem: str = "") -> dict[Any, Any]:
        """The updates that put a picture and its mask on the page; None takes them off it."""
        if marked is None:
            note = problem_line(problem, title=NOT_USED) if problem else ""
            return {
                self.pad: gr.update(value=None, visible=False),
                self.tools: gr.update(visible=False),
                self.note: gr.update(value=note, visible=bool(note)),
                self.marking: None,
            }
        picture, mask = marked.write(Path(get_upload_folder()) / "marked" / uuid4().hex)
        drawing = {
            "picture": FileData(path=str(picture)).model_dump(),
            # Nothing draws it; what is named here is deleted after some hours with the rest.
            "mask": mask and FileData(path=str(mask)).model_dump(),
            "ratio": marked.picture.size[0] / marked.picture.size[1],
            "label": f"{self.label}. {INVITATION} {KEYS}",
            "description": f"{self.label}, as it was read; what is marked stands out",
            "marks": [mark.model_dump() for mark in marked.marking.marks],
        }
        return {
            self.pad: gr.update(value=drawing, visible=True),
            self.tools: gr.update(visible=True),
            **dict.fromkeys((self.undo, self.clear), gr.update(interactive=bool(marked.marking.marks))),
            self.note: gr.update(value=self._says(marked), visible=True),
            self.marking: replace(marked.marking, mask=mask),
        }

    def refuse(self, problem: str) -> dict[Any, Any]:
        """The updates that leave everything as it was marked, and say why."""
        # The mark that was drawn at once, in the browser, goes.
        return {self.pad: gr.update(answer=uuid4().hex), self.note: problem_line(problem, title=NOT_MARKED)}

    def _says(self, marked: Marked) -> str:
        share = "" if marked.mask is None else f"{100 * coverage(marked.mask):.0f}% of the picture"
        return f'<p class="hint" role="status">{self.origins[marked.origin].format(share)}</p>'


def build_marking_pad(
    label: str, name: str, elem_id: str, *, origins: Mapping[Origin, str] = ORIGINS, min_width: int = 300
) -> MarkingPad:
    """A drop zone that turns into the picture to mark.

    gr.File, not gr.Image: it hands over the file as it is (EXIF, ICC profile, 16 bits) and takes HEIC and TIFF, which
    browsers neither show nor always recognise as pictures; what is shown is what the engine will work on.

    Args:
        label: what the visitor reads above it.
        name: what the picture is called in an error sentence, such as "scene".
        elem_id: identity of the drop zone in the page.
        origins: see `MarkingPad`.
        min_width: in pixels, below which it goes to a row of its own.
    """
    with gr.Column(elem_classes=["upload", "marking"], min_width=min_width):
        pad = gr.HTML(
            None,
            html_template=SKELETON.format(label),
            js_on_load=CONNECT,
            apply_default_css=False,
            visible=False,
            elem_id=f"{elem_id}-pad",
            answer="",
        )
        file = gr.File(label=label, file_types=FILE_TYPES, height=EMPTY_HEIGHT, elem_id=elem_id)
        note = gr.HTML(visible=False, elem_id=f"{elem_id}-note")
        with gr.Column(visible=False, elem_classes="marking-tools") as tools:
            gr.Radio(
                MODES,
                value="object",
                label="A click marks",
                info="A box is drawn by dragging, or by a click on two of its corners.",
                interactive=True,
                elem_id=f"{elem_id}-mode",
            )
            with gr.Row():
                undo = gr.Button("Undo mark", size="sm", min_width=80, elem_id=f"{elem_id}-undo")
                clear = gr.Button("Clear marks", size="sm", min_width=80, elem_id=f"{elem_id}-clear")
        marking = gr.State(None)
    return MarkingPad(label, name, file, pad, tools, undo, clear, note, marking, origins)
