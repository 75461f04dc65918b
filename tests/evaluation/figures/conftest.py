"""What these tests share: drawn scenes and a comparison on them, made once and not to be written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compared_scenes import make_comparison, make_scenes
from tests.support.models import one_thread, tiny_base, tiny_klein  # noqa: F401


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "scenes")


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_comparison(tmp_path_factory.mktemp("compared") / "out")
