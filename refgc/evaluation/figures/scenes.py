"""The scenes that figures show: the items of a comparison, chosen by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from refgc.errors import InputError, quoted
from refgc.evaluation.items import Collection, Item, Pictures, open_pictures, read_items
from refgc.imaging.arrays import Floats, enlarge, size_of

# Ids that an error sentence lists.
LISTED = 5


def read_scenes(source: Path, *, unreviewed: bool = False) -> Collection:
    """All scenes of a dataset, of a frozen set, or of a list or folder of pairs.

    Args:
        source: as for `refgc.evaluation.items.read_items`; of a dataset all splits are taken.
        unreviewed: take rows of a dataset as well that not enough people have looked at.

    Raises:
        InputError: there are no scenes, or the list as a whole cannot be read.
    """
    return read_items(source, split="all", unreviewed=unreviewed)


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
