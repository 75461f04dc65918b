"""The image, as far as it can be checked without building it."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard

from refgc.page.service import server as health

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with the rest of its line."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


@pytest.fixture(scope="module")
def variables(steps: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [pair.partition("=") for name, rest in steps if name == "ENV" for pair in shlex.split(rest)]
    return {name: value for name, _, value in pairs}


def all_of(steps: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for instruction, rest in steps if instruction == name]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path into the image; the last line that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").strip()
        parents = [path, *(str(parent) for parent in Path(path).parents)]
        if pattern and not line.startswith("#") and any(fnmatch(parent, pattern) for parent in parents):
            sent = line.startswith("!")
    return sent


def test_what_it_copies_is_there_and_sent(steps: list[tuple[str, str]]) -> None:
    for rest in all_of(steps, "COPY"):
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert is_sent(source), source
    # The page reads its examples beside the package.
    copied = {source for rest in all_of(steps, "COPY") for source in rest.split()[:-1]}
    assert {"refgc", "examples", "app.py"} <= copied


@pytest.mark.parametrize("path", [".git/config", ".venv/bin/python", "tests/conftest.py", "examples/make/scene.py"])
def test_what_the_page_does_not_need_is_not_sent(path: str) -> None:
    assert not is_sent(path)


def test_versions_agree(steps: list[tuple[str, str]]) -> None:
    card: dict[str, Any] = SpaceCard((ROOT / "README.md").read_text(encoding="utf-8")).data.to_dict()
    assert all_of(steps, "FROM") == [f"python:{card['python_version']}-slim"]
    (install,) = [rest for rest in all_of(steps, "RUN") if "pip install" in rest]
    assert "--constraint constraints.txt" in install


def test_extras_are_the_projects(steps: list[tuple[str, str]]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (default,) = (rest.removeprefix("EXTRAS=") for rest in all_of(steps, "ARG"))
    assert default == "demo"
    (told,) = re.findall(r"--build-arg EXTRAS=(\S+) \.$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {*told.split(","), default} <= set(extras)


def test_it_serves_everyone_and_not_as_root(steps: list[tuple[str, str]], variables: dict[str, str]) -> None:
    assert variables["GRADIO_SERVER_NAME"] == "0.0.0.0"
    assert all_of(steps, "EXPOSE") == [variables["GRADIO_SERVER_PORT"]]
    order = [name for name, _ in steps]
    assert order.index("USER") < order.index("CMD")
    assert all_of(steps, "USER")[-1] not in ("root", "0")
    assert json.loads(all_of(steps, "CMD")[-1]) == ["python", "app.py"]
    assert variables["GRADIO_TEMP_DIR"].startswith("/tmp/")


def test_its_health_is_asked_where_the_page_tells(steps: list[tuple[str, str]]) -> None:
    (check,) = all_of(steps, "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert health.HEALTH_PATH in command[-1]
    compile(command[-1], "health check", "exec")


def test_volumes_that_the_docs_name_can_be_written(steps: list[tuple[str, str]]) -> None:
    """A volume takes the owner of the folder that it replaces; where there is none, it belongs to root."""
    user = steps.index(("USER", all_of(steps, "USER")[-1]))
    made = {
        folder for name, rest in steps[user:] if name == "RUN" for folder in rest.split() if rest.startswith("mkdir")
    }
    volumes = re.findall(r"-v [\w-]+:(\S+)", (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8"))
    assert volumes
    assert set(volumes) <= made
