"""What a visitor gives: two pictures, and the options folded away below them."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from refgc.demo.upload import picture_upload

DEFAULT_SCALE, DEFAULT_STRENGTH, DEFAULT_SEED = 4, 1.0, 0
LARGEST_SEED = 2**31 - 1


class Inputs(NamedTuple):
    """The components in the order in which the refine handler takes their values."""

    reference: gr.File
    generated: gr.File
    scale: gr.Radio
    strength: gr.Slider
    seed: gr.Number
    reference_mask: gr.File
    generated_mask: gr.File

    def defaults(self) -> dict[Any, Any]:
        """The values of a page just opened."""
        return {
            self.reference: None,
            self.generated: None,
            self.scale: DEFAULT_SCALE,
            self.strength: DEFAULT_STRENGTH,
            self.seed: DEFAULT_SEED,
            self.reference_mask: None,
            self.generated_mask: None,
        }


def build_pictures() -> tuple[gr.File, gr.File]:
    """The two uploads, side by side, and what each is for."""
    gr.HTML("<h2>Your two pictures</h2>")
    with gr.Row(elem_classes="uploads"):
        reference = picture_upload("Reference photo", "reference", "reference")
        generated = picture_upload("Generated picture", "generated picture", "generated")
    gr.HTML(
        '<p class="hint">The <b>reference photo</b> shows the real object, sharp. The <b>generated picture</b> is what '
        "an image generator made of it: right scene, wrong details. JPEG, PNG, WebP, HEIC, AVIF or TIFF, up to 100 MB "
        "each.</p>"
    )
    return reference, generated


def build_options(reference: gr.File, generated: gr.File) -> Inputs:
    """Everything optional, closed at first."""
    with gr.Accordion("Options", open=False, elem_id="options"):
        scale = gr.Radio(
            [("2× the size", 2), ("4× the size", 4)],
            value=DEFAULT_SCALE,
            label="Enlarge to",
            info="Measured against the generated picture.",
        )
        strength = gr.Slider(
            0,
            1,
            value=DEFAULT_STRENGTH,
            step=0.05,
            label="Strength",
            info="How much of the reference to bring in; 0 only enlarges.",
        )
        seed = gr.Number(
            DEFAULT_SEED,
            precision=0,
            minimum=0,
            maximum=LARGEST_SEED,
            label="Seed",
            info="The same seed gives the same pixels.",
        )
        gr.HTML(
            '<p class="hint"><b>Masks</b> are optional: the object is found without them. White marks the object, '
            "black everything else.</p>"
        )
        with gr.Row(elem_classes="uploads"):
            reference_mask = picture_upload("Reference mask", "reference mask", "reference-mask", height=140)
            generated_mask = picture_upload("Generated mask", "generated mask", "generated-mask", height=140)
    return Inputs(reference, generated, scale, strength, seed, reference_mask, generated_mask)
