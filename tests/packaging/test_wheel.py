"""The package as it is installed: what its wheel holds, and the page served from it far from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from refgc.page.examples import ORDER
from refgc.page.gallery.manifest import read_manifest

# Two processes besides this one, and twelve seconds.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "refgc"
# What lies in a working copy and is no part of the source.
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs", "benchmarks")
# Serves the page and prints what a visitor gets.
VISIT = """
import json, sys
from socket import socket

import httpx

import refgc
from refgc.page.app import build_demo, launch_settings
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.gallery.manifest import GALLERY_FOLDER, read_manifest
from refgc.page.service.runs import Service

with socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
service = Service.from_environment()
demo = build_demo(service)
_, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=port, **launch_settings(service))
pictures = [file for example in find_examples(EXAMPLES_FOLDER) for file in example.reference.parent.glob("*.*g")]
pictures += [GALLERY_FOLDER / name for card in read_manifest().cards for name in card.pictures]
with httpx.Client(base_url=address, timeout=60) as client:
    page = client.get("/").text
    statuses = {str(file): client.get(f"/gradio_api/file={file}").status_code for file in pictures}
demo.close()
names = [example.name for example in find_examples(EXAMPLES_FOLDER)]
print(json.dumps({"package": refgc.__file__, "page": page, "examples": names, "statuses": statuses}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the source, with nothing fetched."""
    source, target = tmp_path_factory.mktemp("source") / "project", tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(target)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_the_whole_package(unpacked: Path) -> None:
    """Every file of the package but its notes for developers, byte for byte."""
    wanted = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".md")]
    different = [
        path.relative_to(ROOT).as_posix()
        for path in wanted
        if not (copy := unpacked / path.relative_to(ROOT)).is_file() or copy.read_bytes() != path.read_bytes()
    ]
    assert different == []


def test_the_wheel_holds_the_pictures_of_the_examples(unpacked: Path) -> None:
    folder = unpacked / "refgc" / "page" / "assets" / "examples"
    wanted = {path.relative_to(ROOT / "examples"): path for path in (ROOT / "examples").glob("*/*.*")}
    wanted = {name: path for name, path in wanted.items() if path.suffix in (".jpg", ".png", ".json")}
    assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == set(wanted)
    assert all((folder / name).read_bytes() == path.read_bytes() for name, path in wanted.items())


def test_the_wheel_holds_nothing_else(unpacked: Path) -> None:
    assert sorted(path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")) == ["refgc"]


def test_the_page_is_served_where_the_repository_is_not(unpacked: Path, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("REFGC_", "GRADIO_", "PYTHON"))},
        "PYTHONPATH": str(unpacked),
        "GRADIO_TEMP_DIR": str(tmp_path / "uploads"),
    }
    folder = tmp_path / "empty"
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-P", "-c", VISIT], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert Path(seen["package"]).is_relative_to(unpacked)
    assert seen["examples"] == list(ORDER)
    cards = read_manifest().cards
    assert all(f"{card.name}/before-small.webp" in seen["page"] for card in cards)
    assert len(seen["statuses"]) == 5 * len(ORDER) + sum(len(card.pictures) for card in cards)
    assert set(seen["statuses"].values()) == {200}
    assert all(Path(file).is_relative_to(unpacked) for file in seen["statuses"])
    assert list(folder.iterdir()) == []
