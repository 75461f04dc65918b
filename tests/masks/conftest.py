"""What the tests of segmentation share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refgc.masks import weights


@pytest.fixture(autouse=True)
def no_weights_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not decide what they find."""
    for name in (weights.VARIABLE, "REFGC_DEVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sam2(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SAM 2, tiny and of random weights; not to be written to."""
    pytest.importorskip("transformers")
    from tests.support.tiny_sam import save_sam2

    return save_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="session")
def sam3(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SAM 3, tiny and of random weights; not to be written to."""
    pytest.importorskip("transformers")
    from tests.support.tiny_sam import save_sam3

    return save_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="session")
def detector(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SAM 3's detector alone, tiny and of random weights; not to be written to."""
    pytest.importorskip("transformers")
    from tests.support.tiny_sam import save_detector

    return save_detector(tmp_path_factory.mktemp("detector"))
