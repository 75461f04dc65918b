"""A run of DipRefGC's training in miniature: drawn pairs, a tiny base and two tiny ControlNets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from refgc.training import generator_cache
from refgc.training.cache_files import PromptWork
from refgc.training.generator import Generator
from refgc.training.loop import Training, prepare
from refgc.training.processes import Processes
from refgc.training.settings import GeneratorRun
from tests.support.tiny_diptych import save_controlnet, save_flux_dev, tiny_canny, tiny_inpainting
from tests.support.training_run import make_files, with_tables


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
        "learning": {"learning_rate": 0.01},
    }
    return with_tables(content, tables)


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


@pytest.fixture(scope="session")
def generator_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with "base", "inpainting" and "canny", tiny and of random weights; not to be written to."""
    folder = tmp_path_factory.mktemp("generator_parts")
    save_flux_dev(folder / "base")
    save_controlnet(tiny_inpainting(), folder / "inpainting")
    save_controlnet(tiny_canny(), folder / "canny")
    return folder


@pytest.fixture(scope="session")
def generator_cached(tmp_path_factory: pytest.TempPathFactory, generator_parts: Path, triplets: Path) -> GeneratorRun:
    """The settings of a run whose cache is filled; not to be written to."""
    settings = generator_run(tmp_path_factory.mktemp("generator_cached"), generator_parts, triplets)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REFGC_DEVICE", "cpu")
        fill_here(settings)
    return settings


def changed(settings: GeneratorRun, folder: Path, **tables: Mapping[str, Any]) -> GeneratorRun:
    """The same run elsewhere, with other settings."""
    content = settings.model_dump()
    for name, table in tables.items():
        content[name] |= table
    return GeneratorRun.model_validate({**content, "folder": str(folder)})


def opened(settings: GeneratorRun) -> tuple[Generator, Training]:
    """The run in memory, ready for its next step."""
    task = Generator(settings, Path(settings.model.base), generator_cache.open_cache(settings), torch.device("cpu"))
    return task, prepare(task, settings, Processes(Path(settings.folder), settings.tracking))


def lines_of(settings: GeneratorRun) -> list[dict[str, Any]]:
    """What metrics.jsonl holds."""
    return [json.loads(line) for line in (Path(settings.folder) / "metrics.jsonl").read_text().splitlines()]
