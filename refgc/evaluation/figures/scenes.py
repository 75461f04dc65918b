"""The scenes that figures show: the items of a comparison, and in a folder of pictures their truth as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from refgc.errors import InputError, quoted
from refgc.evaluation.items import Collection, Item, PictureFile, Pictures, open_pictures, read_items
from refgc.imaging.arrays import Floats, enlarge, size_of
from refgc.imaging.decode import PICTURE_SUFFIXES

# How an HRRI's file in a folder of pictures is called, at the end of its name; the HRGT's is called hrgt.
REFERENCES = ("hrri", "reference")
TRUTH, TRUTH_MASK = "hrgt", "hrgt_mask"
# Ids that an error sentence lists.
LISTED = 5


def read_scenes(source: Path, *, unreviewed: bool = False) -> Collection:
    """All scenes of a dataset, of a frozen set, or of a list or folder of pairs.

    Args:
        source: as for `refgc.evaluation.items.read_items`; of a dataset all splits are taken. In a folder of pairs
            `hrgt` and `hrgt_mask` beside an HRRI are the truth, which a comparison would not look at.
        unreviewed: take rows of a dataset as well that not enough people have looked at.

    Raises:
        InputError: there are no scenes, or the list as a whole cannot be read.
    """
    collection = read_items(source, split="all", unreviewed=unreviewed)
    if not source.is_dir() or any(item.hrgt is not None for item in collection.items):
        return collection
    return replace(collection, items=tuple(_with_truth(item) for item in collection.items))


def choose_scenes(scenes: Collection, ids: Iterable[str]) -> list[Item]:
    """Those with the given ids, in the order of the ids.

    Raises:
        InputError: an id is not there, or cannot be used.
    """
    known = {item.id: item for item in scenes.items}
    reasons = {one.id: one.reason for one in scenes.bad}
    chosen = []
    for one in ids:
        if one in known:
            chosen.append(known[one])
        elif one in reasons:
            raise InputError(f"The scene {quoted(one)} cannot be used: {reasons[one]}")
        else:
            some = ", ".join(map(quoted, list(known)[:LISTED]))
            more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
            raise InputError(f"There is no scene {quoted(one)}; there are {some}{more}.")
    return chosen


def load_scene(item: Item) -> Pictures:
    """The pictures of a scene, checked against their hashes.

    Raises:
        InputError: one is missing, damaged or cannot be used.
    """
    try:
        return open_pictures(item)
    except InputError as error:
        raise InputError(f"The scene {quoted(item.id)} cannot be used: {error}") from error


def object_of(pictures: Pictures) -> Floats | None:
    """The object at the size of the results, (height, width) in [0, 1]; None where nobody drew its mask.

    The mask is the HRGT's, else the LRGI's, which shows the same frame.
    """
    mask = pictures.hrgt_mask or pictures.lrgi_mask
    if mask is None:
        return None
    return mask.values if size_of(mask.values) == pictures.size else enlarge(mask.values, pictures.size)


def _with_truth(item: Item) -> Item:
    """An item of a folder of pairs, with the HRGT that lies beside its HRRI."""
    stem, folder = item.hrri.path.stem, item.hrri.path.parent
    called = next((name for name in REFERENCES if stem.lower().endswith(name)), None)
    if called is None:
        return item
    prefix = stem[: len(stem) - len(called)]
    truth, mask = _beside(folder, prefix + TRUTH), _beside(folder, prefix + TRUTH_MASK)
    return item if truth is None else replace(item, hrgt=truth, hrgt_mask=mask)


def _beside(folder: Path, stem: str) -> PictureFile | None:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.stem.lower() == stem.lower() and path.suffix.lower() in PICTURE_SUFFIXES
    )
    if len(found) > 1:
        raise InputError(f"{quoted(str(folder))} has {len(found)} files called {stem}; leave one.")
    if not found:
        return None
    try:
        return PictureFile(found[0], hashlib.sha256(found[0].read_bytes()).hexdigest())
    except OSError as error:
        raise InputError(f"{quoted(str(found[0]))} cannot be read ({error.strerror}); check permissions.") from error
