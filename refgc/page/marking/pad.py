"""One upload whose object is marked by clicks and boxes, with the mask shown over the picture at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import gradio as gr
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder

from refgc.diptych.preview_report import coverage
from refgc.page.marking.marks import Marking, read_mark
from refgc.page.marking.mask import Marked, Origin, apply_marks
from refgc.page.words import problem_line, sentence_for

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


# ==== marking_events
# Marking is quick, and must not wait behind a refinement.
MARKING_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "marking"}


def connect_marking(reference: MarkingPad, scene: MarkingPad) -> None:
    """Connects both; as long as nobody marked the scene, the reference's object is looked for in it."""
    connect_pad(scene, reference=reference.marking)

    def find_again(marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        if marking is None or marking.marks or marking.given:
            return {scene.marking: gr.skip()}
        try:
            return scene.show(apply_marks(marking, scene.name, marked_reference, unasked=scene.origins))
        except Exception as error:
            return scene.refuse(sentence_for(error))

    for event in connect_pad(reference):
        event.then(
            find_again,
            inputs=[scene.marking, reference.marking],
            outputs=scene.changing,
            api_visibility="private",
            show_progress="hidden",
            **MARKING_QUEUE,
        )


def connect_mask(pad: MarkingPad, mask: gr.File) -> None:
    """Connects one picture whose mask may also be given as a file; whatever was said last holds."""
    connect_pad(pad, mask=mask)

    def use(path: str | None, picture: str | None, marking: Marking | None) -> dict[Any, Any]:
        if picture is None:
            return {mask: gr.skip()}
        given = None if path is None else Path(path)
        marks = marking.marks if marking is not None and path is None else ()
        try:
            return pad.show(apply_marks(Marking(Path(picture), given, marks), pad.name, unasked=pad.origins))
        except Exception as error:
            return {mask: None, **pad.refuse(sentence_for(error))}

    gr.on(
        [mask.upload, mask.clear],
        use,
        inputs=[mask, pad.file, pad.marking],
        outputs=[mask, *pad.changing],
        api_visibility="private",
        show_progress="hidden",
        **MARKING_QUEUE,
    )


def connect_pad(pad: MarkingPad, *, reference: gr.State | None = None, mask: gr.File | None = None) -> list[Any]:
    """Connects one picture and returns its events.

    Args:
        pad: the picture.
        reference: how the object is marked in another picture of it.
        mask: where a mask that comes with the picture is given.
    """

    def read(path: str | None, marked_reference: Marking | None, given: str | None) -> dict[Any, Any]:
        if path is None:
            return pad.show(None)
        marking = Marking(Path(path), None if given is None else Path(given))
        try:
            return pad.show(apply_marks(marking, pad.name, marked_reference, unasked=pad.origins))
        except Exception as error:
            return pad.show(None, sentence_for(error))

    def change(
        marking: Marking | None, marked_reference: Marking | None, changed: Callable[[Marking], Marking]
    ) -> dict[Any, Any]:
        if marking is None:
            return pad.show(None)
        try:
            return pad.show(apply_marks(changed(marking), pad.name, marked_reference, unasked=pad.origins))
        except Exception as error:
            return pad.refuse(sentence_for(error))

    def mark(event: gr.SelectData, marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        return change(marking, marked_reference, lambda old: old.with_mark(read_mark(event.value, event.index)))

    def take_back(marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        return change(marking, marked_reference, Marking.without_last)

    def take_all_back(marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        return change(marking, marked_reference, Marking.without_any)

    other = gr.State(None) if reference is None else reference
    given = gr.State(None) if mask is None else mask
    settings: dict[str, Any] = {"outputs": pad.changing, "api_visibility": "private", **MARKING_QUEUE}
    reading = {"inputs": [pad.file, other, given], "show_progress": "minimal", "show_progress_on": pad.file, **settings}
    # Each click counts, also while the answer to the one before is under way; what it marks shows that it was taken.
    marking = {"inputs": [pad.marking, other], "show_progress": "hidden", "trigger_mode": "multiple", **settings}
    return [
        gr.on([pad.file.upload, pad.file.clear], read, **reading),
        pad.pad.select(mark, **marking),
        pad.undo.click(take_back, **marking),
        pad.clear.click(take_all_back, **marking),
    ]
