"""The real app in a process of its own, a browser to look at it, and pictures to give it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import PIL.Image
import pillow_heif
import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, expect

from tests.support.synthetic import TABLE, make_synthetic_pair

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_CHROMIUM = Path("/usr/bin/chromium")
START_SECONDS = 90
# As patient as everything else in Playwright: a cold or busy machine is no failure.
expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    own = {"executable_path": str(SYSTEM_CHROMIUM)} if SYSTEM_CHROMIUM.exists() else {}
    return {**browser_type_launch_args, "args": [*quiet, "--disable-sync"], **own}


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the running app notes, a line for each thing."""
    return tmp_path_factory.mktemp("app") / "log.txt"


@pytest.fixture(scope="session")
def server(server_log: Path) -> Iterator[str]:
    """Address of the running app."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = server_log.parent
    environment = {
        **os.environ,
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
    }
    address = f"http://127.0.0.1:{port}"
    with server_log.open("w+") as log:
        command = [sys.executable, str(ROOT / "app.py")]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_up(address, process, server_log)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_up(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"The app did not start:\n{log.read_text()}")


@dataclass
class Watch:
    """What went wrong in the page, noted as it happens; of the sites that a test serves itself, no page is outside."""

    address: str
    own_sites: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def on_page_error(self, error: Exception) -> None:
        self.complaints.append(f"uncaught: {error}")

    def on_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, *self.own_sites, "data:", "blob:")):
            self.complaints.append(f"outside host: {request.url}")


@pytest.fixture
def watch(page: Page, server: str) -> Iterator[Watch]:
    """Fails the test at its end if the page complained or asked an outside host for anything."""
    watch = Watch(server)
    page.on("console", watch.on_console)
    page.on("pageerror", watch.on_page_error)
    page.on("request", watch.on_request)
    yield watch
    assert watch.complaints == []


@pytest.fixture
def opened(page: Page, server: str, watch: Watch) -> Page:
    """The page, ready for input."""
    # What counts is that the parts are there: the connection to the server stays open, and its first page is slow.
    page.goto(server, wait_until="domcontentloaded")
    page.locator("#refine").wait_for()
    return page


@dataclass(frozen=True)
class Pair:
    """Paths of a drawn pair: the reference is 512 x 384 pixels, the generated picture 128 x 96."""

    reference: Path
    generated: Path


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One object from two views, both wider than high, so that a picture lying on its side is noticed."""
    folder = tmp_path_factory.mktemp("pair")
    square = make_synthetic_pair(reference_side=384, generated_side=128)
    wide = cv2.copyMakeBorder(square.reference, 0, 0, 64, 64, cv2.BORDER_CONSTANT, value=TABLE)
    paths = Pair(folder / "reference.png", folder / "generated.png")
    PIL.Image.fromarray(wide).save(paths.reference)
    PIL.Image.fromarray(square.generated[16:112]).save(paths.generated)
    return paths


@pytest.fixture(scope="session")
def phone_pair(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The same pair as phones give it: the reference as HEIC, the generated picture as a JPEG lying on its side."""
    folder = tmp_path_factory.mktemp("phone")
    paths = Pair(folder / "reference.heic", folder / "generated.jpg")
    with PIL.Image.open(pair.reference) as reference:
        pillow_heif.from_pillow(reference).save(paths.reference, quality=95)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    with PIL.Image.open(pair.generated) as generated:
        generated.rotate(90, expand=True).save(paths.generated, quality=97, exif=exif)
    return paths
