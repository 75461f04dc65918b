"""The package as it is installed: what its wheel holds, and the page served from it far from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from refgc.page.examples import ORDER, find_examples
from refgc.page.gallery.manifest import read_manifest
from tests.support.running import free_port

# Two processes besides this one, and twelve seconds.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "refgc"
# What lies in a working copy and is no part of the source.
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs", "benchmarks")
START_SECONDS = 120


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


@pytest.fixture
def visitor(unpacked: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """A visitor of `refgc page`, which runs in an empty folder from the unpacked wheel; nobody reads its stdout."""
    log, folder, port = tmp_path / "log.txt", tmp_path / "empty", free_port()
    folder.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("REFGC_", "GRADIO_", "PYTHON"))},
        "PYTHONPATH": str(unpacked),
        "PYTHONUNBUFFERED": "1",  # as in the Docker image
        "GRADIO_TEMP_DIR": str(tmp_path / "uploads"),
    }
    command = [sys.executable, "-P", "-m", "refgc", "page", "--port", str(port)]
    reader, writer = os.pipe()
    os.close(reader)
    with log.open("w") as stream, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=writer, stderr=stream)
        os.close(writer)
        try:
            wait_until_up(client, process, log)
            yield client
        finally:
            process.terminate()
            process.wait(30)
    assert list(folder.iterdir()) == []


def wait_until_up(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/healthz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


def test_the_page_is_served_where_the_repository_is_not(visitor: httpx.Client, unpacked: Path) -> None:
    assets = unpacked / "refgc" / "page" / "assets"
    examples, cards = find_examples(assets / "examples"), read_manifest(assets / "gallery").cards
    assert [example.name for example in examples] == list(ORDER)
    shown = visitor.get("/").text
    assert all(example.meta.title in shown for example in examples)
    assert all(f"{card.name}/before-small.webp" in shown for card in cards)
    pictures = [file for example in examples for file in example.reference.parent.glob("*.*g")]
    pictures += [assets / "gallery" / name for card in cards for name in card.pictures]
    answers = {file: visitor.get(f"/gradio_api/file={file}") for file in pictures}
    assert [str(file) for file, answer in answers.items() if answer.content != file.read_bytes()] == []
    assert len(answers) == 5 * len(ORDER) + sum(len(card.pictures) for card in cards)
