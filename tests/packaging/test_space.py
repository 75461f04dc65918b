"""What a Hugging Face Space reads of this project: the README's front matter, and the pinned requirements."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard, SpaceHardware
from packaging.requirements import Requirement

from refgc.hub import FLUX_KONTEXT

ROOT = Path(__file__).resolve().parents[2]
# As the Hub's reference of this block lists them.
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def front_matter() -> dict[str, Any]:
    card = SpaceCard((ROOT / "README.md").read_text(encoding="utf-8"))
    settings: dict[str, Any] = card.data.to_dict()
    return settings


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    """Versions by name, as requirements.txt has them."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    requirements = [Requirement(line) for line in lines if line]
    return {requirement.name: str(requirement.specifier) for requirement in requirements}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def test_versions_are_those_that_are_pinned(
    front_matter: dict[str, Any], pinned: dict[str, str], project: dict[str, Any]
) -> None:
    assert pinned["gradio"] == f"=={front_matter['sdk_version']}"
    # As text: a number would lose the nought of 3.10.
    assert isinstance(front_matter["python_version"], str)
    assert Requirement(f"python{project['requires-python']}").specifier.contains(front_matter["python_version"])


def test_the_front_matter_is_what_a_space_takes(front_matter: dict[str, Any], project: dict[str, Any]) -> None:
    assert front_matter["sdk"] == "gradio"
    assert (ROOT / front_matter["app_file"]).is_file()
    assert front_matter["suggested_hardware"] in [hardware.value for hardware in SpaceHardware]
    assert len(front_matter["short_description"]) <= 60
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= COLOURS
    assert front_matter["license"] == project["license"].lower()
    assert front_matter["models"] == [FLUX_KONTEXT]


def test_it_installs_what_a_cpu_runs(front_matter: dict[str, Any], pinned: dict[str, str]) -> None:
    """The hardware that the front matter suggests and the requirements beside it belong together."""
    assert front_matter["suggested_hardware"] == "cpu-basic"
    assert "torch" not in pinned
