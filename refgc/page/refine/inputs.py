"""What a visitor asked for: read and checked once, then remembered with its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import gradio as gr

from refgc.doctor import may_choose_diffusion
from refgc.engine import EngineName
from refgc.errors import InputError
from refgc.page.examples import is_ours
from refgc.page.marking.marks import Marking
from refgc.page.marking.mask import Origin, apply_marks
from refgc.page.marking.pad import FILE_TYPES, MarkingPad, build_marking_pad, connect_mask
from refgc.page.service.runs import RefineJob
from refgc.page.words import capitalised, missing_pictures
from refgc.refinement import EngineChoice
from refgc.webui.components import DEFAULT_SEED, build_seed_field

DEFAULT_SCALE, DEFAULT_STRENGTH, DEFAULT_OBJECT_NAME = 4, 1.0, "object"


@dataclass(frozen=True, slots=True)
class Picture:
    """One of the two pictures.

    Attributes:
        source: its file.
        mask: the file of its object's mask; None lets the engine find it.
        is_marked: whether the mask was made on the page, so that the visitor has no file of it.
    """

    source: Path
    mask: Path | None = None
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One refinement, as a visitor asked for it.

    Attributes:
        title: what its result is called.
        number: tells it from an earlier one that is the same in everything else.
        at: when, in seconds of `time.monotonic`.
    """

    reference: Picture
    generated: Picture
    title: str
    scale: int = DEFAULT_SCALE
    strength: float = DEFAULT_STRENGTH
    seed: int = DEFAULT_SEED
    engine: EngineChoice = "auto"
    object_name: str = DEFAULT_OBJECT_NAME
    number: str = field(default_factory=lambda: uuid4().hex)
    at: float = field(default_factory=monotonic)

    def job(self, engine: EngineName) -> RefineJob:
        """The run that makes it, by the engine that the choice stands for."""
        return RefineJob(
            self.reference.source,
            self.generated.source,
            reference_mask=self.reference.mask,
            generated_mask=self.generated.mask,
            scale=self.scale,
            strength=self.strength,
            seed=self.seed,
            object_name=self.object_name,
            engine=engine,
        )


def read_asked(
    reference: str | None,
    reference_marking: Marking | None,
    reference_mask: str | None,
    generated: str | None,
    generated_marking: Marking | None,
    generated_mask: str | None,
    scale: int,
    strength: float,
    seed: int | None,
    engine: EngineChoice,
    object_name: str,
) -> Asked:
    """The values of `Inputs.given`, in its order.

    Raises:
        InputError: a picture is missing.
    """
    if reference is None or generated is None:
        raise InputError(missing_pictures(reference, generated))
    return Asked(
        _picture(reference, reference_marking, reference_mask),
        _picture(generated, generated_marking, generated_mask),
        _title(Path(generated)),
        scale,
        strength,
        DEFAULT_SEED if seed is None else seed,
        engine,
        object_name,
    )


def _picture(source: str, marking: Marking | None, given: str | None) -> Picture:
    if marking is not None and marking.marks and marking.source == Path(source):
        return Picture(marking.source, marking.mask, is_marked=True)
    return Picture(Path(source), None if given is None else Path(given))


def _title(generated: Path) -> str:
    """What a result is called: by its file; one of our examples, whose files are all called alike, by its folder."""
    return capitalised(generated.parent.name.replace("_", " ")) if is_ours(generated) else generated.name


# ==== inputs
ENGINES = [("The best here", "auto"), ("Diffusion", "diffusion"), ("Correspondence", "correspondence")]
# An engine finds the object by itself and better than can be done here at once, so nothing is looked for before.
GENERATED_ORIGINS: Mapping[Origin, str] = {
    "marks": "{} is marked.",
    "given": "By the given mask: {}. What you mark takes its place.",
    "nothing": "The object is found when you refine. To be sure of it, click it or drag a box around it.",
}
REFERENCE_ORIGINS: Mapping[Origin, str] = {
    **GENERATED_ORIGINS,
    "transparency": "The picture’s own transparency: {}. What you mark takes its place.",
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """The components that a visitor fills in."""

    reference: MarkingPad
    generated: MarkingPad
    reference_mask: gr.File
    generated_mask: gr.File
    scale: gr.Radio
    strength: gr.Slider
    seed: gr.Number
    engine: gr.Radio
    object_name: gr.Textbox

    @property
    def given(self) -> list[Any]:
        """The components whose values `read_asked` takes, in its order."""
        options = [self.scale, self.strength, self.seed, self.engine, self.object_name]
        reference = [self.reference.file, self.reference.marking, self.reference_mask]
        return [*reference, self.generated.file, self.generated.marking, self.generated_mask, *options]

    @property
    def changing(self) -> list[Any]:
        """The components that `filled` changes."""
        return [
            *self.given,
            *(part for part in self.reference.changing if part is not self.reference.marking),
            *(part for part in self.generated.changing if part is not self.generated.marking),
        ]

    def filled(
        self,
        reference: Marking,
        generated: Marking,
        *,
        scale: int = DEFAULT_SCALE,
        object_name: str = DEFAULT_OBJECT_NAME,
    ) -> dict[Any, Any]:
        """The updates that put two pictures there, with the masks that came with them, and every option as at first."""
        updates: dict[Any, Any] = {
            self.scale: scale,
            self.strength: DEFAULT_STRENGTH,
            self.seed: DEFAULT_SEED,
            self.engine: "auto",
            self.object_name: object_name,
        }
        for pad, mask, marking in (
            (self.reference, self.reference_mask, reference),
            (self.generated, self.generated_mask, generated),
        ):
            marked = apply_marks(marking, pad.name, unasked=pad.origins)
            updates |= {pad.file: str(marking.source), mask: _path(marking.given), **pad.show(marked)}
        return updates


def build_pictures() -> tuple[MarkingPad, MarkingPad]:
    """The two pictures, side by side, and what each is for."""
    gr.HTML("<h2>Your two pictures</h2>")
    with gr.Row(elem_classes="pads"):
        reference = build_marking_pad(
            "Reference photo", "reference", "reference", origins=REFERENCE_ORIGINS, min_width=220
        )
        generated = build_marking_pad(
            "Generated picture", "generated picture", "generated", origins=GENERATED_ORIGINS, min_width=220
        )
    gr.HTML(
        '<p class="hint">The <b>reference photo</b> shows the real object, sharp. The <b>generated picture</b> is what '
        "an image generator made of it: right scene, wrong details. JPEG, PNG, WebP, HEIC, AVIF or TIFF, up to 100 MB "
        "each.</p>"
    )
    return reference, generated


def build_options(reference: MarkingPad, generated: MarkingPad) -> Inputs:
    """Everything optional: the size, and the rest closed at first."""
    chooses = may_choose_diffusion()
    scale = gr.Radio(
        [("2× the size", 2), ("4× the size", 4)],
        value=DEFAULT_SCALE,
        label="Enlarge to",
        info="Measured against the generated picture.",
        elem_id="scale",
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
            reference_mask = _mask_upload("Reference mask", "reference-mask")
            generated_mask = _mask_upload("Generated mask", "generated-mask")
    for pad, mask in ((reference, reference_mask), (generated, generated_mask)):
        connect_mask(pad, mask)
    return Inputs(reference, generated, reference_mask, generated_mask, scale, strength, seed, engine, object_name)


def _mask_upload(label: str, elem_id: str) -> gr.File:
    with gr.Column(elem_classes="upload", min_width=140):
        return gr.File(label=label, file_types=FILE_TYPES, height=140, elem_id=elem_id)


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
