"""A small dataset of the examples' products: each a pair of its reference and its ground truth, and a triplet."""

from __future__ import annotations

import json
from pathlib import Path

from refgc.dataset.manifest import (
    PAIRS,
    TRIPLETS,
    Generation,
    Pair,
    Source,
    Triplet,
    ViewChange,
    append_row,
)
from refgc.dataset.store import store_image
from refgc.imaging.image import open_image
from tests.support.dataset_pairs import EXAMPLES, stored_view

PRODUCTS = ("camera", "cushion", "mug", "oats_box", "paperback", "record_sleeve", "sauce_bottle", "shoe_box", "tea_tin")
SOURCE = Source(kind="render", name="RefGC-SR2 examples", licence="CC0-1.0")


def make_dataset(root: Path, products: tuple[str, ...] = PRODUCTS, *, side: int = 256, triplets: bool = True) -> Path:
    """A dataset's folder.

    Args:
        root: made if missing.
        products: of the examples.
        side: of the pictures in pixels; 1024 is the examples' own.
        triplets: whether there are any beside the pairs.
    """
    root.mkdir(parents=True, exist_ok=True)
    for product in products:
        folder = EXAMPLES / product
        hrri, hrgt = (stored_view(root, product, name, side) for name in ("hrri", "hrgt"))
        pair = Pair(
            id=f"{product}-pair",
            object_id=product,
            object_name=json.loads((folder / "meta.json").read_text())["object_name"],
            category="other",
            source=SOURCE,
            hrri=hrri,
            hrgt=hrgt,
            change=ViewChange(matches=100, overlap=0.8, degrees=15, shift=0.02),
        )
        append_row(root / PAIRS, pair)
        if triplets:
            lrgi = store_image(root, open_image(folder / "lrgi.png", name="lrgi"))
            made = Generation(generator="simulator", simulated=True, task="simulated", seed=0)
            append_row(root / TRIPLETS, Triplet(id=f"{product}-triplet", pair=pair.id, lrgi=lrgi, made=made))
    return root
