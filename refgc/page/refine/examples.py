"""The example pictures to click: each fills the inputs and shows its result."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
import PIL.Image
from gradio.utils import get_upload_folder

from refgc.page.examples import Example, thumbnail
from refgc.page.gallery.manifest import GALLERY_FOLDER, GalleryCard, content_hash, read_manifest
from refgc.page.marking.marks import Marking
from refgc.page.refine.code import code_for
from refgc.page.refine.events import Desk
from refgc.page.refine.inputs import Asked, Picture
from refgc.page.refine.pictures import CLOSE_UPS, ShownPictures, object_window, write_close_up
from refgc.page.refine.result import Entry, History
from refgc.page.service.storage import new_folder
from refgc.page.words import SCROLL_TO_RESULT, status_line
from refgc.webui.components import thumbnail_gallery


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


# ==== example_results
BEFORE, AFTER, SMALL = "before.webp", "after.webp", "after-small.webp"


def find_results(examples: list[Example], folder: Path = GALLERY_FOLDER) -> dict[str, GalleryCard]:
    """The gallery's cards of `examples`, by the example's name, as far as they are still made from its pictures."""
    cards = {card.name: card for card in read_manifest(folder).cards if card.artifact is None}
    return {
        example.name: cards[example.name]
        for example in examples
        if example.name in cards and _is_of(cards[example.name], example)
    }


def _is_of(card: GalleryCard, example: Example) -> bool:
    return all(card.sources.get(path.name) == content_hash(path) for path in (example.reference, example.generated))


def show_result(card: GalleryCard, folder: Path = GALLERY_FOLDER) -> ShownPictures:
    """The pictures of a card, put where the page may show them from; again, where they have been deleted since."""
    # By what is in it, so that pictures of an earlier gallery are never taken for these.
    place = Path(get_upload_folder()) / "examples" / card.pictures[f"{card.name}/{AFTER}"][:16]
    names = [BEFORE, AFTER, SMALL, *(CLOSE_UPS if card.report.object_box else ())]
    if not all((place / name).is_file() for name in names):
        _put(card, folder / card.name, place)
    return ShownPictures(
        whole=(place / BEFORE, place / AFTER),
        close_up=(place / CLOSE_UPS[0], place / CLOSE_UPS[1]) if card.report.object_box else None,
        thumbnail=place / SMALL,
        report=card.report,
    )


def _put(card: GalleryCard, source: Path, place: Path) -> None:
    """Each file whole or not at all, since another visitor may be looking at it."""
    fresh = place.with_name(f"{place.name}-{uuid4().hex}")
    fresh.mkdir(parents=True)
    for name in (BEFORE, AFTER, SMALL):
        shutil.copyfile(source / name, fresh / name)
    if card.report.object_box:
        with PIL.Image.open(source / BEFORE) as before, PIL.Image.open(source / AFTER) as after:
            write_close_up(before, after, object_window(card.report.object_box, after.size), fresh)
    place.mkdir(exist_ok=True)
    for path in fresh.iterdir():
        path.replace(place / path.name)
    fresh.rmdir()
