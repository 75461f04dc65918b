"""A small dataset of drawn pictures, as the stages would write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refgc.dataset.corrections import CORRECTIONS, Correction, ViewName, object_share
from refgc.dataset.manifest import (
    PAIRS,
    TRIPLETS,
    VERDICTS,
    Category,
    Generation,
    ObjectView,
    Pair,
    Source,
    Split,
    StoredFile,
    Triplet,
    Verdict,
    ViewChange,
    append_row,
)
from refgc.dataset.store import store_image, store_mask
from refgc.imaging.image import Image, Mask

SIDE, SMALL = 64, 16


def drawn(seed: int, side: int = SIDE) -> Image:
    """A picture like no other."""
    return Image(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def disc(side: int = SIDE) -> Mask:
    rows, columns = np.mgrid[:side, :side] - side / 2
    return Mask((np.hypot(rows, columns) < side / 3).astype(np.float32))


def view_of(root: Path, picture: StoredFile, frame: str = "photo.jpg") -> ObjectView:
    mask = store_mask(root, disc(picture.width))
    crop = (0, 0, picture.width, picture.height)
    return ObjectView(picture=picture, mask=mask, mask_maker="source", frame=frame, crop=crop, object_share=0.35)


def add_pair(
    root: Path,
    name: str,
    object_id: str,
    *,
    seeds: tuple[int, int],
    category: Category = "food",
    licence: str | None = "CC BY 4.0",
    split: Split | None = None,
) -> Pair:
    """A pair of two drawn pictures; the same seed draws the same picture."""
    hrri, hrgt = (view_of(root, store_image(root, drawn(seed))) for seed in seeds)
    pair = Pair(
        id=name,
        object_id=object_id,
        object_name=f"{object_id} cup",
        category=category,
        source=Source(kind="photos", name="drawings", licence=licence),
        hrri=hrri,
        hrgt=hrgt,
        change=ViewChange(matches=40, overlap=0.8, shift=0.1),
        split=split,
    )
    append_row(root / PAIRS, pair)
    return pair


def add_triplet(root: Path, name: str, pair: str, *, seed: int, simulated: bool = True) -> Triplet:
    made = Generation(
        generator="simulator" if simulated else "DipRefGC",
        simulated=simulated,
        task="simulated" if simulated else "diptych",
        seed=seed,
    )
    triplet = Triplet(id=name, pair=pair, lrgi=store_image(root, drawn(seed, SMALL)), made=made)
    append_row(root / TRIPLETS, triplet)
    return triplet


def add_verdict(root: Path, row: str, rater: str, accepted: bool) -> None:
    verdict = Verdict(row=row, rater=rater, accepted=accepted, time="2026-01-01T00:00:00Z", seconds=1.5)
    append_row(root / VERDICTS, verdict)


def decide(root: Path, row: str, accepted: bool) -> None:
    """What as many people say as a row needs."""
    for rater in ("ann", "bob"):
        add_verdict(root, row, rater, accepted)


def mend_mask(root: Path, row: str, view: ViewName, width: int, side: int = SIDE) -> Correction:
    """A person's mask: all that lies left of `width` pixels."""
    mask = Mask(np.tile((np.arange(side) < width).astype(np.float32), (side, 1)))
    correction = Correction(
        row=row, view=view, mask=store_mask(root, mask), object_share=object_share(mask), rater="ann",
        time="2026-01-01T00:00:00Z",
    )  # fmt: skip
    append_row(root / CORRECTIONS, correction)
    return correction


def make_dataset(root: Path, objects: int = 4, pairs_each: int = 2) -> Path:
    """Objects "o0", "o1", ... with pairs "p0.0", ... and triplets "t0.0", ...; nothing is reviewed or split."""
    for which in range(objects):
        for number in range(pairs_each):
            seed = 1000 * which + 10 * number
            add_pair(root, f"p{which}.{number}", f"o{which}", seeds=(seed, seed + 1))
            add_triplet(root, f"t{which}.{number}", f"p{which}.{number}", seed=seed + 2)
    return root
