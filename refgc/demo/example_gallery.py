"""The example pictures to click: each fills the inputs and shows its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from refgc.demo.asked import Asked, Picture
from refgc.demo.code_text import code_for
from refgc.demo.example_results import show_result
from refgc.demo.examples import Example, thumbnail
from refgc.demo.gallery_manifest import GalleryCard
from refgc.demo.history import Entry, History
from refgc.demo.marking import Marking
from refgc.demo.messages import status_line
from refgc.demo.refine_events import Desk
from refgc.demo.run import SCROLL_TO_RESULT
from refgc.demo.storage import new_folder
from refgc.demo.thumbnails import thumbnail_gallery


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of a page, with their results as far as those are committed."""

    examples: list[Example]
    results: dict[str, GalleryCard]
    desk: Desk

    @property
    def changing(self) -> list[Any]:
        """The components that `choose` changes."""
        return [*self.desk.inputs.changing, *self.desk.changing, self.desk.asked]

    def named(self, name: str) -> Example | None:
        """The example of that name, if there is one."""
        return next((example for example in self.examples if example.name == name), None)

    def choose(self, example: Example, history: History) -> dict[Any, Any]:
        """The updates that fill the example in and show its result, or have it made."""
        desk = self.desk
        updates = desk.inputs.filled(Marking(example.reference), Marking(example.generated))
        entry = self._entry(example)
        updates[desk.status] = status_line(example.meta.description, done=entry is not None)
        if entry is None:
            return {**updates, **self._making(example)}
        return {**updates, **desk.show(entry, history), **desk.resting()}

    def open_with(self, example: Example, history: History) -> dict[Any, Any]:
        """The updates that show its result, or have it made, on a page just opened; the inputs stay empty."""
        entry = self._entry(example)
        if entry is None:
            return self._making(example)
        return {self.desk.history: history.showing(entry), **self.desk.view.show(entry)}

    def _making(self, example: Example) -> dict[Any, Any]:
        return {self.desk.asked: _asked(example), **self.desk.running()}

    def _entry(self, example: Example) -> Entry | None:
        if example.name not in self.results:
            return None
        asked, shown = _asked(example), show_result(self.results[example.name])
        return Entry(asked.title, shown, code_for(asked, shown.report.engine, "refined.png", new_folder("masks")))


def _asked(example: Example) -> Asked:
    return Asked(Picture(example.reference), Picture(example.generated), example.meta.title)


def build_example_gallery(examples: list[Example]) -> gr.Gallery:
    """Thumbnails with captions."""
    gr.HTML("<h2>Or try an example</h2>")
    return thumbnail_gallery(
        [(thumbnail(example), example.meta.title) for example in examples],
        label="Examples",
        columns=4,
        elem_id="examples",
    )


def connect_example_gallery(demo: gr.Blocks, gallery: gr.Gallery, shown: Examples, refinement: Any) -> None:
    """A click shows an example's result at once where it is committed, else by making it.

    The first example's result is on the page from the start, so that a visitor sees what is promised.

    Args:
        demo: the page being built.
        gallery: of `shown.examples`, in their order.
        shown: the examples.
        refinement: the event that refines; choosing an example ends it.
    """

    def choose(event: gr.SelectData, history: History) -> dict[Any, Any]:
        return {gallery: gr.update(selected_index=None), **shown.choose(shown.examples[int(event.index)], history)}

    def open_page(history: History, request: gr.Request) -> dict[Any, Any]:
        chosen = shown.named(request.query_params.get("example", ""))
        return shown.open_with(shown.examples[0], history) if chosen is None else shown.choose(chosen, history)

    gallery.select(
        choose,
        inputs=shown.desk.history,
        outputs=[gallery, *shown.changing],
        cancels=[refinement],
        api_visibility="private",
        show_progress="hidden",
        # Past the queue: ending the run closes the stream of answers from there, and with it this one's could be lost.
        queue=False,
    ).then(None, js=SCROLL_TO_RESULT, api_visibility="private")
    demo.load(
        open_page,
        inputs=shown.desk.history,
        outputs=shown.changing,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
