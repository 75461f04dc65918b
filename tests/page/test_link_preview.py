"""The head of the page's HTML, as those read it who show links to the page elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import PIL.Image
import pytest

from refgc.page.app import PREVIEW, PROMISE, TITLE
from tests.support.running import Served, served


class Head(HTMLParser):
    """The tags of a page's head, in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(page.partition("</head>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def named(self, prefix: str) -> dict[str, str]:
        """What the meta tags say whose name begins so; no name may be there twice."""
        found = [
            (given.get("property") or given.get("name", ""), given["content"])
            for tag, given in self.tags
            if tag == "meta" and "content" in given
        ]
        names = [name for name, _ in found if name.startswith(prefix)]
        assert len(names) == len(set(names))
        return {name: content for name, content in found if name.startswith(prefix)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("site") / "uploads") as running:
        yield running


def test_a_link_shows_our_title_sentence_and_picture_and_nothing_of_gradio(site: Served) -> None:
    head = Head(site.get("/").text)
    shown, tweeted = head.named("og:"), head.named("twitter:")
    assert (shown["og:title"], shown["og:description"]) == (PREVIEW.title, PROMISE)
    assert TITLE in shown["og:title"]
    assert (tweeted["twitter:title"], tweeted["twitter:description"]) == (PREVIEW.title, PROMISE)
    assert tweeted["twitter:card"] == "summary_large_image"
    assert tweeted["twitter:image"] == shown["og:image"]
    assert "gradio" not in str({**shown, **tweeted}).lower()
    assert head.named("description") == {"description": PROMISE}


def test_its_tags_are_the_first_of_the_head(site: Served) -> None:
    tags = Head(site.get("/").text).tags
    first = [given.get("property", "") for tag, given in tags if tag == "meta"]
    assert "charset" in next(given for tag, given in tags if tag == "meta")
    assert first[1] == "og:type"
    assert [tag for tag, _ in tags[:4]] == ["html", "head", "meta", "meta"]


def test_its_picture_is_there_at_a_whole_address(site: Served) -> None:
    shown = Head(site.get("/").text).named("og:")
    assert shown["og:image"].startswith(site.address)
    answer = site.client.get(shown["og:image"])
    assert answer.headers["content-type"] == "image/jpeg"
    with PIL.Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (1200, 630))
    assert (shown["og:image:width"], shown["og:image:height"]) == ("1200", "630")
    assert len(answer.content) < 300_000


def test_behind_a_proxy_the_picture_has_the_proxys_address(site: Served) -> None:
    proxy = {"X-Forwarded-Host": "paper.example", "X-Forwarded-Proto": "https"}
    shown = Head(site.get("/", headers=proxy).text).named("og:")
    assert shown["og:image"] == "https://paper.example/link-preview.jpg"


def test_whoever_asks_for_the_head_alone_is_told_the_length_of_the_whole(site: Served) -> None:
    plain = {"Accept-Encoding": "identity"}
    whole = site.get("/", headers=plain)
    asked: httpx.Response = site.client.head(site.address, headers=plain)
    assert asked.status_code == 200
    assert asked.content == b""
    assert int(asked.headers["content-length"]) == len(whole.content)


def test_other_answers_are_left_as_they_are(site: Served) -> None:
    assert site.get("/config").json()["title"] == PREVIEW.title
    assert site.client.post(site.address).status_code == 405


def test_the_header_links_to_the_code_only_where_it_is_known(site: Served, tmp_path: Path) -> None:
    assert ">Code</a>" not in site.get("/config").json()["components"][0]["props"]["value"]
    with served(tmp_path / "uploads", REFGC_REPOSITORY="https://code.example/refgc?a=1&b=2") as named:
        header = named.get("/config").json()["components"][0]["props"]["value"]
    assert 'href="https://code.example/refgc?a=1&amp;b=2"' in header
