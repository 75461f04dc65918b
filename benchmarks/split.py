"""The list of what constants are fitted on and what they are checked on, read from `split.toml`.

It needs the standard library only, because the renderer's environment does not have the package's dependencies.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["fit", "held out"]
FILE = Path(__file__).resolve().parent / "split.toml"


@dataclass(frozen=True, slots=True)
class Split:
    """Names of one part: `products` are folders of `examples/`, `subjects` folders of the DreamBooth dataset."""

    products: tuple[str, ...]
    subjects: tuple[str, ...]


def all_products() -> tuple[str, ...]:
    """The products of both parts, those for fitting first."""
    return read_split("fit").products + read_split("held out").products


def read_split(part: Part, file: Path = FILE) -> Split:
    """The names that belong to `part`.

    Raises:
        ValueError: a name stands in both parts.
    """
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    for kind, table in tables.items():
        if both := sorted(set(table["fit"]) & set(table["held_out"])):
            raise ValueError(f"In {file.name}, [{kind}] names {', '.join(both)} for both parts; keep each in one.")
    key = part.replace(" ", "_")
    return Split(tuple(tables["products"][key]), tuple(tables["dreambooth"][key]))
