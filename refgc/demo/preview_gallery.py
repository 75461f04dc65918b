"""The preview's examples to click: each fills both pictures with their masks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from refgc.demo.marked import apply_marks
from refgc.demo.marking_events import MARKING_QUEUE
from refgc.demo.marking_pad import MarkingPad
from refgc.demo.messages import status_line
from refgc.demo.preview_examples import PreviewExample
from refgc.demo.preview_options import PreviewOptions
from refgc.demo.thumbnails import thumbnail_gallery


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
