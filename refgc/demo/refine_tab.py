"""The Refine tab: two pictures in, the comparison, the report and the PNG out."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.utils import get_upload_folder

from refgc.demo.example_gallery import build_gallery, connect_gallery
from refgc.demo.examples import Example
from refgc.demo.inputs import DEFAULT_SEED, Inputs, build_options, build_pictures
from refgc.demo.messages import missing_pictures, problem_line, status_line
from refgc.demo.result_view import ResultView, build_comparison, build_details
from refgc.demo.run import ENGINE_QUEUE, SCROLL_TO_RESULT, run, sentence_for
from refgc.refinement import make_request

EXAMPLES_FOLDER = Path(__file__).resolve().parents[2] / "examples"
DONE = "Done. Drag the handle to compare."
ONLY_ENLARGED = "Done, but only enlarged; the report below the picture says why."


def build_refine_tab(demo: gr.Blocks, examples: list[Example]) -> tuple[Inputs, gr.HTML]:
    """Adds the tab's components and events to the page being built; returns its inputs and the line of its status."""
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            reference, generated = build_pictures()
            button = gr.Button("Refine", variant="primary", size="lg", elem_id="refine")
            status = gr.HTML("", elem_id="status", elem_classes="status-line")
            inputs = build_options(reference, generated)
            gallery = build_gallery(examples) if examples else None
        with gr.Column(scale=7, min_width=320, elem_id="result"):
            comparison = build_comparison()
    view = build_details(comparison)
    _connect_button(button, inputs, status, view)
    if gallery is not None:
        connect_gallery(demo, examples, gallery, inputs, status, view)
    return inputs, status


def _connect_button(button: gr.Button, inputs: Inputs, status: gr.HTML, view: ResultView) -> None:
    def refine(
        reference: str | None,
        generated: str | None,
        scale: int,
        strength: float,
        seed: int | None,
        reference_mask: str | None,
        generated_mask: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds the bar by this default)
    ) -> dict[Any, Any]:
        if reference is None or generated is None:
            return {status: problem_line(missing_pictures(reference, generated))}
        progress(0, desc="Reading the pictures")
        try:
            request = make_request(
                reference,
                generated,
                scale=scale,
                reference_mask=reference_mask,
                generated_mask=generated_mask,
                seed=DEFAULT_SEED if seed is None else seed,
                strength=strength,
            )
            shown = run(request, Path(get_upload_folder()) / "refined" / uuid4().hex, progress)
        except Exception as error:
            return {status: problem_line(sentence_for(error))}
        return {status: status_line(DONE if shown.report.placed else ONLY_ENLARGED), **view.show(shown, "Result")}

    button.click(
        refine,
        inputs=list(inputs),
        outputs=[status, *view],
        api_visibility="private",
        show_progress_on=[status],
        **ENGINE_QUEUE,
    ).then(None, js=SCROLL_TO_RESULT, api_visibility="private")
