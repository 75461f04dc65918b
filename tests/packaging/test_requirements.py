"""The exact versions in constraints.txt and the requirements files agree with each other and with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CPU, GPU, ALL = "requirements.txt", "requirements-gpu.txt", "constraints.txt"
# What Hugging Face installs into every Space with this SDK, besides the file of requirements.
OF_A_SPACE = ("gradio[oauth,mcp]", "uvicorn", "websockets", "spaces")
# torch pins its own, and which ones depends on the platform; the Hub keeps the package spaces up to date itself.
LEFT_TO_OTHERS = re.compile(r"nvidia-|cuda-|triton$|spaces$")
OPENCV = "opencv-python-headless"


def lines_of(file: str) -> list[str]:
    """Its requirements, without comments."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def pins_of(file: str) -> dict[str, str]:
    """Exact versions by name."""
    pins: dict[str, str] = {}
    for requirement in map(Requirement, lines_of(file)):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert canonicalize_name(requirement.name) not in pins, requirement
        pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def needed_by(lines: Iterable[str]) -> Iterator[Requirement]:
    """All that pip would install for these requirements here, by the metadata of what is installed."""
    open_ends, known = [Requirement(line) for line in lines], set()
    while open_ends:
        requirement = open_ends.pop()
        yield requirement
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in known:
                continue
            known.add((requirement.name, extra))
            open_ends += [
                line for line in asked_by(requirement.name) if not line.marker or line.marker.evaluate({"extra": extra})
            ]


@cache
def asked_by(name: str) -> list[Requirement]:
    """What an installed package asks for, with all of its extras; nothing where it is not installed."""
    try:
        return [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return []


def names_needed_by(lines: Iterable[str]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in needed_by(lines)}


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def wanted(*extras: str) -> list[str]:
    """What the project asks for itself: its dependencies, and those of some extras."""
    table = project()
    return [*table["dependencies"], *(line for extra in extras for line in table["optional-dependencies"][extra])]


EXTRAS = tuple(project()["optional-dependencies"])
# The extras that each file is for.
INSTALLED = [(CPU, ("demo",)), (GPU, ("demo", "diffusion", "quantization")), (ALL, EXTRAS)]


@pytest.mark.parametrize("file", [CPU, GPU])
def test_a_spaces_requirements_are_among_the_constraints(file: str) -> None:
    assert set(lines_of(file)) <= set(lines_of(ALL))


def test_a_gpu_space_gets_all_that_a_cpu_space_gets() -> None:
    assert set(lines_of(CPU)) < set(lines_of(GPU))


@pytest.mark.parametrize(("file", "extras"), INSTALLED)
def test_everything_that_is_installed_has_an_exact_version(file: str, extras: tuple[str, ...]) -> None:
    needed = names_needed_by([*wanted(*extras), *OF_A_SPACE])
    assert {name for name in needed - set(pins_of(file)) if not LEFT_TO_OTHERS.match(name)} == set()


@pytest.mark.parametrize(("file", "extras"), INSTALLED)
def test_the_exact_versions_are_within_what_everything_asks_for(file: str, extras: tuple[str, ...]) -> None:
    """Those of the project, and those of all that it pulls in, down to the last."""
    pins = pins_of(file)
    refused = [
        str(requirement)
        for requirement in needed_by([*wanted(*extras), *OF_A_SPACE])
        if (version := pins.get(canonicalize_name(requirement.name)))
        and not requirement.specifier.contains(version, prereleases=True)
    ]
    assert refused == []


def test_a_cpu_space_installs_nothing_of_the_diffusion_engine() -> None:
    only_for_diffusion = names_needed_by(wanted("diffusion", "quantization")) - names_needed_by(
        [*wanted("demo"), *OF_A_SPACE]
    )
    assert {"torch", "diffusers", "transformers"} <= only_for_diffusion
    assert only_for_diffusion & set(pins_of(CPU)) == set()


def test_the_core_installs_neither_the_page_nor_torch() -> None:
    assert names_needed_by(wanted()) & {"gradio", "starlette", "torch", "huggingface-hub"} == set()


@pytest.mark.parametrize("extra", EXTRAS)
def test_no_extra_installs_a_second_opencv(extra: str) -> None:
    """Two packages that hold the module cv2 write over each other's files.

    Of all that is installed only pillow-heif names another OpenCV, in its extra "dev", which nothing here asks for.
    """
    assert {name for name in names_needed_by(wanted(extra)) if name.startswith("opencv")} == {OPENCV}


def test_only_one_installed_package_holds_opencv() -> None:
    assert set(packages_distributions()["cv2"]) == {OPENCV}


def test_the_extra_that_would_bring_a_second_opencv_is_seen() -> None:
    """The walk through the metadata does find an OpenCV that an extra of a dependency asks for."""
    asking = [
        f"{one.name}[{extra}]"
        for one in distributions()
        for extra in one.metadata.get_all("Provides-Extra") or []
        if any("opencv-python" in line and f'"{extra}"' in line for line in one.requires or [])
    ]
    for requirement in asking:
        assert any(name.startswith("opencv") for name in names_needed_by([requirement]))
    assert asking == ["pillow_heif[dev]"]
