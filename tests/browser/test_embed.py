"""The page inside another page, as on a paper's site: in a frame, and as Gradio's own element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watch

PAGE = """<!doctype html>
<html lang="en"><title>A paper</title>
<h1>A paper</h1>
{embedded}
</html>
"""
FRAME = """<iframe src="{address}/?tab=about&amp;__theme=dark" title="RefGC-SR²" width="1200" height="600"></iframe>"""
ELEMENT = """<script type="module" src="{address}/gradio.js"></script>
<gradio-app src="{address}"></gradio-app>"""


@contextmanager
def another_site(html: str) -> Iterator[str]:
    """The address of a page on another origin than the app's."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/"
            body = html.encode() if found else b""
            self.send_response(200 if found else 204)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = Thread(target=site.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{site.server_port}"
    finally:
        site.shutdown()
        site.server_close()
        thread.join()


@pytest.mark.slow
def test_a_frame_of_another_site_shows_the_page_and_follows_its_link(page: Page, server: str, watch: Watch) -> None:
    with another_site(PAGE.format(embedded=FRAME.format(address=server))) as site:
        watch.own_sites.append(site)
        page.goto(site, wait_until="domcontentloaded")
        inside = page.frame_locator("iframe")
        expect(inside.get_by_role("tab", name="About")).to_have_attribute("aria-selected", "true")
        expect(inside.locator("body.dark")).to_be_visible()
        inside.get_by_role("tab", name="Refine").click()
        expect(inside.locator("#result img").first).to_be_visible()


def test_the_element_on_another_site_shows_the_page_and_follows_the_sites_link(
    page: Page, server: str, watch: Watch
) -> None:
    with another_site(PAGE.format(embedded=ELEMENT.format(address=server))) as site:
        watch.own_sites.append(site)
        page.goto(f"{site}/?tab=gallery", wait_until="domcontentloaded")
        expect(page.get_by_role("heading", name="A paper")).to_be_visible()
        expect(page.get_by_role("tab", name="Gallery")).to_have_attribute("aria-selected", "true")
        page.get_by_role("tab", name="Refine").click()
        expect(page.locator("#result img").first).to_be_visible()


def test_no_header_forbids_it(server: str) -> None:
    with urlopen(server) as answer:
        assert "X-Frame-Options" not in answer.headers
        assert "frame-ancestors" not in answer.headers.get("Content-Security-Policy", "")


def test_the_script_is_that_of_the_page(server: str) -> None:
    with urlopen(f"{server}/gradio.js") as answer:
        loaded = re.search(r"assets/index-[\w-]+\.js", answer.read().decode())
        assert answer.headers.get_content_type() == "text/javascript"
    assert loaded is not None
    with urlopen(server) as answer:
        assert loaded[0] in answer.read().decode()
