"""Measures the page in Chromium: its first view, and looking at a card of the gallery closely.

usage: python -m benchmarks.page [--visits N] [--json FILE]

Every visit is a browser's first: nothing is cached. The app runs on this machine, over loopback, started anew. Times
are seconds of wall clock, bytes are what went over the wire, compressed, headers included.

- first view: from asking for the address until the button "Refine" and every picture in the window are drawn
- before interaction: bytes until nothing has come for two seconds
- work before the first view: processor time of the page's main thread, which a busy machine does not lengthen
- gallery: from the click on its tab until the three pictures of its first card are drawn
- card: from the click on "Look closely" until its three large pictures are drawn
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
START_SECONDS = 120
QUIET_SECONDS = 2.0
WINDOW = ViewportSize(width=1440, height=900)
# Drawn are pictures that are decoded, and two frames later those that were decoded in between.
DRAWN = """async within => {
    const inWindow = picture => {
        const box = picture.getBoundingClientRect();
        return box.width > 0 && box.top < innerHeight && box.bottom > 0;
    };
    const pictures = [...document.querySelectorAll(`${within} img`)].filter(inWindow);
    await Promise.all(pictures.map(picture => picture.decode().catch(() => {})));
    await new Promise(frame => requestAnimationFrame(() => requestAnimationFrame(frame)));
    return pictures.length;
}"""
CARD, CLOSELY = "#gallery-cards .card:first-child", "dialog"


@contextmanager
def running_app() -> Iterator[str]:
    """Address of the app in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        settings = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": folder}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], env={**os.environ, **settings}, stdout=subprocess.DEVNULL
        )
        try:
            _wait_until_up(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_up(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("The app did not start; run app.py to see why.")


class Wire:
    """Counts what comes over the wire."""

    def __init__(self, page: Page) -> None:
        self.bytes = 0
        self.files = 0
        self._last = time.monotonic()
        self._page = page
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", self._count)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._session = session

    def _count(self, event: dict[str, float]) -> None:
        self.bytes += round(event["encodedDataLength"])
        self.files += 1
        self._last = time.monotonic()

    def work(self) -> float:
        """Processor seconds that the page's main thread has taken."""
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    def taken(self, act: Callable[[], object]) -> tuple[float, int]:
        """Seconds of what is done, and the bytes until nothing more comes."""
        before = self.bytes
        begun = time.monotonic()
        act()
        seconds = time.monotonic() - begun
        self._last = time.monotonic()
        while time.monotonic() - self._last < QUIET_SECONDS:
            self._page.wait_for_timeout(100)
        return seconds, self.bytes - before


def visit(browser: Browser, address: str) -> dict[str, float]:
    """The figures of one visit."""
    context = browser.new_context(viewport=WINDOW)
    page = context.new_page()
    wire = Wire(page)
    figures: dict[str, float] = {}

    def arrive() -> None:
        page.goto(address, wait_until="commit")
        page.locator("#refine").wait_for()
        page.evaluate(DRAWN, "")
        figures["work before the first view seconds"] = wire.work()

    def open_gallery() -> None:
        page.get_by_role("tab", name="Gallery", exact=True).click()
        page.locator(CARD).wait_for()
        page.evaluate(DRAWN, CARD)

    def look_closely() -> None:
        page.locator(f"{CARD} .card-open").click()
        page.locator(CLOSELY).wait_for()
        page.evaluate(DRAWN, CLOSELY)

    for name, act in (("first view", arrive), ("gallery", open_gallery), ("card", look_closely)):
        figures[f"{name} seconds"], figures[f"{name} bytes"] = wire.taken(act)
        if act is arrive:
            figures["files before interaction"] = wire.files
            figures["first paint seconds"] = page.evaluate(
                "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
            )
    figures["bytes before interaction"] = figures.pop("first view bytes")
    context.close()
    return figures


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=5, help="after the first one since the app's start")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    chromium = str(CHROMIUM) if CHROMIUM.exists() else None
    load = round(os.getloadavg()[0], 1)
    with running_app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        first, *visits = (visit(browser, address) for _ in range(1 + options.visits))
        browser.close()

    table = Table(title=f"the page, {options.visits} visits after the first since its start; load before: {load}")
    for heading in ("what", "first visit", "median", "most"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    rows = {
        name: {
            "first visit": round(value, 3),
            "median": round(statistics.median(figures[name] for figures in visits), 3),
            "most": round(max(figures[name] for figures in visits), 3),
        }
        for name, value in first.items()
    }
    for name, row in rows.items():
        table.add_row(name, *(f"{value:,.2f}" if "seconds" in name else f"{value:,.0f}" for value in row.values()))
    Console(width=100).print(table)
    if options.json:
        options.json.write_text(
            json.dumps({"visits": options.visits, "load average": load, "figures": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
