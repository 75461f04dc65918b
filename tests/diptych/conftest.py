"""What the tests of DipRefGC share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.models import hub  # noqa: F401


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with "base", "inpainting" and "canny", tiny and of random weights; not to be written to."""
    import torch

    from tests.support.tiny_diptych import save_controlnet, save_flux_dev, tiny_canny, tiny_inpainting

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny_diptych")
    save_flux_dev(folder / "base")
    save_controlnet(tiny_inpainting(), folder / "inpainting")
    save_controlnet(tiny_canny(), folder / "canny")
    return folder
