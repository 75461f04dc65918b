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
        columns=4,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        container=False,
        elem_id="examples",
        elem_classes="examples",
    )


def connect_gallery(
    demo: gr.Blocks, examples: list[Example], gallery: gr.Gallery, inputs: Inputs, status: gr.HTML, view: ResultView
) -> None:
    """A click shows the result at once where this process has made it before, else by making it.

    The first example's result is on the page from the start, so that a visitor sees what is promised.
    """
    named = {example.name: example for example in examples}
    results: dict[str, ShownResult] = {}
    folder = tempfile.TemporaryDirectory(prefix="refgc-examples-")
    # The name of the example chosen last: the only one whose result may come onto the page.
    wanted = gr.State(None)
    # (name, number of its own) of a result that has to be made; the number makes every time a change that is seen.
    missing = gr.State(None)

    def show(example: Example) -> dict[Any, Any]:
        if example.name not in results:
            return {wanted: example.name, missing: (example.name, uuid4().hex)}
        return {wanted: example.name, **view.show(results[example.name], f"Example: {example.meta.title}")}

    def choose_example(event: gr.SelectData) -> dict[Any, Any]:
        example = examples[int(event.index)]
        chosen = inputs.defaults() | {
            inputs.reference: str(example.reference),
            inputs.generated: str(example.generated),
            status: status_line(example.meta.description),
            gallery: gr.update(selected_index=None),
        }
        return chosen | show(example)

    def make(asked: tuple[str, str], progress: gr.Progress = gr.Progress()) -> dict[Any, Any]:  # noqa: B008
        example = named[asked[0]]
        try:
            if example.name not in results:
                request = make_request(example.reference, example.generated)
                results[example.name] = run(request, Path(folder.name) / example.name, progress)
        except Exception as error:
            return {status: problem_line(sentence_for(error))}
        return {status: gr.skip()}

    def show_made(asked: tuple[str, str], name: str) -> dict[Any, Any]:
        return show(named[name]) if asked[0] == name and name in results else {missing: gr.skip()}

    gallery.select(
        choose_example,
        outputs=[*inputs, status, gallery, wanted, missing, *view],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    ).then(None, js=SCROLL_TO_RESULT, api_visibility="private")
    demo.load(
        lambda: show(examples[0]),
        outputs=[wanted, missing, *view],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
    missing.change(
        make,
        inputs=missing,
        outputs=status,
        api_visibility="private",
        show_progress_on=[view.whole],
        **ENGINE_QUEUE,
    ).then(
        show_made,
        inputs=[missing, wanted],
        outputs=[wanted, missing, *view],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
