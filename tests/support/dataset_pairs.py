"""A small dataset of our own: pairs of the rendered examples, whose masks are exact."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from refgc.dataset.corrections import object_share
from refgc.dataset.manifest import PAIRS, ObjectView, Pair, Source, ViewChange, write_rows
from refgc.dataset.store import store_image, store_mask
from refgc.imaging.arrays import resized, shrink
from refgc.imaging.image import Image, Mask, open_image, open_mask

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRODUCTS = ("cushion", "mug", "oats_box", "paperback")


@cache
def example_view(product: str, view: str, side: int) -> tuple[Image, Mask]:
    """A picture of an example, "hrri" or "hrgt", and its mask, at `side` pixels a side."""
    image = open_image(EXAMPLES / product / f"{view}.jpg", name=view)
    mask = open_mask(EXAMPLES / product / f"{view}_mask.png", size=image.size, name=view)
    small = shrink(mask.values, (side, side)).clip(0, 1)
    return Image(resized(image.pixels, (side, side))), Mask(small)


def stored_view(root: Path, product: str, view: str, side: int) -> ObjectView:
    """The same, kept in the dataset at `root`."""
    image, mask = example_view(product, view, side)
    return ObjectView(
        picture=store_image(root, image),
        mask=store_mask(root, mask),
        mask_maker="source",
        frame=f"{product}/{view}.jpg",
        crop=(0, 0, side, side),
        object_share=object_share(mask),
    )


def make_pairs(
    root: Path, products: Sequence[str] = PRODUCTS, *, side: int = 256, filtered_by: str | None = None
) -> list[Pair]:
    """Writes a pair for each product into the dataset at `root`."""
    pairs = []
    for product in products:
        views = {kind: stored_view(root, product, kind, side) for kind in ("hrri", "hrgt")}
        pairs.append(
            Pair(
                id=f"{product}-1",
                object_id=product,
                object_name=product.replace("_", " "),
                category="other",
                source=Source(kind="render", name="examples", licence="CC0-1.0"),
                change=ViewChange(matches=100, overlap=0.8, shift=0.1),
                filtered_by=filtered_by,
                **views,
            )
        )
    write_rows(root / PAIRS, pairs)
    return pairs
