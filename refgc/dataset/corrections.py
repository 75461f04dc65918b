"""Mended masks: what a person drew anew, beside the manifest, whose rows never change.

`corrections.jsonl` has a `Correction` a line. Pairs are read by `read_pairs`, or put through `corrected`, so that the
latest correction of each mask counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from refgc.dataset.manifest import PAIRS, Id, ObjectView, Pair, Row, Share, StoredFile, read_rows
from refgc.errors import InputError
from refgc.imaging.image import MARKED, Mask

CORRECTIONS = "corrections.jsonl"

ViewName: TypeAlias = Literal["hrri", "hrgt"]
# Correction by row and view.
Corrections: TypeAlias = Mapping[tuple[str, ViewName], "Correction"]


class Correction(Row):
    """A mask that takes the place of a pair's.

    Attributes:
        row: id of the pair.
        view: whose mask it is.
        mask: grey PNG of the size of the view's picture, 255 where the object is.
        object_share: pixels of the object over pixels of the picture.
        rater: who mended it.
        time: when, in UTC as ISO 8601.
    """

    row: Id
    view: ViewName
    mask: StoredFile
    object_share: Share
    rater: str
    time: str


def read_corrections(
    root: Path, on_fault: Callable[[InputError], None] | None = None
) -> dict[tuple[str, ViewName], Correction]:
    """The latest correction of each mask.

    Args:
        root: the dataset's folder.
        on_fault: told of each line that is no correction, which is then left out; None raises.

    Raises:
        InputError: the file of corrections cannot be read.
    """
    return {(one.row, one.view): one for one in read_rows(root / CORRECTIONS, Correction, on_fault)}


def corrected(pair: Pair, corrections: Corrections) -> Pair:
    """A pair with its mended masks, whose maker is "person"; the same pair where none was mended."""
    views: tuple[tuple[ViewName, ObjectView], ...] = (("hrri", pair.hrri), ("hrgt", pair.hrgt))
    changed: dict[str, ObjectView] = {}
    for name, view in views:
        found = corrections.get((pair.id, name))
        if found is not None:
            fields = {"mask": found.mask, "mask_maker": "person", "object_share": found.object_share}
            changed[name] = view.model_copy(update=fields)
    return pair.model_copy(update=changed) if changed else pair


def read_pairs(root: Path) -> Iterator[Pair]:
    """The pairs of a dataset with their mended masks; see `corrected`.

    Raises:
        InputError: the manifest or the file of corrections cannot be read.
    """
    corrections = read_corrections(root)
    return (corrected(pair, corrections) for pair in read_rows(root / PAIRS, Pair))


def object_share(mask: Mask) -> float:
    """Pixels of the object over pixels of the picture."""
    return float(np.mean(mask.values >= MARKED))
