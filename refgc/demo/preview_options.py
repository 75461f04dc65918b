"""The preview's options, folded away: what the object is called, the seed, how strong each artifact is."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from refgc.demo.report_text import capitalised
from refgc.demo.seed_field import build_seed_field
from refgc.diprefgc.artifacts import Strengths
from refgc.diprefgc.preview import STRENGTHS

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
