"""A run of DipRefGC's training in miniature: drawn pairs, a tiny base and two tiny ControlNets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refgc.training import generator_cache
from refgc.training.cache_files import PromptWork
from refgc.training.settings import GeneratorRun
from tests.support.training_run import make_files


def generator_content(folder: Path, parts: Path, dataset: Path, **tables: Mapping[str, Any]) -> dict[str, Any]:
    """What the file of a run holds; `tables` replace single settings.

    Args:
        folder: for the run and its cache.
        parts: with "base", "inpainting" and "canny".
        dataset: of pairs.
        tables: see above.
    """
    content: dict[str, Any] = {
        "kind": "generator",
        "folder": str(folder / "run"),
        "data": {
            "dataset": str(dataset),
            "cache": str(folder / "cache"),
            "unreviewed": True,
            "panel_size": [64, 48],
        },
        "model": {
            "base": str(parts / "base"),
            "inpainting_controlnet": str(parts / "inpainting"),
            "canny_controlnet": str(parts / "canny"),
            "rank": 2,
            "lora_alpha": 2,
        },
        "run": {"steps": 6, "batch_size": 2},
        "learning": {"learning_rate": 0.01},
        "optimisation": {"warmup": 2},
        "checkpoints": {"every": 2},
        "validation": {"every": 4, "pictures": 1, "steps": 2},
        "workers": {"workers": 1},
    }
    for name, table in tables.items():
        content[name] = {**content.get(name, {}), **table}
    return content


def generator_run(folder: Path, parts: Path, dataset: Path, **tables: Mapping[str, Any]) -> GeneratorRun:
    """The same as settings."""
    return GeneratorRun.model_validate(generator_content(folder, parts, dataset, **tables))


def fill_here(settings: GeneratorRun) -> None:
    """Does in this process what `fill_cache` leaves to workers, which take long to start."""
    base = Path(settings.model.base)
    make_files(
        generator_cache.plan_of(settings, base),
        PromptWork(base, generator_cache.FLUX),
        generator_cache.DiptychWork(base, settings.data),
    )
