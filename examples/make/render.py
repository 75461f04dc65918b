"""Renders examples: `python -m examples.make.render [NAME ...]`, run in the root of the repository.

Without a name it renders all of them.
"""

from __future__ import annotations

import argparse
import json
import os
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from examples.make.develop import develop
from examples.make.renderer import render, render_mask
from examples.make.scene import Example, View

FOLDER = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (FOLDER / "make" / "products").glob("[a-z]*.py"))
JPEG_QUALITY = 91


def load(name: str) -> Example:
    """The example that the module `examples.make.products.<name>` describes."""
    made = import_module(f"examples.make.products.{name}").example()
    assert isinstance(made, Example)
    return made


def write_view(view: View, folder: Path, name: str, seed: int, size: int, samples: int) -> None:
    """Writes `<name>.jpg` and `<name>_mask.png`."""
    picture = develop(render(view, size, samples, seed), view.key, seed)
    mask = np.rint(render_mask(view, size, 32, seed) * 255).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / f"{name}.jpg", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    Image.fromarray(mask).save(folder / f"{name}_mask.png", optimize=True)


def write_meta(example: Example, folder: Path) -> None:
    """Writes `meta.json`, what the page says about the example."""
    meta = {
        "title": example.title,
        "description": example.description,
        "object_name": example.object_name,
        "simulated": True,
        "licence": "CC0-1.0",
        "made_by": "RefGC-SR2: rendered with Mitsuba 3.9.1, generated picture simulated (examples/make)",
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Renders what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="examples to render")
    parser.add_argument("--size", type=int, default=1024, help="pixels along each side")
    parser.add_argument("--samples", type=int, default=32, help="paths a pixel")
    parser.add_argument("--view", choices=["hrri", "hrgt"], help="only this view")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the example folders")
    arguments = parser.parse_args()
    os.nice(10)
    for name in arguments.names or NAMES:
        example = load(name)
        for view_name, view in (("hrri", example.reference), ("hrgt", example.truth)):
            if arguments.view in (None, view_name):
                write_view(view, arguments.into / name, view_name, example.seed, arguments.size, arguments.samples)
        write_meta(example, arguments.into / name)


if __name__ == "__main__":
    main()
