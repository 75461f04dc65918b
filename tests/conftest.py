"""What all tests share: a synthetic pair whose truth is known, and the photographs beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as PILImage

from tests.support.synthetic import SyntheticPair, make_synthetic_pair

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def synthetic_pair() -> SyntheticPair:
    """A small pair that the weight-free engine can place."""
    return make_synthetic_pair()


@pytest.fixture
def pair_files(synthetic_pair: SyntheticPair, tmp_path: Path) -> tuple[Path, Path]:
    """The reference and the generated picture of `synthetic_pair` as PNG files."""
    reference, generated = tmp_path / "reference.png", tmp_path / "generated.png"
    PILImage.fromarray(synthetic_pair.reference).save(reference)
    PILImage.fromarray(synthetic_pair.generated).save(generated)
    return reference, generated


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The photographs that lie beside the project on some machines, and are no part of it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the shared photographs are not on this machine ({folder})")
    return folder
