"""The About tab in a real browser."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect


def open_about(page: Page) -> Page:
    page.get_by_role("tab", name="About", exact=True).click()
    expect(page.get_by_role("heading", name="The task")).to_be_visible()
    return page


@pytest.fixture(scope="module")
def about(browser: Browser, server: str) -> Iterator[Page]:
    """The tab, opened once for all who only read it."""
    with browser.new_context() as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(server, wait_until="domcontentloaded")
        page.locator("#refine").wait_for()
        yield open_about(page)


def test_tables_are_tables_with_names(about: Page) -> None:
    for name, model in (("Table 2", "RefGC-SR²"), ("Table 3", "ImageCritic*"), ("User study", "Overall")):
        table = about.get_by_role("region", name=name).get_by_role("table", name=name)
        expect(table).to_be_visible()
        expect(table.get_by_role("rowheader", name=model, exact=True)).to_be_visible()
    expect(about.get_by_role("region", name="Table 1").get_by_role("columnheader", name="RefGC-SR²")).to_be_visible()


def test_drawing_has_a_name_and_a_description(about: Page) -> None:
    drawing = about.get_by_role("img", name="The model of RefGC-SR²")
    expect(drawing).to_be_visible()
    assert "FreqMoLE, two trained LoRA experts mixed by a gate" in (
        drawing.get_by_text("From top").text_content() or ""
    )


def test_citation_is_copied(about: Page) -> None:
    about.get_by_role("button", name="Copy BibTeX").click()
    expect(about.locator(".cite-said")).to_have_text("Copied.")
    entry = about.evaluate("navigator.clipboard.readText()")
    assert entry == about.locator(".cite pre").text_content()
    assert entry.startswith("@misc{")


def test_citation_is_marked_where_the_clipboard_is_shut(about: Page) -> None:
    about.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    about.get_by_role("button", name="Copy BibTeX").click()
    expect(about.locator(".cite-said")).to_contain_text("Ctrl + C")
    assert about.evaluate("String(window.getSelection())").startswith("@misc{")


def corner(part: Locator) -> tuple[float, float]:
    box = part.bounding_box()
    assert box is not None
    return box["x"], box["y"]


@pytest.mark.parametrize("width", [1440, 1920])
def test_a_wide_screen_is_used(about: Page, width: int) -> None:
    about.set_viewport_size({"width": width, "height": 900})
    for left, right in (("Table 1", "User study"), ("Table 2", "Table 3")):
        one, other = (corner(about.get_by_role("region", name=name)) for name in (left, right))
        assert one[1] == pytest.approx(other[1], abs=1), "side by side"
        assert one[0] < other[0]
    headings = [about.get_by_role("heading", name=name, exact=True) for name in ("How to cite", "Licences")]
    assert corner(headings[0])[1] == corner(headings[1])[1]
    rightmost = about.locator(".about").evaluate(
        """about => {
            const right = part => part.getBoundingClientRect().right;
            return right(about) - Math.max(...[...about.querySelectorAll("p, li, table, pre")].map(right));
        }"""
    )
    assert rightmost < 20
    assert not about.evaluate(SCROLLING)


SCROLLING = """[...document.querySelectorAll(".table-frame")].some(frame => frame.scrollWidth > frame.clientWidth)"""
# Playwright hides the bars, so their style is looked at.
BAR = "frame => parseFloat(getComputedStyle(frame, '::-webkit-scrollbar').height)"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_a_table_shows_that_it_scrolls(page: Page, server: str, theme: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{server}/?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#refine").wait_for()
    open_about(page)
    frame = page.get_by_role("region", name="Table 2")
    frame.scroll_into_view_if_needed()
    assert frame.evaluate(BAR) >= 8, "a bar that is always there"
    shaded = edge_of(page, frame)
    frame.evaluate("frame => { frame.scrollLeft = frame.scrollWidth; }")
    page.wait_for_timeout(200)
    assert abs(shaded - edge_of(page, frame)) > 8, "an edge while there is more to the right"


def edge_of(page: Page, frame: Locator) -> float:
    """The mean level of a strip at a frame's right edge, between two rows of text."""
    box = frame.bounding_box()
    assert box is not None
    strip = FloatRect(x=box["x"] + box["width"] - 5, y=box["y"] + 6, width=3.0, height=4.0)
    with PIL.Image.open(io.BytesIO(page.screenshot(clip=strip))) as picture:
        return float(np.asarray(picture.convert("L")).mean())


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_every_screen(page: Page, server: str, watch, theme: str) -> None:
    page.goto(f"{server}/?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#refine").wait_for()
    open_about(page)
    for width in (360, 820, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        fits(page, width)


def fits(page: Page, width: int) -> None:
    """Drawing and tables can be read on a screen of that width."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    drawing = page.locator(".method-drawing")
    box = drawing.bounding_box()
    assert box is not None
    assert 250 < box["width"] <= width
    smallest = drawing.evaluate(
        """drawing => Math.min(...[...drawing.querySelectorAll("text")].map(text =>
            parseFloat(getComputedStyle(text).fontSize) * drawing.getBoundingClientRect().width / 360))"""
    )
    assert smallest >= 9.5
    table = page.get_by_role("region", name="Table 2")
    name = table.get_by_role("rowheader", name="ImageCritic*")
    table.evaluate("frame => { frame.scrollLeft = frame.scrollWidth; }")
    frame, place = table.bounding_box(), name.bounding_box()
    assert frame is not None
    assert place is not None
    assert place["x"] == pytest.approx(frame["x"], abs=2), "the model's name stays in sight"
