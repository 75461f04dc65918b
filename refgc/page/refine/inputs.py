"""The inputs of the Refine tab, and what a visitor submits with them: read once, then remembered with its result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import gradio as gr

from refgc.doctor import may_choose_diffusion
from refgc.engine import EngineName
from refgc.errors import InputError
from refgc.imaging.files import MEGABYTE
from refgc.imaging.image import READABLE
from refgc.page.examples import Example, is_ours
from refgc.page.marking.mask import Marking, MaskSource, ObjectSegmenter
from refgc.page.marking.pad import FILE_TYPES, MarkingPad, attach_marking, build_marking_pad
from refgc.page.service.payload import UPLOAD_BYTES
from refgc.page.service.queue import rough_time
from refgc.page.service.runs import RefineJob
from refgc.page.words import capitalised, missing_pictures
from refgc.refinement import EngineChoice
from refgc.request import MAX_REFERENCES, Surroundings
from refgc.surroundings.weights import are_weights_here
from refgc.webui.components import DEFAULT_SEED, build_seed_field

DEFAULT_SCALE, DEFAULT_STRENGTH, DEFAULT_OBJECT_NAME = 4, 1.0, "object"
DEFAULT_SURROUNDINGS: Surroundings = "plain"
SURROUNDINGS: list[tuple[str, Surroundings]] = [("Plain", "plain"), ("Fast", "fast"), ("Best", "best")]
ENGINES = [("The best here", "auto"), ("Diffusion", "diffusion"), ("Correspondence", "correspondence")]
# An engine detects the object better than can be done here at once, so nothing is detected before.
GENERATED_CAPTIONS: Mapping[MaskSource, str] = {
    "marks": "{} is marked.",
    "file": "By the given mask: {}. What you mark takes its place.",
    "none": "The object is found when you refine. To be sure of it, click it or drag a box around it.",
}
REFERENCE_CAPTIONS: Mapping[MaskSource, str] = {
    **GENERATED_CAPTIONS,
    "transparency": "The picture’s own transparency: {}. What you mark takes its place.",
}


@dataclass(frozen=True, slots=True)
class Submission:
    """One refinement as a visitor submitted it.

    Attributes:
        reference: the HRRI and its marks.
        generated: the LRGI and its marks.
        title: what the result is called.
        scale: output size over generated size.
        strength: how much of the reference to bring in, from 0 to 1.
        surroundings: how what lies around the object is enlarged.
        seed: seed of everything random.
        engine: the choice; "auto" is decided by the service.
        object_name: the object in words.
        further_references: more photos of the same object.
        number: tells the submission from an earlier one that is the same in everything else.
        submitted_at: in seconds of `time.monotonic`.
    """

    reference: Marking
    generated: Marking
    title: str
    scale: int = DEFAULT_SCALE
    strength: float = DEFAULT_STRENGTH
    surroundings: Surroundings = DEFAULT_SURROUNDINGS
    seed: int = DEFAULT_SEED
    engine: EngineChoice = "auto"
    object_name: str = DEFAULT_OBJECT_NAME
    further_references: tuple[Path, ...] = ()
    number: str = field(default_factory=lambda: uuid4().hex)
    submitted_at: float = field(default_factory=monotonic)

    def job(self, engine: EngineName) -> RefineJob:
        """The run by the engine that the choice stands for."""
        return RefineJob(
            self.reference.source,
            self.generated.source,
            reference_mask=self.reference.chosen_mask,
            generated_mask=self.generated.chosen_mask,
            scale=self.scale,
            strength=self.strength,
            surroundings=self.surroundings,
            seed=self.seed,
            object_name=self.object_name,
            engine=engine,
            further_references=self.further_references,
            plain_first=True,
        )


def title_of(generated: Path) -> str:
    """What a result is called: by its file; one of our examples, whose files are all called alike, by its folder."""
    return capitalised(generated.parent.name.replace("_", " ")) if is_ours(generated) else generated.name


@dataclass(frozen=True, slots=True, eq=False)
class RefineInputs:
    """The components that a visitor fills in."""

    reference: MarkingPad
    generated: MarkingPad
    scale: gr.Radio
    strength: gr.Slider
    surroundings: gr.Radio
    surroundings_times: gr.HTML
    seed: gr.Number
    engine: gr.Radio
    object_name: gr.Textbox
    further_references: gr.File
    link: gr.Button

    @property
    def files(self) -> tuple[gr.File, ...]:
        """The uploads of pictures, without those of masks."""
        return self.reference.file, self.generated.file, self.further_references

    @property
    def options(self) -> set[Any]:
        """Everything but the two pictures."""
        return {
            self.scale,
            self.strength,
            self.surroundings,
            self.seed,
            self.engine,
            self.object_name,
            self.further_references,
        }

    @property
    def inputs(self) -> set[Any]:
        """The components that `read` reads."""
        return self.reference.inputs | self.generated.inputs | self.options

    @property
    def outputs(self) -> list[Any]:
        """The components that `fill` changes."""
        return [*self.reference.outputs, *self.generated.outputs, *self.options]

    @property
    def linkable(self) -> dict[str, gr.Radio | gr.Slider | gr.Number]:
        """The options that a link may name, by their names in it."""
        return {
            "scale": self.scale,
            "strength": self.strength,
            "surroundings": self.surroundings,
            "seed": self.seed,
            "engine": self.engine,
        }

    def linked(self, query: Mapping[str, str]) -> tuple[dict[Any, Any], bool]:
        """The updates that set the options which a link names, and whether all of these can be chosen here."""
        updates: dict[Any, Any] = {}
        all_possible = True
        for name, component in self.linkable.items():
            if name in query:
                try:
                    updates[component] = read_setting(query[name], component)
                except ValueError:
                    all_possible = False
        return updates, all_possible

    def read(self, values: Mapping[Any, Any]) -> Submission:
        """What the visitor submits.

        Args:
            values: of the components in `inputs`.

        Raises:
            InputError: a picture is missing, or the browser sent something that is no mark.
        """
        reference, generated = self.reference.read(values), self.generated.read(values)
        if reference is None or generated is None:
            raise InputError(missing_pictures(reference, generated))
        further = tuple(map(Path, values[self.further_references] or ()))
        if len(further) >= MAX_REFERENCES:
            raise InputError(f"These are {len(further)} more photos of the object; keep at most {MAX_REFERENCES - 1}.")
        return Submission(
            reference,
            generated,
            title_of(generated.source),
            scale=values[self.scale],
            strength=values[self.strength],
            surroundings=values[self.surroundings],
            seed=DEFAULT_SEED if values[self.seed] is None else values[self.seed],
            engine=values[self.engine],
            object_name=values[self.object_name],
            further_references=further,
        )

    def complete(self, submission: Submission, visit: str) -> Submission:
        """The submission with the masks of marks that were made just before it.

        Raises:
            InputError: the marks find nothing, or the picture cannot be used.
            BusyError: the visit has reached its limits.
            EngineError: the segmenter failed, or its time is over.
        """
        reference, generated = submission.reference, submission.generated
        if reference.marks:
            reference = self.reference.complete(reference, visit)
        if generated.marks:
            generated = self.generated.complete(generated, visit)
        return replace(submission, reference=reference, generated=generated)

    def fill(self, reference: Marking, generated: Marking) -> dict[Any, Any]:
        """The updates that put two of the page's own pictures there, and set every option as at first."""
        pads = {**self.reference.fill(reference), **self.generated.fill(generated)}
        return {**pads, **self._set(Submission(reference, generated, ""))}

    def restore(self, submission: Submission, visit: str) -> dict[Any, Any]:
        """The updates that put back what was submitted earlier; raises as `MarkingPad.put` does."""
        return {**self.put(submission.reference, submission.generated, visit), **self._set(submission)}

    def put(self, reference: Marking | None, generated: Marking | None, visit: str) -> dict[Any, Any]:
        """The updates that put two of the visitor's pictures there; raises as `MarkingPad.put` does."""
        return {**self.reference.put(reference, visit), **self.generated.put(generated, visit)}

    def own(self, values: Mapping[Any, Any]) -> tuple[Marking | None, Marking | None] | None:
        """The visitor's own reference and generated picture with their marks; None where there are none."""
        try:
            markings = self.reference.read(values), self.generated.read(values)
        except InputError:
            return None
        return markings if any(marking is not None and not is_ours(marking.source) for marking in markings) else None

    def hold(self, submission: Submission, values: Mapping[Any, Any]) -> bool:
        """Whether the pictures that are chosen are those that were submitted; the same file once more is the same.

        Args:
            submission: of a result.
            values: of the components in `files`.
        """
        chosen = [values[self.reference.file], values[self.generated.file], *(values[self.further_references] or ())]
        submitted = (submission.reference.source, submission.generated.source, *submission.further_references)
        return chosen == list(map(str, submitted))

    def swap(self, values: Mapping[Any, Any], visit: str) -> dict[Any, Any]:
        """The updates that let the two pictures change places, each with its marks; raises as `MarkingPad.put` does."""
        return self.put(self.generated.read(values), self.reference.read(values), visit)

    def _set(self, submission: Submission) -> dict[Any, Any]:
        """The updates of the options."""
        return {
            self.scale: submission.scale,
            self.strength: submission.strength,
            self.surroundings: submission.surroundings,
            self.seed: submission.seed,
            self.engine: submission.engine,
            self.object_name: submission.object_name,
            self.further_references: list(map(str, submission.further_references)) or None,
        }


def read_setting(text: str, component: gr.Radio | gr.Slider | gr.Number) -> Any:
    """The value of an option as a link names it.

    Raises:
        ValueError: it cannot be chosen.
    """
    if isinstance(component, gr.Radio):
        values = [value for _, value in component.choices if component.visible or value == component.value]
        return values[[str(value) for value in values].index(text)]
    # Python reads numbers in other digits, and with underscores, too.
    if not re.fullmatch(r"\d{1,16}(\.\d{1,9})?", text, re.ASCII):
        raise ValueError(text)
    number = float(text) if isinstance(component, gr.Slider) else int(text)
    if component.maximum is not None and number > component.maximum:
        raise ValueError(text)
    return number


def surroundings_times(seconds: Callable[[Surroundings, float], float]) -> str:
    """What better surroundings cost in time, by the size of the result, as HTML.

    Args:
        seconds: how much longer a run takes with these surroundings, for a result of so many million pixels.
    """
    methods: tuple[Surroundings, ...] = ("fast", "best")
    (fast, best), (fast_large, best_large) = (
        [rough_time(seconds(method, side**2 / 1e6)) for method in methods] for side in (1024, 4096)
    )
    return (
        f'<p class="hint">At 1024 × 1024 pixels, fast takes {fast} more and best {best}; at 4096 × 4096 pixels, '
        f"{fast_large} and {best_large}.</p>"
    )


def build_link_button() -> gr.Button:
    """Add the button that copies a link, and the place where it says so."""
    button = gr.Button("Copy link to these settings", size="sm", elem_id="copy-link")
    gr.HTML('<p class="hint link-said" role="status"></p>', apply_default_css=False, elem_id="link-said")
    return button


def attach_link_button(inputs: RefineInputs, examples: Sequence[Example]) -> None:
    """Let the button copy a link to the settings, and to the example whose pictures are filled in.

    The visitor's own pictures are in no link.
    """
    known = {
        "options": list(inputs.linkable),
        "defaults": [component.value for component in inputs.linkable.values()],
        "examples": {one.name: [str(one.reference), str(one.generated)] for one in examples},
    }
    inputs.link.click(
        None,
        inputs=[*inputs.linkable.values(), inputs.reference.file, inputs.generated.file],
        js=f"(...values) => window.refgcCopyLink({json.dumps(known)}, values)",
        api_visibility="private",
    )


def build_pads(segmenter: ObjectSegmenter) -> tuple[MarkingPad, MarkingPad, gr.Button]:
    """Reference and generated picture, side by side, and a button that swaps them; the uploads of masks come later."""
    with gr.Row(elem_classes="pads-head"):
        gr.HTML("<h2>Your two pictures</h2>")
        swap = gr.Button("⇄ Swap", size="sm", scale=0, min_width=96, elem_id="swap")
    with gr.Row(elem_classes="pads"):
        reference = build_marking_pad(
            segmenter,
            "Reference photo",
            "reference",
            "reference",
            captions=REFERENCE_CAPTIONS,
            mask_file=_mask_upload("Reference mask", "reference-mask"),
            min_width=220,
        )
        generated = build_marking_pad(
            segmenter,
            "Generated picture",
            "generated picture",
            "generated",
            captions=GENERATED_CAPTIONS,
            mask_file=_mask_upload("Generated mask", "generated-mask"),
            camera=False,
            min_width=220,
        )
    gr.HTML(
        '<p class="hint">The <b>reference photo</b> shows the real object, sharp. The <b>generated picture</b> is what '
        f"an image generator made of it: right scene, wrong details. {READABLE}, "
        f"up to {UPLOAD_BYTES // MEGABYTE} MB each.</p>"
    )
    return reference, generated, swap


def build_inputs(reference: MarkingPad, generated: MarkingPad, *, chooses_engine: bool | None = None) -> RefineInputs:
    """Add everything optional: the size, and the rest closed at first.

    Args:
        reference: the pad of the reference.
        generated: the pad of the generated picture.
        chooses_engine: whether there is an engine to choose; None asks this machine.
    """
    chooses = may_choose_diffusion() if chooses_engine is None else chooses_engine
    scale = gr.Radio(
        [("2× the size", 2), ("4× the size", 4)],
        value=DEFAULT_SCALE,
        label="Enlarge to",
        info="Measured against the generated picture.",
        elem_id="scale",
    )
    with gr.Accordion("More photos of the same object", open=False, elem_id="more-photos"):
        gr.HTML(
            '<p class="hint">Up to three, such as its back or its side. Each part of the object is taken from the '
            "photo that fits it best.</p>"
        )
        with gr.Column(elem_classes="upload"):
            further_references = gr.File(
                label="More reference photos",
                file_types=FILE_TYPES,
                file_count="multiple",
                height=140,
                elem_id="further-references",
            )
    with gr.Accordion("Options", open=False, elem_id="options"):
        strength = gr.Slider(
            0,
            1,
            value=DEFAULT_STRENGTH,
            step=0.05,
            label="Strength",
            info="How much of the reference to bring in; 0 only enlarges.",
        )
        choices = [choice for choice in SURROUNDINGS if are_weights_here(choice[1])]
        surroundings = gr.Radio(
            choices,
            value=DEFAULT_SURROUNDINGS,
            label="Around the object",
            info="Fast and best let a network draw fine detail; the plain result is shown meanwhile.",
            visible=len(choices) > 1,
            elem_id="surroundings",
        )
        # What it says is known when the page is opened: it follows how fast this machine is.
        times = gr.HTML("", visible=len(choices) > 1, elem_id="surroundings-times")
        seed = build_seed_field()
        engine = gr.Radio(
            ENGINES,
            value="auto",
            label="Engine",
            info="Diffusion draws with the paper’s model; correspondence fits the reference’s own pixels.",
            visible=chooses,
            elem_id="engine",
        )
        object_name = gr.Textbox(
            DEFAULT_OBJECT_NAME,
            label="Object",
            info="In a few words, such as “red teapot”; the diffusion engine reads it.",
            max_length=200,
            visible=chooses,
            elem_id="object-name",
        )
        gr.HTML(
            '<p class="hint"><b>Masks</b> can be given as files instead of marks: white is the object, black the '
            "rest.</p>"
        )
        with gr.Row(elem_classes="uploads"):
            for pad in (reference, generated):
                with gr.Column(elem_classes="upload", min_width=140):
                    assert pad.mask_file is not None, "both pads have one"
                    pad.mask_file.render()  # type: ignore[no-untyped-call]
        link = build_link_button()
    for pad in (reference, generated):
        attach_marking(pad)
    return RefineInputs(
        reference,
        generated,
        scale,
        strength,
        surroundings,
        times,
        seed,
        engine,
        object_name,
        further_references,
        link,
    )


def _mask_upload(label: str, elem_id: str) -> gr.File:
    return gr.File(label=label, file_types=FILE_TYPES, height=140, elem_id=elem_id, render=False)
