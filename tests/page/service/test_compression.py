"""The page is compressed on its way; what must not be is left as it is."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from refgc.page.service.server import CompressedPage

TEXT = "the page and all its components " * 1000
PAGES = ("/", "/config", "/below/")
OTHERS = ("/gradio_api/queue/data", "/gradio_api/file=a.png", "/assets/a.js")


@pytest.fixture(scope="module")
def client() -> TestClient:
    def answer(request: object) -> PlainTextResponse:
        return PlainTextResponse(TEXT)

    routes = [Route(path, answer) for path in (*PAGES, *OTHERS)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(CompressedPage)]))


@pytest.mark.parametrize("path", PAGES)
def test_page_goes_compressed_to_those_who_can_read_it(client: TestClient, path: str) -> None:
    compressed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert int(compressed.headers["Content-Length"]) < len(TEXT) / 10
    assert compressed.text == TEXT
    assert "Content-Encoding" not in client.get(path, headers={"Accept-Encoding": "identity"}).headers


@pytest.mark.parametrize("path", OTHERS)
def test_events_and_files_are_left_as_they_are(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers
    assert answer.text == TEXT
