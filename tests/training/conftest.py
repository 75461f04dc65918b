"""What these tests share: triplets, a tiny base, and their cache, all made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from refgc.training.settings import RefinerRun
from tests.support.models import one_thread, tiny_base, tiny_klein  # noqa: F401
from tests.support.training_run import fill_here, tiny_run, training_dataset


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same figures on every machine."""
    monkeypatch.setenv("REFGC_DEVICE", "cpu")


@pytest.fixture(scope="session")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of five triplets to learn from and one for validation; not to be written to."""
    return training_dataset(tmp_path_factory.mktemp("triplets") / "dataset")


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, triplets: Path) -> RefinerRun:  # noqa: F811
    """The settings of a run whose cache is filled; not to be written to."""
    settings = tiny_run(tmp_path_factory.mktemp("cached"), tiny_base, triplets)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REFGC_DEVICE", "cpu")
        fill_here(settings)
    return settings
