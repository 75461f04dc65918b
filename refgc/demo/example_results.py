"""The examples' results as they are committed with the gallery, to be shown before anything has run."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
from gradio.utils import get_upload_folder

from refgc.demo.crop import object_window
from refgc.demo.display import ShownPictures, write_close_up
from refgc.demo.examples import Example
from refgc.demo.gallery_manifest import GALLERY_FOLDER, GalleryCard, content_hash, read_manifest
from refgc.files import write_whole

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
    """The pictures of a card, put where the page may show them from, once and whenever they have been deleted since."""
    place = Path(get_upload_folder()) / "examples" / card.name
    place.mkdir(parents=True, exist_ok=True)
    before, after, small = (place / name for name in (BEFORE, AFTER, SMALL))
    for path in (before, after, small):
        write_whole(path, (folder / card.name / path.name).read_bytes())
    return ShownPictures(
        whole=(before, after), close_up=_close_up(before, after, card, place), thumbnail=small, report=card.report
    )


def _close_up(before: Path, after: Path, card: GalleryCard, place: Path) -> tuple[Path, Path] | None:
    if card.report.object_box is None:
        return None
    with PIL.Image.open(before) as enlarged, PIL.Image.open(after) as refined:
        window = object_window(card.report.object_box, refined.size)
        return write_close_up(enlarged, refined, window, place)
