"""What the page is told of each row, and which files it may have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

from refgc.dataset.corrections import Correction, ViewName, corrected, read_pairs
from refgc.dataset.manifest import TRIPLETS, ObjectView, Pair, StoredFile, Triplet, read_rows
from refgc.dataset.store import check_file, load_mask
from refgc.errors import InputError, quoted
from refgc.review.masks import Outline, outline_of

Kinds: TypeAlias = Literal["all", "pairs", "triplets"]
PictureName: TypeAlias = Literal["hrri", "hrgt", "lrgi"]


class ReviewedRows:
    """The rows of a dataset as they are shown, with the masks as they are mended.

    All methods may be called from any thread.
    """

    def __init__(self, root: Path, kinds: Kinds = "all") -> None:
        """Reads the manifest.

        Args:
            root: the dataset's folder.
            kinds: which rows are shown. Pairs come before triplets.

        Raises:
            InputError: the manifest cannot be read, or has no such rows.
        """
        self.root = root
        self._pairs = {pair.id: pair for pair in read_pairs(root)}
        self._triplets = {triplet.id: triplet for triplet in read_rows(root / TRIPLETS, Triplet)}
        _check_ids(self._pairs, self._triplets)
        self.made_of: dict[str, str | None] = {}
        if kinds != "triplets":
            self.made_of |= dict.fromkeys(self._pairs)
        if kinds != "pairs":
            self.made_of |= {triplet.id: triplet.pair for triplet in self._triplets.values()}
        if not self.made_of:
            wanted = "pairs or triplets" if kinds == "all" else kinds
            raise InputError(
                f"The dataset {quoted(str(root))} has no {wanted} to review; make some by `refgc dataset pairs`."
            )

    @property
    def identity(self) -> str:
        """Tells one dataset from another of the same machine, for what the browser keeps."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:12]

    def pair_of(self, row: str) -> Pair:
        """The pair that a row is, or was made of.

        Raises:
            InputError: there is no such row.
        """
        triplet = self._triplets.get(row)
        pair = self._pairs.get(row if triplet is None else triplet.pair)
        if pair is None or row not in self.made_of:
            raise InputError(f"There is no row {quoted(row)} to review in this dataset.")
        return pair

    def card(self, row: str) -> dict[str, Any]:
        """What the page shows of a row, as JSON.

        Raises:
            InputError: there is no such row.
        """
        pair = self.pair_of(row)
        triplet = self._triplets.get(row)
        facts = [
            f"{pair.change.overlap:.0%} of the HRGT’s object is in the HRRI",
            *([] if pair.change.degrees is None else [f"{pair.change.degrees:.0f}° apart"]),
            *([] if triplet is None else [f"LRGI by {triplet.made.generator}"]),
        ]
        return {
            "id": row,
            "kind": "pair" if triplet is None else "triplet",
            "object": pair.object_name,
            "category": pair.category.replace("_", ", "),
            "caption": pair.caption,
            "facts": facts,
            "pictures": [
                _picture(row, "hrri", pair.hrri.picture, pair.hrri),
                _picture(row, "hrgt", pair.hrgt.picture, pair.hrgt),
                # The LRGI shows the HRGT's scene, so that the object is where it is there.
                *([] if triplet is None else [_picture(row, "lrgi", triplet.lrgi, pair.hrgt)]),
            ],
        }

    def picture(self, row: str, name: PictureName) -> Path:
        """The file of a picture, checked against its hash.

        Raises:
            InputError: there is no such picture, or it is missing or damaged.
        """
        pair, triplet = self.pair_of(row), self._triplets.get(row)
        if name == "lrgi" and triplet is None:
            raise InputError(f"The row {quoted(row)} is a pair and has no LRGI.")
        files = {"hrri": pair.hrri.picture, "hrgt": pair.hrgt.picture}
        file = files[name] if triplet is None or name != "lrgi" else triplet.lrgi
        check_file(self.root, file)
        return self.root / file.path

    def outline(self, row: str, view: ViewName) -> Outline:
        """The outline of a view's object.

        Raises:
            InputError: there is no such row, or its mask is missing, damaged or empty.
        """
        return outline_of(load_mask(self.root, view_of(self.pair_of(row), view).mask))

    def apply(self, correction: Correction) -> None:
        """Shows a mended mask from now on."""
        pair = self._pairs[correction.row]
        self._pairs[correction.row] = corrected(pair, {(correction.row, correction.view): correction})


def view_of(pair: Pair, name: ViewName) -> ObjectView:
    """One of a pair's two views."""
    return pair.hrri if name == "hrri" else pair.hrgt


def _check_ids(pairs: dict[str, Pair], triplets: dict[str, Triplet]) -> None:
    def faults() -> Iterator[str]:
        for triplet in triplets.values():
            if triplet.id in pairs:
                yield f"{quoted(triplet.id)} is the id of a pair and of a triplet"
            if triplet.pair not in pairs:
                yield f"the triplet {quoted(triplet.id)} names the pair {quoted(triplet.pair)}, which is not there"

    fault = next(faults(), None)
    if fault is not None:
        raise InputError(f"The manifest is not sound: {fault}; `refgc dataset check` finds all that is wrong.")


def _picture(row: str, name: PictureName, file: StoredFile, view: ObjectView) -> dict[str, Any]:
    outlined = "hrgt" if name == "lrgi" else name
    return {
        "name": name,
        "width": file.width,
        "height": file.height,
        # With the hash, so that the browser may keep what it has.
        "source": f"review/pictures/{row}/{name}?{file.sha256[:16]}",
        "outline": f"review/outlines/{row}/{outlined}?{view.mask.sha256[:16]}",
        "mask_maker": view.mask_maker,
    }
