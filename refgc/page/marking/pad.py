"""One upload whose object is marked by clicks and boxes, with the mask shown over the picture at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.data_classes import FileData

from refgc.diptych.preview_report import coverage
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.page.marking.mask import Mark, Marking, MaskSource, ObjectSegmenter, SegmentedPicture, read_marks
from refgc.page.service.storage import new_folder
from refgc.page.words import problem_line, sentence_for

# Browsers name no type for some of these, so they are told by their endings.
FILE_TYPES = ["image", *sorted(PICTURE_SUFFIXES)]
MODES = [("Object", "object"), ("Background", "background"), ("Box", "box")]
EMPTY_HEIGHT = 240
INVITATION = "Click the object, or drag a box around it."
# What the note under a picture says of its mask.
CAPTIONS: Mapping[MaskSource, str] = {
    "marks": "{} is marked.",
    "file": "The example’s own mask: {}. What you mark takes its place.",
    "transparency": "The picture’s own transparency: {}. What you mark takes its place.",
    "detection": "We looked for the object; it takes up {}. If that is wrong, click it or drag a box around it.",
    "none": INVITATION,
}
KEYS = "Arrow keys move the cross, with Shift in small steps; Enter marks."
# assets/marking.js draws the picture and the marks.
SKELETON = (
    '<p class="pad-title">{}</p>'
    '<div class="pad-frame" tabindex="0" role="application" hidden>'
    '<img class="pad-picture" draggable="false" alt=""><div class="pad-marks"></div>'
    '<i class="pad-cross" hidden></i><i class="pad-band" hidden></i></div>'
    '<button type="button" class="pad-open" aria-expanded="false">Mark the object</button>'
)
# The style sheet shows it where a finger points; assets/uploads.js takes the photo.
CAMERA = """<label>Take a photo
<input type="file" accept="image/*" capture="environment" aria-label="{}: take a photo"></label>"""
CONNECT = 'window.refgcMarking.connect("{}", element, props, trigger, watch);'
# Segmenting keeps a core busy for a second or so, and is not to wait behind a refinement.
MARKING_QUEUE: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "marking"}


@dataclass(frozen=True, slots=True, eq=False)
class MarkingPad:
    """The components of one picture.

    The marks live in the browser: the value of `surface` has all of them, together with the files that they belong to.
    Whatever takes it as an input has the newest marks, even while their mask is still being made.

    Attributes:
        segmenter: makes the masks.
        label: stands above the picture.
        name: what the picture is called in a sentence, such as "scene".
        file: the upload.
        surface: the picture with its mask, to be marked.
        tools: the modes of marking, `undo` and `clear`.
        undo: takes the last mark back.
        clear: takes all marks back.
        note: where the mask comes from, or what is wrong.
        marking: the `Marking` whose mask is shown; None while there is no picture.
        captions: what the note says, for each source of a mask that is tried.
        mask_file: an upload of the mask; None where the pad has none.
        reference: the pad of another picture of the same object, by which the object is detected; None without one.
    """

    segmenter: ObjectSegmenter
    label: str
    name: str
    file: gr.File
    surface: gr.HTML
    tools: gr.Column
    undo: gr.Button
    clear: gr.Button
    note: gr.HTML
    marking: gr.State
    captions: Mapping[MaskSource, str]
    mask_file: gr.File | None
    reference: MarkingPad | None

    @property
    def inputs(self) -> set[Any]:
        """The components that `read` reads."""
        inputs: set[Any] = {self.file, self.surface, self.marking}
        return inputs if self.mask_file is None else inputs | {self.mask_file}

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` and `fill` change."""
        outputs = [self.file, self.surface, self.tools, self.undo, self.clear, self.note, self.marking]
        return outputs if self.mask_file is None else [*outputs, self.mask_file]

    def read(self, values: Mapping[Any, Any]) -> Marking | None:
        """The picture with its marks as they are in the browser now; None where there is no picture.

        Its `mask` is None where the marks have changed and the mask is still to be made.

        Args:
            values: of the components in `inputs`.

        Raises:
            InputError: the browser sent something that is no mark.
        """
        if values[self.file] is None:
            return None
        wanted = Marking(Path(values[self.file]), self._mask_file(values), self._marks(values))
        shown: Marking | None = values[self.marking]
        return shown if shown is not None and replace(shown, mask=None) == wanted else wanted

    def segment(self, marking: Marking, visit: str, reference: Marking | None = None) -> SegmentedPicture:
        """The picture with its mask, within the limits of a visit.

        Raises:
            InputError: the picture or its mask cannot be used, or the marks find nothing.
            BusyError: the visit has reached its limits.
            EngineError: the segmenter failed, or its time is over.
        """
        return self.segmenter.segment(
            marking, self.name, visit=visit, reference=reference, automatic=self.captions.keys()
        )

    def complete(self, marking: Marking, visit: str, reference: Marking | None = None) -> Marking:
        """The marking with its mask, which is made where it is still missing; raises as `segment` does."""
        if marking.mask is not None:
            return marking
        picture = self.segment(marking, visit, reference)
        return replace(marking, mask=picture.write_mask(new_folder("marked")))

    def show(self, picture: SegmentedPicture, *, keep_marks: bool = False) -> dict[Any, Any]:
        """The updates that put a picture and its mask on the page.

        Args:
            picture: to be shown.
            keep_marks: leaves the marks to the browser, where there may be newer ones by now.
        """
        marking = picture.marking
        marks = [mark.model_dump() for mark in marking.marks]
        shown, mask = picture.write(new_folder("marked"))
        drawing = {
            "picture": FileData(path=str(shown)).model_dump(),
            "ratio": picture.image.size[0] / picture.image.size[1],
            "label": f"{self.label}. {INVITATION} {KEYS}",
            "description": f"{self.label}, as it was read; what is marked stands out",
            "marks": marks,
        }
        value = {"source": str(marking.source), "mask_file": _text(marking.mask_file), "marks": marks}
        surface: dict[str, Any] = {"drawing": drawing} if keep_marks else {"drawing": drawing, "value": value}
        return {
            self.surface: gr.update(visible=True, **surface),
            self.tools: gr.update(visible=True),
            **dict.fromkeys((self.undo, self.clear), gr.update(interactive=bool(marks))),
            self.note: gr.update(value=self._caption(picture), visible=True),
            self.marking: replace(marking, mask=mask),
        }

    def fill(self, marking: Marking) -> dict[Any, Any]:
        """The updates that put one of the page's own pictures there, with the mask that comes with it."""
        return self._with_files(self.segmenter.segment(marking, self.name, automatic=self.captions.keys()))

    def put(self, marking: Marking | None, visit: str) -> dict[Any, Any]:
        """The updates that put a visitor's picture there with its marks, or empty the pad; raises as `segment` does."""
        if marking is None:
            emptied = {self.file: None} if self.mask_file is None else {self.file: None, self.mask_file: None}
            return {**emptied, **self.empty()}
        return self._with_files(self.segment(replace(marking, mask=None), visit))

    def empty(self, problem: str = "") -> dict[Any, Any]:
        """The updates that take the picture off the page, and say why if there is a reason."""
        note = problem_line(problem) if problem else ""
        return {
            self.surface: gr.update(value=None, drawing=None, visible=False),
            self.tools: gr.update(visible=False),
            self.note: gr.update(value=note, visible=bool(note)),
            self.marking: None,
        }

    def follow(self, values: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
        """The updates after a change of the picture, of its mask file or of its marks.

        Args:
            values: of the components in `inputs`, and the marking of the pad `reference` if there is one.
            request: of the visitor.
        """
        if values[self.file] is None:
            return self.empty()
        shown: Marking | None = values[self.marking]
        if shown is not None and str(shown.source) != values[self.file]:
            shown = None
        wanted = shown
        try:
            wanted = self.read(values)
            assert wanted is not None, "there is a file"
            reference = None if self.reference is None else values[self.reference.marking]
            picture = self.segment(replace(wanted, mask=None), request.session_hash or "", reference)
        except Exception as error:
            problem = sentence_for(error)
            return self.empty(problem) if shown is None or wanted is None else self.refuse(wanted, shown, problem)
        same_files = shown is not None and (shown.source, shown.mask_file) == (wanted.source, wanted.mask_file)
        return self.show(picture, keep_marks=same_files)

    def refuse(self, wanted: Marking, shown: Marking, problem: str) -> dict[Any, Any]:
        """The updates that go back from the wanted marks, or mask file, to those that are shown, and say why."""
        refusal = {
            # Two refusals of the same marks are two.
            "id": uuid4().hex,
            "refused": [mark.model_dump() for mark in wanted.marks],
            "kept": [mark.model_dump() for mark in shown.marks],
        }
        updates: dict[Any, Any] = {
            self.surface: gr.update(refusal=refusal),
            self.note: problem_line(problem),
        }
        if self.mask_file is not None and wanted.mask_file != shown.mask_file:
            updates[self.mask_file] = _text(shown.mask_file)
        return updates

    def _with_files(self, picture: SegmentedPicture) -> dict[Any, Any]:
        """The updates of `show`, and those that put the picture's files into the uploads."""
        marking = picture.marking
        updates: dict[Any, Any] = {self.file: str(marking.source)}
        if self.mask_file is not None:
            updates[self.mask_file] = _text(marking.mask_file)
        return updates | self.show(picture)

    def _mask_file(self, values: Mapping[Any, Any]) -> Path | None:
        if self.mask_file is not None:
            return None if values[self.mask_file] is None else Path(values[self.mask_file])
        # An example's own mask goes with its picture.
        shown: Marking | None = values[self.marking]
        return shown.mask_file if shown is not None and str(shown.source) == values[self.file] else None

    def _marks(self, values: Mapping[Any, Any]) -> tuple[Mark, ...]:
        """The marks in the browser, as far as they belong to this picture and are newer than its mask file."""
        sent = values[self.surface]
        if not isinstance(sent, dict) or sent.get("source") != values[self.file]:
            return ()
        mask_file = _text(self._mask_file(values))
        if mask_file is not None and sent.get("mask_file") != mask_file:
            return ()
        return read_marks(sent.get("marks"))

    def _caption(self, picture: SegmentedPicture) -> str:
        share = "" if picture.mask is None else f"{100 * coverage(picture.mask):.0f}% of the picture"
        return f'<p class="hint" role="status">{self.captions[picture.mask_source].format(share)}</p>'


def build_marking_pad(
    segmenter: ObjectSegmenter,
    label: str,
    name: str,
    elem_id: str,
    *,
    captions: Mapping[MaskSource, str] = CAPTIONS,
    mask_file: gr.File | None = None,
    reference: MarkingPad | None = None,
    camera: bool = True,
    min_width: int = 300,
) -> MarkingPad:
    """A drop zone that turns into the picture to mark.

    gr.File, not gr.Image: it hands over the file as it is (EXIF, ICC profile, 16 bits) and takes HEIC and TIFF, which
    browsers neither show nor always recognise as pictures; what is shown is what the engine will work on.

    Args:
        segmenter: makes the masks.
        label: stands above the picture.
        name: used in error sentences.
        elem_id: identity of the drop zone in the page.
        captions: for each source of a mask that is tried.
        mask_file: not rendered yet; it may stand elsewhere on the page.
        reference: the pad of another picture of the same object.
        camera: whether a photo of it may be taken.
        min_width: in pixels, below which the pad goes to a row of its own.
    """
    with gr.Column(elem_classes=["upload", "marking"], min_width=min_width):
        surface = gr.HTML(
            None,
            html_template=SKELETON.format(label),
            js_on_load=CONNECT.format(elem_id),
            apply_default_css=False,
            visible=False,
            elem_id=f"{elem_id}-pad",
            drawing=None,
            refusal=None,
        )
        file = gr.File(label=label, file_types=FILE_TYPES, height=EMPTY_HEIGHT, elem_id=elem_id)
        if camera:
            gr.HTML(CAMERA.format(label), apply_default_css=False, elem_classes="pad-camera")
        note = gr.HTML(visible=False, elem_id=f"{elem_id}-note")
        with gr.Column(visible=False, elem_classes="marking-tools") as tools:
            gr.Radio(
                MODES,
                value="object",
                label="What to mark",
                info="A box is drawn by dragging, or by a click on two of its corners.",
                interactive=True,
                elem_id=f"{elem_id}-mode",
            )
            with gr.Row():
                undo = gr.Button("Undo mark", size="sm", min_width=80, elem_id=f"{elem_id}-undo")
                clear = gr.Button("Clear marks", size="sm", min_width=80, elem_id=f"{elem_id}-clear")
        marking = gr.State(None)
    return MarkingPad(
        segmenter,
        label,
        name,
        file,
        surface,
        tools,
        undo,
        clear,
        note,
        marking,
        captions=captions,
        mask_file=mask_file,
        reference=reference,
    )


def attach_marking(pad: MarkingPad) -> Any:
    """Let a pad follow its picture, its mask file and its marks; returns the event that does."""
    triggers = [pad.file.upload, pad.file.clear, pad.surface.input]
    if pad.mask_file is not None:
        triggers += [pad.mask_file.upload, pad.mask_file.clear]
    for button, action in ((pad.undo, "undo"), (pad.clear, "clear")):
        button.click(None, js=f"() => window.refgcMarking.{action}('{pad.file.elem_id}')", api_visibility="private")
    return gr.on(
        triggers,
        pad.follow,
        inputs=pad.inputs if pad.reference is None else pad.inputs | {pad.reference.marking},
        outputs=pad.outputs,
        api_visibility="private",
        show_progress="hidden",
        # One at a time for each pad of a visit. What is marked meanwhile goes together, with the newest marks.
        trigger_mode="always_last",
        **MARKING_QUEUE,
    )


def attach_markings(reference: MarkingPad, scene: MarkingPad) -> None:
    """The same for two pads; while nobody marks the scene, the reference's object is detected in it."""
    attach_marking(scene)
    attach_marking(reference).then(
        None, js=f"() => window.refgcMarking.detect('{scene.file.elem_id}')", api_visibility="private"
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
