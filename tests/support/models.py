"""Fixtures that the tests of models share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tests.support.fake_hub import FakeHub, running_hub
from tests.support.tiny_klein import save_tiny_klein
from tests.support.tiny_models import save_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete tiny FLUX.1-Kontext of random weights; not to be written to."""
    return save_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete tiny FLUX.2 [klein], distilled, of random weights; not to be written to."""
    return save_tiny_klein(tmp_path_factory.mktemp("tiny") / "klein")


@pytest.fixture(scope="session")
def tiny_klein_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the base model, which is not distilled."""
    return save_tiny_klein(tmp_path_factory.mktemp("tiny") / "klein-base", distilled=False)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on several threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """The Hub that huggingface-hub talks to in this test, with an empty cache."""
    with running_hub() as running:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        yield running
