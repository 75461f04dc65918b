"""The example pictures to click: each fills the inputs and shows its result."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr

from refgc.demo.display import ShownResult
from refgc.demo.examples import Example, thumbnail
from refgc.demo.inputs import Inputs
from refgc.demo.messages import problem_line, status_line
from refgc.demo.result_view import ResultView
from refgc.demo.run import ENGINE_QUEUE, SCROLL_TO_RESULT, run, sentence_for
from refgc.refinement import make_request


def build_gallery(examples: list[Example]) -> gr.Gallery:
    """Thumbnails with captions."""
    gr.HTML("<h2>Or try an example</h2>")
    return gr.Gallery(
        [(thumbnail(example), example.meta.title) for example in examples],
        label="Examples",
        show_label=False,
        columns=3,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        container=False,
        elem_id="examples",
    )


def connect_gallery(
    demo: gr.Blocks, examples: list[Example], gallery: gr.Gallery, inputs: Inputs, status: gr.HTML, view: ResultView
) -> None:
    """A click shows the result at once where this process has made it before, else by making it.

    The first example's result is on the page from the start, so that a visitor sees what is promised.
    """
    results: dict[str, ShownResult] = {}
    folder = tempfile.TemporaryDirectory(prefix="refgc-examples-")
    # (example's name, number of its own): set when a result has to be made, and new each time so that a change is seen.
    wanted = gr.State(None)

    def show(example: Example) -> dict[Any, Any]:
        if example.name not in results:
            return {wanted: (example.name, uuid4().hex)}
        return view.show(results[example.name], f"Example: {example.meta.title}")

    def choose_example(event: gr.SelectData) -> dict[Any, Any]:
        example = examples[int(event.index)]
        chosen = inputs.defaults() | {
            inputs.reference: str(example.reference),
            inputs.generated: str(example.generated),
            status: status_line(example.meta.description),
            gallery: gr.update(selected_index=None),
        }
        return chosen | show(example)

    def make(wanted_example: tuple[str, str], progress: gr.Progress = gr.Progress()) -> dict[Any, Any]:  # noqa: B008
        example = next(example for example in examples if example.name == wanted_example[0])
        try:
            if example.name not in results:
                request = make_request(example.reference, example.generated)
                results[example.name] = run(request, Path(folder.name) / example.name, progress)
        except Exception as error:
            return {status: problem_line(sentence_for(error))}
        return show(example)

    gallery.select(
        choose_example,
        outputs=[*inputs, status, gallery, wanted, *view],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    ).then(None, js=SCROLL_TO_RESULT, api_visibility="private")
    demo.load(
        lambda: show(examples[0]),
        outputs=[wanted, *view],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
    wanted.change(
        make,
        inputs=wanted,
        outputs=[status, wanted, *view],
        api_visibility="private",
        show_progress_on=[view.whole],
        **ENGINE_QUEUE,
    )
