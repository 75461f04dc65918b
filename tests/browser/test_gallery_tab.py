"""The Gallery tab in a real browser: cached cards on the real page, the authors' pictures from a host of our own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import gradio as gr
import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from refgc.imaging.image import open_image
from refgc.page.app import launch_settings
from refgc.page.gallery.cards import KINDS
from refgc.page.gallery.manifest import read_manifest
from refgc.page.gallery.paper import PAPER_SETS, PaperPictures
from refgc.page.gallery.tab import build_gallery_tab
from refgc.page.service.runs import Service
from tests.browser.gestures import swipe
from tests.support.picture_host import Host, picture_host, status
from tests.support.running import free_port

CARDS = read_manifest().cards
WIDTHS = (360, 820, 1440)
decode = partial(open_image, name="picture")


def open_gallery(page: Page) -> Page:
    page.get_by_role("tab", name="Gallery", exact=True).click()
    expect(page.locator("#gallery-cards .card").first).to_be_visible()
    return page


@pytest.fixture
def gallery(opened: Page) -> Page:
    return open_gallery(opened)


@pytest.fixture(scope="module")
def cards(browser: Browser, server: str) -> Iterator[Page]:
    """The tab, opened once for those who each work with a card of their own."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(server, wait_until="domcontentloaded")
        page.locator("#refine").wait_for()
        yield open_gallery(page)


def card(page: Page, number: int = 0) -> Locator:
    """The card at that place, with its small pictures there."""
    found = page.locator("#gallery-cards .card").nth(number)
    found.scroll_into_view_if_needed()
    for picture in found.locator("img").all():
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("async picture => { await picture.decode(); return picture.naturalWidth; }") > 0
    return found


def screenshot(part: Locator) -> PIL.Image.Image:
    with PIL.Image.open(io.BytesIO(part.screenshot())) as shot:
        return shot.convert("RGB")


def shows(reveal: Locator, name: str) -> bool:
    """Whether that picture alone is on the screen; labels and handle are left out."""
    other = reveal.locator(f'img:not([src$="/{name}-small.webp"])')
    screens = [screenshot(reveal)]
    other.evaluate("picture => { picture.style.visibility = 'hidden'; }")
    screens.append(screenshot(reveal))
    other.evaluate("picture => { picture.style.visibility = ''; }")
    width, height = screens[0].size
    inner = (width // 6, height // 10, width - width // 6, height - height // 5)
    seen, alone = (np.asarray(screen.crop(inner)).astype(int) for screen in screens)
    return bool(np.abs(seen - alone).max() <= 2)


def middle(part: Locator) -> tuple[float, float]:
    box = part.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def divider(reveal: Locator) -> float:
    """Where the divider is, as a share of the picture's width."""
    return float(
        reveal.evaluate(
            """part => {
                const [line, box] = [part.querySelector("i"), part].map(one => one.getBoundingClientRect());
                return (line.left + line.width / 2 - box.left) / box.width;
            }"""
        )
    )


def test_nothing_of_the_gallery_is_loaded_before_it_is_opened(page: Page, opened: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened.wait_for_load_state("load")
    assert not [url for url in asked if "assets/gallery" in url or "paper-pictures" in url]
    open_gallery(opened)
    card(opened)
    loaded = [url for url in asked if "assets/gallery" in url]
    assert loaded
    assert all(url.endswith("-small.webp") for url in loaded)


def test_every_card_has_a_reference_and_a_named_slider(cards: Page) -> None:
    found = cards.locator("#gallery-cards .card")
    expect(found).to_have_count(len(CARDS))
    names = [
        slider.get_attribute("aria-label") or "" for slider in cards.locator("#gallery-cards input[type=range]").all()
    ]
    assert all(": divider between before and " in name for name in names)
    cards.get_by_role("radio", name="Quality degradation").check()
    for number in (len(CARDS) - 1, 0):
        if number == 0:
            cards.get_by_role("radio", name="Examples").check()
        alts = [part.get_attribute("alt") or "" for part in card(cards, number).locator("img").all()]
        title = found.nth(number).locator("h3").inner_text()
        assert alts[0] == f"{title}, reference photo"
        assert set(alts[1:]) == {f"{title}, after", f"{title}, before"}
        expect(found.nth(number)).to_contain_text("Simulated")


def test_mouse_drags_the_divider(cards: Page) -> None:
    reveal = card(cards).locator(".reveal")
    x, y = middle(reveal)
    box = reveal.bounding_box()
    assert box is not None
    assert divider(reveal) == pytest.approx(0.5, abs=0.02)
    cards.mouse.move(x, y)
    cards.mouse.down()
    cards.mouse.move(box["x"] + 0.8 * box["width"], y, steps=5)
    assert divider(reveal) == pytest.approx(0.8, abs=0.03)
    cards.mouse.move(box["x"] + box["width"] + 60, y, steps=5)
    cards.mouse.up()
    assert divider(reveal) == pytest.approx(1, abs=0.01)
    assert shows(reveal, "before")
    assert not shows(reveal, "after")
    cards.mouse.click(box["x"] + 2, y)
    assert divider(reveal) == pytest.approx(0, abs=0.03)
    cards.mouse.move(0, 0)
    assert shows(reveal, "after")
    assert not shows(reveal, "before")


def test_keyboard_moves_the_divider(cards: Page) -> None:
    reveal = card(cards, 1).locator(".reveal")
    reveal.locator("input").focus()
    for key, place in (("ArrowRight", 0.51), ("ArrowLeft", 0.5), ("Home", 0), ("End", 1), ("PageDown", 0.9)):
        cards.keyboard.press(key)
        assert divider(reveal) == pytest.approx(place, abs=0.011)
    assert reveal.locator("i").evaluate("line => getComputedStyle(line, '::after').outlineStyle") != "none"


@pytest.mark.slow
def test_finger_drags_the_divider_and_still_scrolls_the_page(browser: Browser, server: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(server, wait_until="domcontentloaded")
    page.locator("#refine").wait_for()
    reveal = card(open_gallery(page)).locator(".reveal")
    # Its middle in the middle of the screen, whatever is above it.
    reveal.evaluate("part => part.scrollIntoView({ block: 'center' })")
    x, y = middle(reveal)
    swipe(page, (x, y), (9, 0))
    assert divider(reveal) > 0.6
    place = page.evaluate("window.scrollY")
    swipe(page, (x, y), (0, -15))
    page.wait_for_function(f"window.scrollY > {place} + 50")
    context.close()


def test_filter_shows_one_artifact(cards: Page) -> None:
    for kind, (name, words) in KINDS.items():
        cards.get_by_role("radio", name=name).check()
        shown = cards.locator("#gallery-cards .card:visible")
        wanted = [one for one in CARDS if kind == (one.artifact or "all_four")]
        if kind == "examples":
            wanted = [one for one in CARDS if one.artifact is None and one.closeness.psnr_gain_inside >= 0.3]
        expect(shown).to_have_count(len(wanted))
        assert all(kind in (one.get_attribute("data-kind") or "").split() for one in shown.all())
        expect(cards.locator("#gallery-cards .kind:visible")).to_have_text(words)


def test_filter_works_by_keyboard(cards: Page) -> None:
    cards.get_by_role("radio", name="Examples").focus()
    cards.keyboard.press("ArrowRight")
    cards.keyboard.press("ArrowRight")
    expect(cards.get_by_role("radio", name="Identity distortion")).to_be_checked()
    expect(cards.locator("#gallery-cards .card:visible")).to_have_count(3)
    label = cards.locator(".filter label:has(:checked)")
    assert label.evaluate("part => getComputedStyle(part).outlineStyle") != "none"


def test_looking_closely_loads_the_large_pictures(page: Page, gallery: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opener = card(gallery).get_by_role("button", name="look closely")
    opener.click()
    closely = gallery.get_by_role("dialog", name="Paperback")
    expect(closely).to_be_visible()
    closely.get_by_role("button", name="Show the reference photo beside it").click()
    for picture in closely.locator("img").all():
        assert picture.evaluate("async one => { await one.decode(); return one.naturalWidth; }") == 1024
    assert {url.rsplit("/", 1)[-1] for url in asked if "assets/gallery" in url} == {
        "reference.webp",
        "before.webp",
        "after.webp",
    }
    for words in ("PSNR inside the object", "Report", "1024 × 1024 pixels"):
        expect(closely).to_contain_text(words)
    line = closely.get_by_role("slider")
    line.focus()
    gallery.keyboard.press("Home")
    expect(line).to_have_attribute("aria-valuenow", "0")
    closely.get_by_role("button", name="Show the object alone").click()
    expect(closely.locator("refgc-viewer")).to_have_attribute("data-zoomed", "")
    gallery.keyboard.press("Escape")
    expect(closely).to_have_count(0)
    expect(opener).to_be_focused()
    opener.click()
    closely.get_by_role("button", name="Close").click()
    expect(closely).to_have_count(0)


def test_example_opens_in_refine_and_the_page_stays(page: Page, server: str, watch) -> None:
    page.goto(f"{server}/?__theme=dark&tab=gallery", wait_until="domcontentloaded")
    page.locator("#refine").wait_for(state="attached")
    assert page.evaluate("document.body.classList.contains('dark')")
    expect(page.get_by_role("tab", name="Gallery", exact=True)).to_have_attribute("aria-selected", "true")
    link = card(page).get_by_role("link", name="Try it in Refine")
    expect(page.locator("#paper-cards")).not_to_contain_text("Fetching")
    # For a click that opens another window.
    assert (link.get_attribute("href") or "").endswith("?example=paperback")
    page.evaluate("window.stayed = true")
    link.click()
    expect(page.locator("#generated .file-preview")).to_be_visible()
    expect(page.locator("#caption")).to_have_text("Paperback")
    assert page.evaluate("window.stayed")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_every_screen(page: Page, server: str, watch, theme: str) -> None:
    page.goto(f"{server}/?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#refine").wait_for()
    first = card(open_gallery(page))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        reveal = first.locator(".reveal").bounding_box()
        assert reveal is not None
        assert reveal["width"] == pytest.approx(reveal["height"], abs=2)
        assert reveal["width"] >= 200
        first.get_by_role("button", name="look closely").click()
        dialog = page.get_by_role("dialog").bounding_box()
        assert dialog is not None
        assert dialog["x"] >= 0
        assert dialog["x"] + dialog["width"] <= width
        brightness = np.asarray(screenshot(page.get_by_role("dialog").locator("h3"))).mean()
        assert (brightness > 128) == (theme == "light")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


@contextmanager
def served(paper: PaperPictures) -> Iterator[str]:
    """The tab alone, with the page's own settings."""
    with gr.Blocks() as demo, gr.Tabs():
        with gr.Tab("First"):
            gr.HTML("<p>Nothing of the gallery</p>")
        with gr.Tab("Gallery"):
            build_gallery_tab([], paper)
    _, address, _ = demo.launch(
        server_name="127.0.0.1",
        server_port=free_port(),
        prevent_thread_lock=True,
        quiet=True,
        **launch_settings(Service()),
    )
    try:
        yield address
    finally:
        demo.close()


@pytest.fixture
def host() -> Iterator[Host]:
    with picture_host() as host:
        yield host


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


def test_the_authors_pictures_come_when_the_tab_is_open(page: Page, host: Host, uploads: Path) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    host.answers["jar_LRGI.png"] = status(404)
    with served(PaperPictures(uploads / "paper-pictures", decode, address=host.address)) as address:
        page.goto(address)
        page.get_by_text("Nothing of the gallery").wait_for()
        assert host.asked.total() == 0
        page.get_by_role("tab", name="Gallery").click()
        cards = page.locator("#paper-cards .card")
        expect(cards).to_have_count(len(PAPER_SETS) - 1)
        expect(page.locator("#paper-cards")).to_contain_text("1 of 7 are not shown now: the server answered 404")
        expect(page.locator("#paper-credit")).to_contain_text("CC BY-SA 4.0")
        # The gallery opens with the real ones of them; those of the benchmark are there with all others.
        expect(page.locator("#paper-cards .card:visible h3")).to_have_text(["Gemini", "ChatGPT", "Qwen-Image"])
        page.get_by_role("radio", name="All").check()
        expect(page.locator("#paper-cards .card:visible")).to_have_count(len(PAPER_SETS) - 1)
        page.get_by_role("radio", name="Texture loss").check()
        expect(page.locator("#paper-credit")).to_be_hidden()
        expect(page.locator("#paper-cards .card:visible")).to_have_count(0)
        page.get_by_role("radio", name="Examples").check()
        picture = cards.first.locator("img").first
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("async one => { await one.decode(); return one.naturalWidth; }") == 96
        cards.first.get_by_role("button", name="look closely").click()
        expect(page.get_by_role("dialog", name="Gemini")).to_contain_text("CMLab, Chung-Ang University")
    assert complaints == []


@pytest.mark.slow
def test_without_network_a_line_says_why(page: Page, uploads: Path) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    with served(PaperPictures(uploads / "paper-pictures", decode, address="http://127.0.0.1:9/")) as address:
        page.goto(address)
        page.get_by_role("tab", name="Gallery").click()
        expect(page.locator("#paper-cards")).to_contain_text("They are not shown now: no connection to its server.")
        expect(page.locator("#paper-cards .card")).to_have_count(0)
        expect(page.get_by_role("link", name="project page of RefGC-SR²")).to_be_visible()
    assert complaints == []
