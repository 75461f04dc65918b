"""Renders the example products from many views, in many lights, with things before them.

usage: python -m benchmarks.product_views [--into DIR] [--products NAME ...] [--samples N]

Needs what `examples/make/requirements.txt` lists, and LLVM for Mitsuba (see `examples/README.md`). Each picture is
written as `DIR/<product>/<name>.png` with `<name>_mask.png`, the visible part of the product (0 to 255), and
`<name>.json`, how it was made. What is there already is skipped, so that a run may be
stopped at any time. The same names give the same scenes again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from benchmarks.product_scenes import (
    LIGHT_KINDS,
    LYING_ELEVATION,
    OCCLUDER_KINDS,
    Pose,
    normalised,
    prints_differ,
    scene_view,
    stratum,
    studio_view,
    visible,
    with_prints_of,
)
from benchmarks.split import all_products, read_split
from examples.make.develop import develop
from examples.make.drawing import other_letters
from examples.make.render import load
from examples.make.renderer import render, render_mask
from examples.make.scene import Parts, View

Print = Literal["own", "letters", "other"]
# These products are also seen lying on their backs.
LYING = ("cushion", "paperback", "record_sleeve")
SIZE, LARGE = 512, 1024
SAMPLES, SAMPLES_A_PASS, MASK_SAMPLES = 16, 8, 16
VIEWS = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to render: `index` counts those of its role; `size` in pixels."""

    name: str
    role: Literal["reference", "view"]
    index: int
    print_: Print = "own"
    size: int = SIZE


# In the order in which they are rendered, for all products in turn, so that a stopped run has some of everything.
PICTURES = (
    Picture("view_1", "view", 0),
    Picture("view_2", "view", 1),
    Picture("reference_1", "reference", 0),
    Picture("view_3", "view", 2),
    Picture("letters_reference", "reference", 2, "letters"),
    Picture("view_4", "view", 3),
    Picture("view_5", "view", 4),
    Picture("other_reference", "reference", 3, "other"),
    Picture("view_6", "view", 5),
    Picture("reference_2", "reference", 1),
    Picture("view_7", "view", 6),
    Picture("letters_view", "view", 8, "letters"),
    Picture("view_8", "view", 7, size=LARGE),
)


def default_folder() -> Path:
    """A folder of the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "refgc" / "product_views"


def donor(product: str) -> str:
    """The product whose prints another wears; from the same part of the split, so that the parts share nothing."""
    fit = read_split("fit").products
    names = fit if product in fit else read_split("held out").products
    # A vase without a print has none to give.
    names = tuple(name for name in names if name not in ("vase", product))
    return names[zlib.crc32(product.encode()) % len(names)]


def parts_of(product: str, print_: Print) -> Parts | None:
    """The product as in its studio photo, with the print that is asked for; None where that changes nothing."""
    own = _product(product)
    if print_ == "other":
        return with_prints_of(own, _product(donor(product)))
    if print_ == "letters":
        with other_letters(zlib.crc32(product.encode())):
            lettered = load(product).reference.product
        return lettered if prints_differ(own, lettered) else None
    return own


@cache
def _product(name: str) -> Parts:
    """Drawing the prints takes seconds; each product comes up many times."""
    return load(name).reference.product


def scene_of(product: str, picture: Picture, parts: Parts) -> tuple[View, dict[str, Any]]:
    """The scene and what is written down of it."""
    random = np.random.default_rng([zlib.crc32(product.encode()), zlib.crc32(picture.name.encode())])
    shift = zlib.crc32(product.encode())
    facts: dict[str, Any] = {"product": product, "role": picture.role, "print": picture.print_, "size": picture.size}
    if picture.role == "reference":
        # On alternating sides, apart from the studio photo that the project has already.
        side = 1.0 if (picture.index + shift) % 2 else -1.0
        near = 8.0 if picture.print_ != "own" else 30.0
        pose = Pose(side * float(random.uniform(near / 2, near)), float(random.uniform(6, 20)), 0.5)
        facts |= {"yaw": pose.yaw, "elevation": pose.elevation}
        return studio_view(normalised(parts), pose, random), facts
    index = picture.index
    side = float(random.choice([-1.0, 1.0]))
    yaw = side * stratum(5 * index, VIEWS, shift, 0, 45, random)
    elevation = stratum(3 * index, VIEWS, shift // 8, 5, 50, random)
    share = float(np.exp(stratum(7 * index, VIEWS, shift // 64, np.log(0.08), np.log(0.6), random)))
    upright = product not in LYING or elevation < LYING_ELEVATION
    light = LIGHT_KINDS[(index + shift) % len(LIGHT_KINDS)]
    occluder = OCCLUDER_KINDS[(index // 2 + shift) % len(OCCLUDER_KINDS)] if index % 2 else None
    facts |= {"yaw": yaw, "elevation": elevation, "upright": upright, "light": light, "occluder": occluder}
    return scene_view(normalised(parts, upright), Pose(yaw, elevation, share), light, occluder, random), facts


def write_picture(product: str, picture: Picture, parts: Parts, folder: Path, samples: int) -> None:
    """Renders and writes one picture; the JSON file comes last and says that all is there."""
    started = time.perf_counter()
    view, facts = scene_of(product, picture, parts)
    seed = zlib.crc32(f"{product}/{picture.name}".encode()) % 100_000
    pixels = develop(render(view, picture.size, samples, seed, SAMPLES_A_PASS), view.key, seed)
    mask = np.rint(render_mask(view, picture.size, MASK_SAMPLES, seed) * 255).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{picture.name}.png")
    Image.fromarray(mask).save(folder / f"{picture.name}_mask.png")
    facts |= {"samples": samples, "visible": round(visible(mask), 4), "seconds": time.perf_counter() - started}
    (folder / f"{picture.name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def missing(into: Path, names: tuple[str, ...]) -> Iterator[tuple[str, Picture]]:
    """What is still to be rendered, picture by picture for all products in turn."""
    for picture in PICTURES:
        for product in names:
            if not (into / product / f"{picture.name}.json").is_file():
                yield product, picture


def main() -> None:
    """Renders what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=default_folder(), help="folder that is written to")
    parser.add_argument("--products", nargs="*", choices=all_products(), default=all_products(), metavar="NAME")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="paths a pixel")
    arguments = parser.parse_args()
    os.nice(15)
    for product, picture in missing(arguments.into, tuple(arguments.products)):
        parts = parts_of(product, picture.print_)
        if parts is None:
            continue
        write_picture(product, picture, parts, arguments.into / product, arguments.samples)
        facts = json.loads((arguments.into / product / f"{picture.name}.json").read_text(encoding="utf-8"))
        print(f"{product}/{picture.name}: {facts['seconds']:.0f} s, {facts['visible']:.0%} visible", flush=True)


if __name__ == "__main__":
    main()
