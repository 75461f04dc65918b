"""What visitors see while others are served, and when the server is killed while it works for them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Event, Semaphore
from types import SimpleNamespace
from uuid import uuid4

import PIL.Image
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from benchmarks.page_client import PageServer
from refgc.page.service.runs import Service
from refgc.settings import Settings
from tests.browser.refine_page import RESULT_MILLISECONDS, frame_of, give, place, refine, start, upload
from tests.support.running import Served, served
from tests.support.synthetic import SyntheticPair, make_synthetic_pair

PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def large() -> SyntheticPair:
    """Keeps the engine busy for some seconds; runs of it are ended, and never waited for."""
    return make_synthetic_pair(reference_side=1200, generated_side=512)


@pytest.fixture
def pairs(large: SyntheticPair, tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Makes pairs with pixels that were never given before."""
    small = make_synthetic_pair(reference_side=512, generated_side=128)

    def make(*, busy: bool = False) -> SimpleNamespace:
        drawn, name = large if busy else small, uuid4().hex
        pair = SimpleNamespace(reference=tmp_path / f"{name}-reference.png", generated=tmp_path / f"{name}.png")
        picture = drawn.reference.copy()
        picture[0, 0] = list(uuid4().bytes[:3])
        PIL.Image.fromarray(picture).save(pair.reference)
        PIL.Image.fromarray(drawn.generated).save(pair.generated)
        return pair

    return make


@pytest.fixture
def visitors(browser: Browser) -> Iterator[Callable[[PageServer | Served], Page]]:
    """Opens the page for one more visitor."""
    contexts: list[BrowserContext] = []

    def come(server: PageServer | Served) -> Page:
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        open_page(page, server)
        return page

    yield come
    for context in contexts:
        context.close()


def open_page(page: Page, server: PageServer | Served) -> None:
    page.goto(server.address, wait_until="domcontentloaded", timeout=60_000)
    page.locator("#refine").wait_for(timeout=60_000)


def until(fulfilled: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not fulfilled():
        assert time.monotonic() < ends_at
        time.sleep(0.1)


@pytest.mark.slow
def test_who_waits_reads_the_place_and_who_finds_no_place_is_told(
    tmp_path: Path, visitors: Callable[[PageServer], Page], pairs: Callable[..., SimpleNamespace]
) -> None:
    with PageServer(tmp_path / "server", REFGC_MAX_WAITING=1) as server:
        first, second, third = (visitors(server) for _ in range(3))
        for page in (first, second, third):
            give(page, pairs(busy=page is first))
        start(first)
        until(lambda: server.health().json()["running"] == 1)
        start(second)
        expect(second.locator("#status .working")).to_contain_text("Waiting for your turn, you are next")
        third.locator("#refine").click()
        problem = third.locator("#status .problem")
        expect(problem).to_have_text("The server is busy and its queue is full; please try again in a minute.")
        expect(third.locator("#refine")).to_be_enabled()
        expect(third.locator("#cancel")).to_be_hidden()
        # The rest of the page goes on for everyone.
        third.get_by_role("tab", name="About").click()
        expect(third.get_by_role("tabpanel").filter(visible=True)).to_contain_text("RefGC")

        first.locator("#cancel").click()
        expect(second.locator("#status .done")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
        third.get_by_role("tab", name="Refine", exact=True).click()
        start(third)
        expect(third.locator("#status .done")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    outcomes = [entry["outcome"] for entry in server.notes() if "outcome" in entry]
    assert sorted(outcomes) == ["busy", "cancelled", "done", "done"]


@pytest.mark.slow
def test_page_of_a_killed_server_says_so_and_comes_back_with_it(
    tmp_path: Path, visitors: Callable[[PageServer], Page], pairs: Callable[..., SimpleNamespace]
) -> None:
    pair = pairs()
    with PageServer(tmp_path / "server") as server:
        page = visitors(server)
        give(page, pairs(busy=True))
        start(page)
        until(lambda: server.health().json()["running"] == 1)
        server.kill()
        expect(page.get_by_text("Connection to the server was lost. Attempting reconnection...")).to_be_visible()
    page.evaluate("window.isTheOldPage = true")
    with PageServer(tmp_path / "server", port=server.port) as again:
        page.wait_for_function("!window.isTheOldPage", timeout=60_000)
        page.locator("#refine").wait_for(timeout=60_000)
        expect(page.locator("#status .problem")).to_have_count(0)
        give(page, pair)
        start(page)
        expect(page.locator("#status .done")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
        result = page.locator("#comparison .viewer-after")
        assert result.evaluate("async picture => { await picture.decode(); return picture.naturalWidth; }") == 512
        page.locator("#refine").click()
        expect(page.locator("#status .done")).to_contain_text("This very result had been made before")
    assert [entry["outcome"] for entry in again.notes() if "outcome" in entry] == ["done", "done"]


class MarkingHeld(Service):
    """A service in which the next two markings go on until `released` is set."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.held = Semaphore(0)
        self.begun = 0
        self.released = Event()

    def marking(self, visit: str) -> AbstractContextManager[Event]:  # noqa: ARG002 (whose marks they are)
        if self.held.acquire(blocking=False):
            self.begun += 1
            self.released.wait(PATIENCE_SECONDS)
        return nullcontext(Event())


@pytest.mark.slow
def test_refine_waits_for_nobody_s_marks_and_the_last_mark_counts(
    tmp_path: Path, visitors: Callable[[Served], Page], pairs: Callable[..., SimpleNamespace]
) -> None:
    pair = pairs()
    service = MarkingHeld()
    with served(tmp_path / "uploads", lambda: service) as page_server:
        page, *others = (visitors(page_server) for _ in range(3))
        give(page, pair)
        for _ in others:
            service.held.release()
        for other in others:
            upload(other, "reference", pair.reference)
        until(lambda: service.begun == 2)

        # The mark waits behind those of the others; the button does not.
        page.mouse.click(*place(frame_of(page, "reference"), 0.5, 0.5))
        expect(page.locator("#reference-pad .pad-pending")).to_have_count(1)
        refine(page, pair.generated.name)
        expect(page.locator("#reference-note")).not_to_contain_text("is marked")
        page.locator("#code button").first.click()
        expect(page.locator("#command textarea")).to_have_value(re.compile("--reference-mask reference-mask.png"))
        service.released.set()
        expect(page.locator("#reference-note")).to_contain_text("is marked")
        expect(page.locator("#reference-pad .pad-pending")).to_have_count(0)
