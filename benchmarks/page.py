"""Measures the page: how long it takes to start, its first view in Chromium, and a card of the gallery seen closely.

usage: python -m benchmarks.page [--times N] [--json FILE]

Every visit is a browser's first: nothing is cached. The app runs on this machine, over loopback, started anew. Times
are seconds of wall clock, bytes are what went over the wire, compressed, headers included.

- cold start: from the command until the server answers the first request; its work is the processor time of that
- first view: from asking for the address until the button "Refine" and every picture in the window are drawn
- before interaction: bytes until nothing has come for two seconds
- work before the first view: processor time of the page's main thread, which a busy machine does not lengthen
- layout shift: what moved by itself before the first interaction, as the web's metric CLS counts it
- gallery: from the click on its tab until the three pictures of its first card are drawn
- large result: from the arrival of a result of 4096 x 4096 pixels until it is first drawn; it is made once, cached then
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
START_SECONDS = 120
QUIET_SECONDS = 2.0
WINDOW = ViewportSize(width=1440, height=900)
PHONE = ViewportSize(width=360, height=740)
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
# The worst burst of shifts: each within a second of the one before, and all of them within five seconds.
WATCH_SHIFTS = """(() => {
    let burst = 0, first = 0, last = 0;
    window.layoutShift = 0;
    new PerformanceObserver(list => {
        for (const { value, startTime, hadRecentInput } of list.getEntries()) {
            if (hadRecentInput) continue;
            if (startTime - last > 1000 || startTime - first > 5000) [burst, first] = [0, startTime];
            [burst, last] = [burst + value, startTime];
            window.layoutShift = Math.max(window.layoutShift, burst);
        }
    }).observe({ type: "layout-shift", buffered: true });
})()"""
# Of the result, not of a stage on the way: only a result has pictures with every pixel beside the light ones.
WATCH_RESULT = """(() => {
    let arrived = 0;
    const look = () => {
        const picture = document.querySelector("refgc-viewer[data-size='4096 4096'] .viewer-after[data-full]");
        if (!picture) return requestAnimationFrame(look);
        arrived ||= performance.now();
        if (!picture.naturalWidth) return requestAnimationFrame(look);
        picture.decode().then(() => requestAnimationFrame(() => requestAnimationFrame(() => {
            window.firstSight = (performance.now() - arrived) / 1000;
        })));
    };
    look();
})()"""
# Of 1024 x 1024 pixels, so that the result has 4096 x 4096.
LARGE = ROOT / "examples" / "paperback" / "hrgt.jpg"
RESULT_MILLISECONDS = 180_000
CARD, CLOSELY = "#gallery-cards .card:first-child", "dialog"


@dataclass(frozen=True)
class RunningApp:
    """The app in a process of its own.

    Attributes:
        address: where it answers.
        figures: seconds of its start, by name.
    """

    address: str
    figures: dict[str, float]


@contextmanager
def running_app() -> Iterator[RunningApp]:
    """Starts the app, and ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        settings = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": folder}
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_up(address, process)
            seconds, work = time.monotonic() - begun, psutil.Process(process.pid).cpu_times()
            yield RunningApp(
                address, {"cold start seconds": seconds, "cold start work seconds": work.user + work.system}
            )
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
            time.sleep(0.05)
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
    page.add_init_script(WATCH_SHIFTS)
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
            figures["layout shift"] = page.evaluate("window.layoutShift")
    figures["bytes before interaction"] = figures.pop("first view bytes")
    context.close()
    return figures


def first_sight(browser: Browser, address: str) -> float:
    """Seconds from the arrival of a large result until the browser has drawn it for the first time."""
    context = browser.new_context(viewport=WINDOW)
    page = context.new_page()
    page.goto(address, wait_until="commit")
    page.locator("#refine").wait_for()
    page.locator("#comparison refgc-viewer").wait_for()
    for name, file in (("reference", LARGE.with_name("hrri.jpg")), ("generated", LARGE)):
        page.locator(f"#{name} input[type=file]").set_input_files(file)
        page.locator(f"#{name}-pad img").wait_for()
    page.evaluate(WATCH_RESULT)
    page.locator("#refine").click()
    page.wait_for_function("window.firstSight", timeout=RESULT_MILLISECONDS)
    seconds = page.evaluate("window.firstSight")
    context.close()
    return float(seconds)


def shift_on_a_phone(browser: Browser, address: str) -> float:
    """Layout shift of a first visit on a phone."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.add_init_script(WATCH_SHIFTS)
    wire = Wire(page)
    wire.taken(lambda: page.goto(address, wait_until="commit"))
    shift = page.evaluate("window.layoutShift")
    context.close()
    return float(shift)


def summary(figures: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """For each name the first figure, and the median and the greatest of those after it."""
    first, *later = figures
    return {
        name: {
            "first": round(value, 3),
            "median": round(statistics.median(one[name] for one in later), 3),
            "most": round(max(one[name] for one in later), 3),
        }
        for name, value in first.items()
    }


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="visits, and starts of the app, after the first one")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    chromium = str(CHROMIUM) if CHROMIUM.exists() else None
    load = round(os.getloadavg()[0], 1)
    starts, visits = [], []
    for _ in range(options.times):
        with running_app() as app:
            starts.append(app.figures)
    with running_app() as app, sync_playwright() as playwright:
        starts.append(app.figures)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for _ in range(1 + options.times):
            on_a_phone = {"layout shift on a phone": shift_on_a_phone(browser, app.address)}
            sight = {"large result first sight seconds": first_sight(browser, app.address)}
            visits.append({**visit(browser, app.address), **on_a_phone, **sight})
        browser.close()

    table = Table(title=f"the page: one start and one visit, then {options.times} more; load before: {load}")
    for heading in ("what", "first", "median", "most"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    rows = {**summary(starts), **summary(visits)}
    for name, row in rows.items():
        whole = "bytes" in name or "files" in name
        table.add_row(name, *(f"{value:,.0f}" if whole else f"{value:,.3f}" for value in row.values()))
    Console(width=100).print(table)
    if options.json:
        options.json.write_text(
            json.dumps({"times": options.times, "load average": load, "figures": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
