"""The preview tab: from a reference and a scene to the generated picture, and on to the refined one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import PIL.Image

from refgc.diptych import sources
from refgc.diptych.preview import STRENGTHS
from refgc.errors import InputError
from refgc.page.examples import Example, ExampleMeta, with_inset
from refgc.page.marking.mask import Marking, ObjectSegmenter
from refgc.page.marking.pad import MARKING_QUEUE, MarkingPad, attach_markings, build_marking_pad
from refgc.page.pictures import ShownPreview
from refgc.page.preview.view import PreviewView, build_preview_view, introduction, missing_marks
from refgc.page.refine.tab import RefineTab
from refgc.page.refine.visits import LatestRuns
from refgc.page.service.limits import address_of
from refgc.page.service.queue import Finished, Working
from refgc.page.service.runs import PreviewJob, Service
from refgc.page.words import ENGINE_QUEUE, capitalised, problem_line, progress_line, sentence_for, status_line
from refgc.simulator.artifacts import Strengths
from refgc.webui.components import DEFAULT_SEED, build_seed_field, thumbnail_gallery

REFINE_TAB = "refine"
DEFAULT_NAME = "object"
REFINING = "The generated picture is there; now it is refined."
DONE = "Done: from the reference to the refined picture."
ONLY_ENLARGED = "Done, but the picture was only enlarged; beside the pictures is why."
SENT = "These come from the preview, with their masks. Press Refine."
FORGOTTEN = "This preview has been deleted, as everything here is after some hours; generate it again."
# Defined in assets/page.js.
SCROLL_TO_PREVIEW = "() => window.refgcShowPreview()"
SCROLL_TO_TOP = "() => window.scrollTo({ top: 0 })"
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
        Marking(example.reference, mask_file=folder / "hrri_mask.png"),
        Marking(folder / "hrgt.jpg", mask_file=folder / "hrgt_mask.png"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class PreviewOptions:
    """Everything optional.

    Attributes:
        object_name: the object in words.
        caption: the reference in a longer phrase.
        seed: of everything random.
        artifacts: strength of each simulated artifact, by its name.
    """

    object_name: gr.Textbox
    caption: gr.Textbox
    seed: gr.Number
    artifacts: Mapping[str, gr.Slider]

    @property
    def inputs(self) -> set[Any]:
        """All of them."""
        return {self.object_name, self.caption, self.seed, *self.artifacts.values()}


@dataclass(frozen=True, slots=True)
class Unrefined:
    """A preview that was just made, and the run that made it."""

    shown: ShownPreview
    run: str


@dataclass(frozen=True, slots=True, eq=False)
class PreviewTab:
    """The tab's components, and what happens when a visitor uses them.

    The generated picture is shown first and refined then, so that a visitor looks at one while the other is made.

    Attributes:
        service: runs generator and engine.
        reference: the pad of the HRRI.
        scene: the pad of the HRGT.
        options: everything optional.
        button: generates the picture.
        status: one line on how things stand.
        examples: to be clicked.
        example_gallery: their thumbnails.
        view: the views of a preview and its refinement.
        preview: the `ShownPreview` on the page; None while there is none.
        unrefined: the `Unrefined` that was just made; None after a failure, where an earlier one stays on the page.
        tabs: of the page.
        refine_tab: takes the generated picture over.
        runs: of all visits; a later one ends the earlier ones.
    """

    service: Service
    reference: MarkingPad
    scene: MarkingPad
    options: PreviewOptions
    button: gr.Button
    status: gr.HTML
    examples: list[PreviewExample]
    example_gallery: gr.Gallery
    view: PreviewView
    preview: gr.State
    unrefined: gr.State
    tabs: gr.Tabs
    refine_tab: RefineTab
    runs: LatestRuns = field(default_factory=LatestRuns)

    @property
    def inputs(self) -> set[Any]:
        """The components that `read` reads."""
        return self.reference.inputs | self.scene.inputs | self.options.inputs

    def read(self, values: Mapping[Any, Any], visit: str) -> PreviewJob:
        """The preview that a visitor asks for.

        Args:
            values: of the components in `inputs`.
            visit: whose limits hold where a mask is still to be made.

        Raises:
            InputError: a picture or a mark is missing, or cannot be used.
            BusyError: the visit has reached its limits.
            EngineError: the segmenter failed, or its time is over.
        """
        reference, scene = self.reference.read(values), self.scene.read(values)
        if reference is not None:
            reference = self.reference.complete(reference, visit)
        if scene is not None:
            scene = self.scene.complete(scene, visit, reference)
        if reference is None or scene is None or reference.mask is None or scene.mask is None:
            raise InputError(missing_marks(reference, scene))
        seed = values[self.options.seed]
        return PreviewJob(
            reference.source,
            scene.source,
            reference_mask=reference.mask,
            scene_mask=scene.mask,
            object_name=values[self.options.object_name],
            caption=values[self.options.caption],
            seed=DEFAULT_SEED if seed is None else seed,
            artifacts={name: values[slider] for name, slider in self.options.artifacts.items()},
        )

    def generate(self, values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Make the generated picture and show it."""
        visit = request.session_hash or ""
        run = self.runs.begin(visit)
        # One at a time: what a second press showed would mix with what this one shows.
        busy = {self.button: gr.update(interactive=False)}
        yield {self.status: progress_line("Reading the pictures", 0.0), self.unrefined: None, **busy}
        try:
            with closing(self.service.preview(self.read(values, visit), visit, address_of(request))) as events:
                for event in events:
                    if not self.runs.is_latest(visit, run):
                        return
                    if isinstance(event, Working):
                        yield {self.status: progress_line(capitalised(event.stage), event.fraction)}
                    elif isinstance(event, Finished):
                        shown = event.made
                        states = {self.preview: shown, self.unrefined: Unrefined(shown, run)}
                        yield {self.status: status_line(REFINING), **states, **self.view.show_preview(shown)}
        except Exception as error:
            if self.runs.is_latest(visit, run):
                yield {self.status: problem_line(sentence_for(error)), self.unrefined: None, **self.free()}

    def refine(self, unrefined: Unrefined | None, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Refine the picture that was just generated, and free the button."""
        visit, address = request.session_hash or "", address_of(request)
        if unrefined is None or not self.runs.is_latest(visit, unrefined.run):
            yield {self.status: gr.skip()}
            return
        shown, run = unrefined.shown, unrefined.run
        try:
            with closing(self.service.refine_preview(shown, visit, address)) as events:
                for event in events:
                    if not self.runs.is_latest(visit, run):
                        return
                    if isinstance(event, Working):
                        yield {self.status: progress_line(capitalised(event.stage), event.fraction)}
                    elif isinstance(event, Finished):
                        sentence = DONE if event.made.report.placed else ONLY_ENLARGED
                        result = self.view.show_refinement(shown, event.made)
                        yield {self.status: status_line(sentence), **result, **self.free()}
        except Exception as error:
            if self.runs.is_latest(visit, run):
                yield {self.status: problem_line(sentence_for(error)), **self.free()}

    def free(self) -> dict[Any, Any]:
        """The update that lets the button be pressed."""
        return {self.button: gr.update(interactive=True)}

    def choose(self, event: gr.SelectData, request: gr.Request) -> dict[Any, Any]:
        """Fill in the example that was clicked, and end the visit's run, whose pictures it replaces."""
        self.runs.begin(request.session_hash or "")
        example = self.examples[int(event.index)]
        return {
            self.example_gallery: gr.update(selected_index=None),
            self.status: status_line(example.meta.description),
            **self.reference.fill(example.reference),
            **self.scene.fill(example.scene),
            self.options.object_name: example.meta.object_name,
        }

    def send(self, shown: ShownPreview | None) -> dict[Any, Any]:
        """Fill the generated picture into the Refine tab, with its reference and their masks, and open that tab."""
        # The server forgets the preview of a page that was left open for long, and its files are deleted.
        if shown is None or not all(path.is_file() for path in (shown.reference, shown.generated, *shown.masks)):
            return {self.status: problem_line(FORGOTTEN)}
        reference_mask, generated_mask = shown.masks
        pictures = (
            Marking(shown.reference, mask_file=reference_mask),
            Marking(shown.generated, mask_file=generated_mask),
        )
        return {
            **self.refine_tab.inputs.fill(*pictures),
            self.refine_tab.status: status_line(SENT),
            self.tabs: gr.Tabs(selected=REFINE_TAB),
        }


def build_preview_tab(
    examples: list[Example],
    tabs: gr.Tabs,
    refine_tab: RefineTab,
    service: Service,
    segmenter: ObjectSegmenter,
    *,
    state_seconds: float,
) -> PreviewTab:
    """Add the tab's components and events to the page being built.

    Args:
        examples: all of ours.
        tabs: the page's tabs; the one with the id `REFINE_TAB` takes a generated picture over.
        refine_tab: is filled in there.
        service: makes the previews.
        segmenter: makes masks of marks.
        state_seconds: how long a visit's preview is remembered.
    """
    shown_examples = find_preview_examples(examples)
    gr.HTML(introduction(sources.obstacle()), apply_default_css=False)
    with gr.Row(elem_classes="preview-inputs"):
        reference = build_marking_pad(segmenter, "Reference photo", "reference", "preview-reference")
        scene = build_marking_pad(segmenter, "Scene", "scene", "preview-scene", reference=reference)
        with gr.Column(min_width=300):
            button = gr.Button("Generate and refine", variant="primary", size="lg", elem_id="generate")
            status = gr.HTML("", elem_id="preview-status", elem_classes="status-line")
            options = _build_options()
            gallery = _build_example_gallery(shown_examples)
    tab = PreviewTab(
        service,
        reference,
        scene,
        options,
        button,
        status,
        shown_examples,
        gallery,
        build_preview_view(),
        preview=gr.State(None, time_to_live=state_seconds),
        unrefined=gr.State(None, time_to_live=state_seconds),
        tabs=tabs,
        refine_tab=refine_tab,
    )
    attach_markings(reference, scene)
    _attach_events(tab)
    return tab


def _attach_events(tab: PreviewTab) -> None:
    """Let the tab's components call its methods."""
    settings: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    choosing = tab.example_gallery.select(
        tab.choose,
        outputs=[
            tab.example_gallery,
            tab.status,
            tab.options.object_name,
            *tab.reference.outputs,
            *tab.scene.outputs,
        ],
        **MARKING_QUEUE,
        **settings,
    )
    for trigger in (tab.button.click, choosing.then):
        generating = trigger(
            tab.generate,
            inputs=tab.inputs,
            outputs=[tab.button, tab.status, tab.preview, tab.unrefined, *tab.view],
            **ENGINE_QUEUE,
            **settings,
        )
        generating.then(None, js=SCROLL_TO_PREVIEW, api_visibility="private").then(
            tab.refine, inputs=tab.unrefined, outputs=[tab.button, tab.status, *tab.view], **ENGINE_QUEUE, **settings
        )
    sending = tab.view.send.click(
        tab.send,
        inputs=tab.preview,
        outputs=[tab.status, tab.tabs, *tab.refine_tab.inputs.outputs, tab.refine_tab.status],
        concurrency_limit=None,
        **settings,
    )
    # A preview that cannot be sent leaves the visitor where the reason stands.
    sending.then(None, js=SCROLL_TO_TOP, api_visibility="private")


def _build_options() -> PreviewOptions:
    """Add the options, closed at first."""
    with gr.Accordion("Options", open=False, elem_id="preview-options"):
        gr.HTML('<p class="hint"><b>Faults</b> that the simulator draws, from 0, none, to 1:</p>')
        artifacts = {name: _strength(name, default) for name, default in STRENGTHS}
        seed = build_seed_field()
        object_name = gr.Textbox(
            DEFAULT_NAME, label="Object", info="In a few words, for a generator’s prompt; the simulator does not read."
        )
        caption = gr.Textbox(label="Caption", info="In a longer phrase, if you like; the same holds.")
    return PreviewOptions(object_name, caption, seed, artifacts)


def _strength(name: str, default: float) -> gr.Slider:
    described = Strengths.model_fields[name].description or ""
    label = capitalised(name.replace("_", " "))
    return gr.Slider(0, 1, value=default, step=0.01, label=label, info=f"{capitalised(described)}.")


def _build_example_gallery(examples: list[PreviewExample]) -> gr.Gallery:
    """Add thumbnails of the scenes, each with its reference in the corner; hidden where there are none."""
    with gr.Column(visible=bool(examples)):
        gr.HTML("<h2>Or try an example</h2>")
        return thumbnail_gallery(
            [(example.thumbnail(), example.meta.title) for example in examples],
            label="Examples",
            columns=3,
            elem_id="preview-examples",
        )
