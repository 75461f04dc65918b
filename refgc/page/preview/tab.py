"""The preview tab: from a reference and a scene to the generated picture, and on to the refined one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr
import PIL.Image

from refgc.diptych import sources
from refgc.diptych.preview import STRENGTHS
from refgc.errors import InputError
from refgc.page.examples import Example, ExampleMeta, with_inset
from refgc.page.marking.marks import Marking
from refgc.page.marking.mask import apply_marks
from refgc.page.marking.pad import MARKING_QUEUE, MarkingPad, build_marking_pad, connect_marking
from refgc.page.preview.pictures import ShownPreview
from refgc.page.preview.view import PreviewView, build_preview_view, introduction, missing_marks
from refgc.page.refine.inputs import Inputs
from refgc.page.service.queue import Finished, Working
from refgc.page.service.runs import PreviewJob, Service
from refgc.page.words import ENGINE_QUEUE, capitalised, problem_line, progress_line, sentence_for, status_line
from refgc.simulator.artifacts import Strengths
from refgc.webui.components import DEFAULT_SEED, build_seed_field, thumbnail_gallery

REFINE_TAB = "refine"
REFINING = "The generated picture is there; now it is refined."
DONE = "Done: from the reference to the refined picture."
ONLY_ENLARGED = "Done, but the picture was only enlarged; beside the close-up is why."
SENT = "These come from the preview, with their masks. Press Refine."
# Defined in assets/page.js.
SCROLL_TO_PREVIEW = "() => window.refgcShowPreview()"
SCROLL_TO_TOP = "() => window.scrollTo({ top: 0 })"


def build_preview_tab(
    examples: list[Example], tabs: gr.Tabs, refine_inputs: Inputs, refine_status: gr.HTML, service: Service
) -> None:
    """Adds the tab's components and events to the page being built.

    Args:
        examples: all of ours.
        tabs: the page's tabs; the one with the id `REFINE_TAB` takes a generated picture over.
        refine_inputs: what is filled in there.
        refine_status: the line under that tab's button.
        service: makes the previews.
    """
    shown_examples = find_preview_examples(examples)
    gr.HTML(introduction(sources.obstacle()), apply_default_css=False)
    with gr.Row(elem_classes="preview-inputs"):
        pads = (
            build_marking_pad("Reference photo", "reference", "preview-reference"),
            build_marking_pad("Scene", "scene", "preview-scene"),
        )
        with gr.Column(min_width=300):
            button = gr.Button("Generate and refine", variant="primary", size="lg", elem_id="generate")
            status = gr.HTML("", elem_id="preview-status", elem_classes="status-line")
            options = build_preview_options()
            gallery = build_preview_gallery(shown_examples)
    view = build_preview_view()
    made = gr.State(None)
    connect_marking(*pads)
    chosen = connect_preview_gallery(gallery, shown_examples, pads, options, status)
    for trigger in (button.click, chosen.then):
        _connect_generating(trigger, pads, options, status, view, made, service)
    _connect_sending(view.send, made, tabs, refine_inputs, refine_status)


def _connect_generating(
    trigger: Any,
    pads: tuple[MarkingPad, MarkingPad],
    options: PreviewOptions,
    status: gr.HTML,
    view: PreviewView,
    made: gr.State,
    service: Service,
) -> None:
    """Shows the generated picture first and refines it then, so that a visitor looks at one while the other is made."""

    def generate(
        reference: Marking | None,
        scene: Marking | None,
        object_name: str,
        caption: str,
        seed: int | None,
        identity_distortion: float,
        detail_inconsistency: float,
        texture_loss: float,
        quality_degradation: float,
        visitor: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        try:
            yield {status: progress_line("Reading the pictures", 0.0), unrefined: None}
            artifacts = (identity_distortion, detail_inconsistency, texture_loss, quality_degradation)
            job = _read(reference, scene, object_name, caption, seed, artifacts)
            with closing(service.preview(job, visitor.session_hash or "")) as notes:
                for note in notes:
                    if isinstance(note, Working):
                        yield {status: progress_line(capitalised(note.stage), note.fraction)}
                    elif isinstance(note, Finished):
                        shown = note.made
                        yield {status: status_line(REFINING), made: shown, unrefined: shown, **view.show_preview(shown)}
        except Exception as error:
            yield {status: problem_line(sentence_for(error), title="Not generated"), unrefined: None}

    def refine(shown: ShownPreview | None, visitor: gr.Request) -> Iterator[dict[Any, Any]]:
        if shown is None:
            yield {status: gr.skip()}
            return
        try:
            with closing(service.refine_preview(shown, visitor.session_hash or "")) as notes:
                for note in notes:
                    if isinstance(note, Working):
                        yield {status: progress_line(capitalised(note.stage), note.fraction)}
                    elif isinstance(note, Finished):
                        sentence = DONE if note.made.report.placed else ONLY_ENLARGED
                        yield {status: status_line(sentence), **view.show_refinement(shown, note.made)}
        except Exception as error:
            yield {status: problem_line(sentence_for(error))}

    # What has just been made; what was made earlier stays on the page where making something else fails.
    unrefined = gr.State(None)
    settings: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", **ENGINE_QUEUE}
    given = [*(pad.marking for pad in pads), *options]
    generating = trigger(generate, inputs=given, outputs=[status, made, unrefined, *view], **settings)
    generating.then(None, js=SCROLL_TO_PREVIEW, api_visibility="private").then(
        refine, inputs=unrefined, outputs=[status, *view], **settings
    )


def _read(
    reference: Marking | None,
    scene: Marking | None,
    object_name: str,
    caption: str,
    seed: int | None,
    artifacts: tuple[float, ...],
) -> PreviewJob:
    """The run that was asked for."""
    if reference is None or scene is None or reference.mask is None or scene.mask is None:
        raise InputError(missing_marks(reference, scene))
    return PreviewJob(
        reference.source,
        scene.source,
        reference_mask=reference.mask,
        scene_mask=scene.mask,
        object_name=object_name,
        caption=caption,
        seed=DEFAULT_SEED if seed is None else seed,
        artifacts=dict(zip(type(STRENGTHS).model_fields, artifacts, strict=True)),
    )


def _connect_sending(
    button: gr.Button, made: gr.State, tabs: gr.Tabs, refine_inputs: Inputs, refine_status: gr.HTML
) -> None:
    def send(shown: ShownPreview) -> dict[Any, Any]:
        reference_mask, generated_mask = shown.masks
        return {
            **refine_inputs.filled(Marking(shown.reference, reference_mask), Marking(shown.generated, generated_mask)),
            refine_status: status_line(SENT),
            tabs: gr.Tabs(selected=REFINE_TAB),
        }

    button.click(
        send,
        inputs=made,
        outputs=[tabs, *refine_inputs.changing, refine_status],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    ).then(None, js=SCROLL_TO_TOP, api_visibility="private")


# ==== preview_gallery
def build_preview_gallery(examples: list[PreviewExample]) -> gr.Gallery:
    """Thumbnails of the scenes, each with its reference in the corner; hidden where there are none."""
    with gr.Column(visible=bool(examples)):
        gr.HTML("<h2>Or try an example</h2>")
        return thumbnail_gallery(
            [(example.thumbnail(), example.meta.title) for example in examples],
            label="Examples",
            columns=3,
            elem_id="preview-examples",
        )


def connect_preview_gallery(
    gallery: gr.Gallery,
    examples: list[PreviewExample],
    pads: tuple[MarkingPad, MarkingPad],
    options: PreviewOptions,
    status: gr.HTML,
) -> Any:
    """A click fills everything in; returns what goes on from there."""

    def choose_example(event: gr.SelectData) -> dict[Any, Any]:
        example = examples[int(event.index)]
        updates: dict[Any, Any] = {
            gallery: gr.update(selected_index=None),
            status: status_line(example.meta.description),
        }
        for pad, marking in zip(pads, (example.reference, example.scene), strict=True):
            updates |= {pad.file: str(marking.source), **pad.show(apply_marks(marking, pad.name))}
        return updates | {options.object_name: example.meta.object_name}

    return gallery.select(
        choose_example,
        outputs=[gallery, status, options.object_name, *(part for pad in pads for part in (pad.file, *pad.changing))],
        api_visibility="private",
        show_progress="hidden",
        **MARKING_QUEUE,
    )


# ==== preview_options
DEFAULT_NAME = "object"


class PreviewOptions(NamedTuple):
    """The components in the order in which a handler takes their values."""

    object_name: gr.Textbox
    caption: gr.Textbox
    seed: gr.Number
    identity_distortion: gr.Slider
    detail_inconsistency: gr.Slider
    texture_loss: gr.Slider
    quality_degradation: gr.Slider


def build_preview_options() -> PreviewOptions:
    """Everything optional, closed at first."""
    with gr.Accordion("Options", open=False, elem_id="preview-options"):
        gr.HTML('<p class="hint"><b>Faults</b> that the simulator draws, from 0, none, to 1:</p>')
        strengths = {name: _strength(name, default) for name, default in STRENGTHS}
        seed = build_seed_field()
        object_name = gr.Textbox(
            DEFAULT_NAME, label="Object", info="In a few words, for a generator’s prompt; the simulator does not read."
        )
        caption = gr.Textbox(label="Caption", info="In a longer phrase, if you like; the same holds.")
    return PreviewOptions(object_name, caption, seed, **strengths)


def _strength(name: str, default: float) -> gr.Slider:
    described = Strengths.model_fields[name].description or ""
    label = capitalised(name.replace("_", " "))
    return gr.Slider(0, 1, value=default, step=0.01, label=label, info=f"{capitalised(described)}.")


# ==== preview_examples
# Print on a book that was laid down, on a flat sleeve, and on two sides of a box.
NAMES = ("paperback", "record_sleeve", "oats_box")


@dataclass(frozen=True, slots=True)
class PreviewExample:
    """An example's reference and scene, each with its mask."""

    meta: ExampleMeta
    reference: Marking
    scene: Marking

    def thumbnail(self) -> PIL.Image.Image:
        """The scene with the reference set into its corner."""
        return with_inset(self.scene.source, self.reference.source)


def find_preview_examples(examples: list[Example]) -> list[PreviewExample]:
    """Those of `examples` that `NAMES` names, in its order."""
    named = {example.name: example for example in examples}
    return [_with_masks(named[name]) for name in NAMES if name in named]


def _with_masks(example: Example) -> PreviewExample:
    folder = example.reference.parent
    return PreviewExample(
        example.meta,
        Marking(example.reference, given=folder / "hrri_mask.png"),
        Marking(folder / "hrgt.jpg", given=folder / "hrgt_mask.png"),
    )
