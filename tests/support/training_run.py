"""A training run in miniature: drawn triplets, a tiny base, and settings that a CPU does in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from refgc.dataset.manifest import Split
from refgc.model.loading import pipeline_class
from refgc.training import cache
from refgc.training.cache_files import Job, Plan, PromptWork, is_whole, jobs_of
from refgc.training.settings import RefinerRun
from tests.support.tiny_dataset import add_pair, add_triplet


def training_dataset(root: Path, training: int = 5, validation: int = 1) -> Path:
    """A dataset of so many triplets in the two splits; nothing of it is reviewed."""
    for number in range(training + validation):
        split: Split = "train" if number < training else "validation"
        seed = 10 * number
        add_pair(root, f"p{number}", f"o{number}", seeds=(seed, seed + 1), split=split)
        add_triplet(root, f"t{number}", f"p{number}", seed=seed + 2)
    return root


def fill_here(settings: RefinerRun) -> None:
    """Does in this process what `fill_cache` leaves to workers, which take long to start."""
    base = Path(settings.model.base)
    backbone = pipeline_class(base).backbone
    make_files(
        cache.plan_of(settings, base), PromptWork(base, backbone), cache.SampleWork(base, backbone, settings.data)
    )


def make_files(plan: Plan[Any], write_prompt: Callable[[Job], None], write_sample: Callable[[Job], None]) -> None:
    """Makes the files of a plan that are not there."""
    prompts, samples = jobs_of(plan)
    for jobs, work in ((prompts, write_prompt), (samples, write_sample)):
        for job in jobs:
            if not is_whole(job.file):
                work(job)


def run_content(folder: Path, base: Path, dataset: Path, **tables: Mapping[str, Any]) -> dict[str, Any]:
    """What the file of a run holds; `tables` replace single settings."""
    content: dict[str, Any] = {
        "kind": "refiner",
        "folder": str(folder / "run"),
        "data": {
            "dataset": str(dataset),
            "cache": str(folder / "cache"),
            "unreviewed": True,
            "working_size": [64, 64],
        },
        "model": {"base": str(base), "rank": 2, "lora_alpha": 2.0},
        "learning": {"learning_rate": 0.01, "gate_learning_rate": 0.01},
    }
    return with_tables(content, tables)


def with_tables(content: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a short run of any kind, with single settings replaced by those of `tables`."""
    whole: dict[str, Any] = {
        **content,
        "run": {"steps": 6, "batch_size": 2},
        "optimisation": {"warmup": 2},
        "checkpoints": {"every": 2},
        "validation": {"every": 4, "pictures": 1, "steps": 2},
        "workers": {"workers": 1},
    }
    return whole | {name: {**whole.get(name, {}), **table} for name, table in tables.items()}


def tiny_run(folder: Path, base: Path, dataset: Path, **tables: Mapping[str, Any]) -> RefinerRun:
    """The same as settings."""
    return RefinerRun.model_validate(run_content(folder, base, dataset, **tables))


def write_run(file: Path, content: Mapping[str, Any]) -> Path:
    """Writes the file of a run."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in content.items() if not isinstance(value, dict)]
    for name, table in content.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
