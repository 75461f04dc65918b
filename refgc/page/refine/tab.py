"""The Refine tab: two pictures in, the comparison, the report and the PNG out."""

from __future__ import annotations

import gradio as gr

from refgc.page.examples import Example
from refgc.page.refine.events import Desk, connect_refining
from refgc.page.refine.examples import Examples, build_example_gallery, connect_example_gallery, find_results
from refgc.page.refine.inputs import build_options, build_pictures
from refgc.page.refine.result import History, build_result
from refgc.page.service.runs import Service


def build_refine_tab(demo: gr.Blocks, examples: list[Example], service: Service) -> Desk:
    """Adds the tab's components and events to the page being built."""
    with gr.Row():
        with gr.Column(scale=5, min_width=400):
            reference, generated = build_pictures()
            with gr.Row(elem_classes="buttons"):
                button = gr.Button("Refine", variant="primary", size="lg", scale=3, min_width=120, elem_id="refine")
                cancel = gr.Button("Cancel", size="lg", scale=1, min_width=100, visible=False, elem_id="cancel")
            status = gr.HTML("", elem_id="status", elem_classes="status-line")
            inputs = build_options(reference, generated)
            gallery = build_example_gallery(examples) if examples else None
        with gr.Column(scale=7, min_width=440, elem_id="result"):
            view, past = build_result()
    desk = Desk(inputs, button, cancel, status, view, past, asked=gr.State(None), history=gr.State(History()))
    refinement = connect_refining(desk, service)
    if gallery is not None:
        connect_example_gallery(demo, gallery, Examples(examples, find_results(examples), desk), refinement)
    return desk
