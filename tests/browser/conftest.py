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
import numpy as np
import PIL.Image
import pillow_heif
import pytest
from playwright.sync_api import ConsoleMessage, Page, Request

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_CHROMIUM = Path("/usr/bin/chromium")
START_SECONDS = 90


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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the running app."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    environment = {
        **os.environ,
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
    }
    address = f"http://127.0.0.1:{port}"
    with (folder / "log.txt").open("w+") as log:
        command = [sys.executable, str(ROOT / "app.py")]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_up(address, process, folder / "log.txt")
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
    """What went wrong in the page, noted as it happens."""

    address: str
    complaints: list[str] = field(default_factory=list)

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def on_page_error(self, error: Exception) -> None:
        self.complaints.append(f"uncaught: {error}")

    def on_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
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
    page.set_default_timeout(30_000)
    page.goto(server)
    page.locator("#refine").wait_for()
    return page


@dataclass(frozen=True)
class Pair:
    """Paths of a drawn pair; the generated picture is 192 x 144 pixels."""

    reference: Path
    generated: Path


def draw_label() -> np.ndarray:
    """A label with lettering and fine texture: what correspondence can hold on to; (480, 640, 3), RGB."""
    random = np.random.default_rng(7)
    speckle = random.integers(0, 40, (480, 640, 3), dtype=np.uint8)
    label = np.full((480, 640, 3), (214, 178, 92), np.uint8) - speckle
    for _ in range(60):
        centre = (int(random.integers(0, 640)), int(random.integers(0, 480)))
        colour = tuple(int(value) for value in random.integers(0, 255, 3))
        cv2.circle(label, centre, int(random.integers(6, 26)), colour, -1, cv2.LINE_AA)
    cv2.rectangle(label, (60, 150), (580, 330), (250, 246, 230), -1)
    cv2.rectangle(label, (60, 150), (580, 330), (40, 60, 50), 6)
    cv2.putText(label, "GREEN TEA", (90, 235), cv2.FONT_HERSHEY_DUPLEX, 2.4, (20, 70, 50), 7, cv2.LINE_AA)
    cv2.putText(label, "first flush 2024", (100, 300), cv2.FONT_HERSHEY_DUPLEX, 1.5, (120, 30, 30), 3, cv2.LINE_AA)
    return label


def draw_scene(label: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    """The label at `corners` in an evenly lit room; (576, 768, 3), RGB."""
    height, width = label.shape[:2]
    ramp = np.linspace(150, 215, 576, dtype=np.float32)[:, None, None]
    scene = np.repeat(np.repeat(ramp, 768, axis=1), 3, axis=2).astype(np.uint8)
    source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    warp = cv2.getPerspectiveTransform(source, np.array(corners, np.float32))
    warped = cv2.warpPerspective(label, warp, (768, 576), flags=cv2.INTER_AREA)
    mask = cv2.warpPerspective(np.ones((height, width), np.uint8), warp, (768, 576))[..., None]
    return np.where(mask > 0, warped, scene)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One object from two views; the second view is small and has lost its detail, as a generated picture has."""
    folder = tmp_path_factory.mktemp("pair")
    label = draw_label()
    reference = draw_scene(label, [(110, 70), (660, 100), (650, 510), (100, 480)])
    scene = draw_scene(label, [(190, 130), (570, 110), (590, 420), (200, 440)])
    generated = cv2.GaussianBlur(cv2.resize(scene, (192, 144), interpolation=cv2.INTER_AREA), (0, 0), 0.5)
    paths = Pair(folder / "reference.png", folder / "generated.png")
    PIL.Image.fromarray(reference).save(paths.reference)
    PIL.Image.fromarray(generated).save(paths.generated)
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
