"""The examples' results as they are committed with the gallery, to be shown before anything has run."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

import PIL.Image
from gradio.utils import get_upload_folder

from refgc.demo.crop import object_window
from refgc.demo.display import CLOSE_UPS, ShownPictures, write_close_up
from refgc.demo.examples import Example
from refgc.demo.gallery_manifest import GALLERY_FOLDER, GalleryCard, content_hash, read_manifest

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
