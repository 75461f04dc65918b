"""What a visitor writes is text, wherever the page shows it again."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.refine_page import EXAMPLES, frame_of, shows

RUNS = "<img src=x onerror=alert(1)><script>alert(2)</script>"
# A name of a file has no slash; and what is written into an attribute would have to end it first.
NAME = "\"'><img src=x onerror=alert(3)><svg onload=alert(4)>"
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" onload="alert(5)"><script>alert(6)</script></svg>'
)
EXAMPLE_MILLISECONDS = 120_000


@pytest.fixture
def page(page: Page) -> Page:
    """Notes every script of a visitor that runs."""
    page.add_init_script("window.ran = []; window.alert = number => window.ran.push(number);")
    return page


def nothing_ran(page: Page) -> None:
    page.wait_for_timeout(500)
    assert page.evaluate("window.ran") == []
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("[onerror*=alert], [onload*=alert]").count() == 0


def give_named(page: Page, drop_zone: str, name: str, content: bytes, kind: str = "image/png") -> None:
    file: Any = {"name": name, "mimeType": kind, "buffer": content}
    page.locator(f"#{drop_zone} input[type=file]").set_input_files(file)


def test_names_of_files_are_shown_as_text(opened: Page, pair) -> None:
    shows(opened, EXAMPLES[0])
    for drop_zone, path in (("reference", pair.reference), ("generated", pair.generated)):
        give_named(opened, drop_zone, f"{NAME}.png", Path(path).read_bytes())
        expect(frame_of(opened, drop_zone).locator("img")).to_be_visible()
    opened.locator("#refine").click()
    expect(opened.locator("#status .done")).to_contain_text("Done", timeout=EXAMPLE_MILLISECONDS)
    expect(opened.locator("#caption")).to_contain_text("alert")
    nothing_ran(opened)
    for closed in ("#code", "#json"):
        opened.locator(closed).get_by_role("button").first.click()
    expect(opened.locator("#python textarea")).to_be_visible()
    nothing_ran(opened)


@pytest.mark.parametrize("drop_zone", ["reference", "preview-reference"])
def test_errors_repeat_what_was_given_as_text(drop_zone: str, opened: Page) -> None:
    if drop_zone.startswith("preview"):
        opened.get_by_role("tab", name="DipRefGC preview").click()
    give_named(opened, drop_zone, f"{NAME}.png", b"no picture")
    expect(opened.locator(f"#{drop_zone}-note")).to_contain_text("is not a picture that can be read")
    expect(opened.locator(f"#{drop_zone}-note")).to_contain_text("onerror=alert(3)")
    nothing_ran(opened)


def test_a_drawing_with_a_script_is_refused_and_never_shown(opened: Page, server: str) -> None:
    give_named(opened, "reference", "drawing.svg", SVG, "image/svg+xml")
    expect(opened.locator("#reference-note")).to_contain_text("is not a picture that can be read")
    nothing_ran(opened)
    answer = httpx.post(f"{server}/gradio_api/upload", files={"files": ("drawing.svg", SVG)}, timeout=60)
    other = opened.context.new_page()
    with other.expect_download() as download:
        other.evaluate("address => { location.href = address; }", f"{server}/gradio_api/file={answer.json()[0]}")
    assert download.value.suggested_filename == "drawing.svg"
    other.close()


@pytest.mark.slow
def test_words_for_the_preview_are_shown_as_text(opened: Page) -> None:
    opened.get_by_role("tab", name="DipRefGC preview").click()
    opened.locator("#preview-options").get_by_role("button").first.click()
    opened.get_by_label("Caption").fill(RUNS)
    opened.locator("#preview-examples").get_by_role("button").first.click()
    done = opened.locator("#preview-status .done, #preview-status .fine").filter(has_text="Done")
    expect(done).to_be_visible(timeout=EXAMPLE_MILLISECONDS)
    opened.locator("#preview-files").get_by_role("button").first.click()
    expect(opened.locator("#preview-files")).to_contain_text("onerror=alert(1)")
    nothing_ran(opened)


def test_the_page_works_in_a_frame_of_another_host(page: Page, server: str, tmp_path: Path) -> None:
    frame = f'<iframe src="{server}" style="width: 100%; height: 900px"></iframe>'
    (tmp_path / "index.html").write_text(f"<!doctype html><title>A paper</title>{frame}")
    other = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=other.serve_forever, daemon=True).start()
    try:
        page.goto(f"http://localhost:{other.server_port}/", wait_until="domcontentloaded")
        expect(page.frame_locator("iframe").locator("#refine")).to_be_visible()
    finally:
        other.shutdown()
        other.server_close()
