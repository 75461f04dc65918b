"""The example pictures to click: the results that are committed with the page, and the thumbnails."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import gradio as gr
from gradio.utils import get_upload_folder

from refgc.page.examples import Example, thumbnail
from refgc.page.gallery.manifest import GALLERY_FOLDER, GalleryCard, content_hash, read_manifest
from refgc.page.marking.mask import Marking
from refgc.page.pictures import REFERENCE, ShownPictures, refined_name
from refgc.page.refine.code import code_for
from refgc.page.refine.inputs import Submission
from refgc.page.refine.result import Entry
from refgc.page.service.storage import new_folder
from refgc.webui.components import thumbnail_gallery

BEFORE, AFTER, SMALL = "before.webp", "after.webp", "after-small.webp"


@dataclass(frozen=True, slots=True)
class ExampleResults:
    """The examples of a page, in their order, and the gallery's cards of those whose results are committed."""

    examples: list[Example]
    cards: dict[str, GalleryCard]

    def named(self, name: str) -> Example | None:
        """The example of that name, if there is one."""
        return next((example for example in self.examples if example.name == name), None)

    def entry(self, example: Example) -> Entry | None:
        """The committed result of an example; None where it has to be made."""
        if example.name not in self.cards:
            return None
        submission, shown = submission_of(example), show_result(self.cards[example.name])
        code = code_for(submission, shown.report.engine, refined_name(example.generated), new_folder("masks"))
        return Entry(submission, shown, code)


def submission_of(example: Example) -> Submission:
    """An example with every option as at first."""
    return Submission(Marking(example.reference), Marking(example.generated), example.meta.title)


def build_example_gallery(examples: list[Example]) -> gr.Gallery:
    """Thumbnails with captions."""
    gr.HTML("<h2>Or try an example</h2>")
    return thumbnail_gallery(
        [(thumbnail(example), example.meta.title) for example in examples],
        label="Examples",
        columns=4,
        elem_id="examples",
    )


def find_results(examples: list[Example], folder: Path = GALLERY_FOLDER) -> dict[str, GalleryCard]:
    """The gallery's cards of `examples`, by the example's name, where the card was made from the present pictures."""
    cards = {card.name: card for card in read_manifest(folder).cards if card.artifact is None}
    return {
        example.name: cards[example.name]
        for example in examples
        if example.name in cards and _is_of(cards[example.name], example)
    }


def _is_of(card: GalleryCard, example: Example) -> bool:
    return all(card.sources.get(path.name) == content_hash(path) for path in (example.reference, example.generated))


def show_result(card: GalleryCard, folder: Path = GALLERY_FOLDER) -> ShownPictures:
    """The pictures of a card, copied to where the page may show them from, unless they are there already."""
    # Named after the content, so that pictures of an earlier gallery are never taken for these.
    folder_shown = Path(get_upload_folder()) / "examples" / card.pictures[f"{card.name}/{AFTER}"][:16]
    if not all((folder_shown / name).is_file() for name in (BEFORE, AFTER, SMALL, REFERENCE)):
        _copy(folder / card.name, folder_shown)
    return ShownPictures(
        whole=(folder_shown / BEFORE, folder_shown / AFTER),
        full=None,
        reference=folder_shown / REFERENCE,
        thumbnail=folder_shown / SMALL,
        report=card.report,
    )


def _copy(source: Path, target: Path) -> None:
    """Copy each file whole or not at all, since another visitor may be looking at it."""
    fresh = target.with_name(f"{target.name}-{uuid4().hex}")
    fresh.mkdir(parents=True)
    for name in (BEFORE, AFTER, SMALL, REFERENCE):
        shutil.copyfile(source / name, fresh / name)
    target.mkdir(exist_ok=True)
    for path in fresh.iterdir():
        path.replace(target / path.name)
    fresh.rmdir()
