"""The Refine tab under a finger, on screens as small as a phone's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from refgc.page.examples import EXAMPLES_FOLDER
from tests.browser.gestures import swipe
from tests.browser.refine_page import EXAMPLES, RESULT_MILLISECONDS, frame_of, give, place, settle, shows

SCREENS = (pytest.param((360, 740), id="360"), pytest.param((390, 844), id="390", marks=pytest.mark.slow))
# In pixels, with both pictures given and the first example's result below, which is marked as not theirs.
HIGHEST_PAGE = 2000


@pytest.fixture(params=SCREENS)
def phone(request: pytest.FixtureRequest, browser: Browser, server: str) -> Iterator[Page]:
    width, height = request.param
    with browser.new_context(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(server, wait_until="domcontentloaded")
        shows(page, EXAMPLES[0])
        yield page


def bottom_of(page: Page, selector: str) -> float:
    return float(page.locator(selector).evaluate("part => part.getBoundingClientRect().bottom"))


def unfold(page: Page, name: str) -> None:
    opener = page.locator(f"#{name}-pad .pad-open")
    opener.tap()
    expect(opener).to_have_attribute("aria-expanded", "true")


def test_pads_stand_side_by_side_and_the_page_stays_short(phone: Page, pair, output_path: str) -> None:
    give(phone, pair)
    boxes = [frame_of(phone, name).bounding_box() for name in ("reference", "generated")]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=1)
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    width = phone.viewport_size["width"] if phone.viewport_size else 0
    for theme in ("light", "dark"):
        phone.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
        phone.screenshot(path=Path(output_path) / f"phone-{width}-{theme}.png", full_page=True)
    assert phone.evaluate("document.documentElement.scrollHeight") < HIGHEST_PAGE


@pytest.mark.slow
def test_our_example_is_as_short(phone: Page) -> None:
    folder = EXAMPLES_FOLDER / EXAMPLES[3].name
    for name, file in (("reference", "hrri.jpg"), ("generated", "lrgi.png")):
        phone.locator(f"#{name} input[type=file]").set_input_files(folder / file)
        frame_of(phone, name)
    assert phone.evaluate("document.documentElement.scrollHeight") < HIGHEST_PAGE


def test_the_button_stays_in_reach_until_the_result_is_in_view(phone: Page, pair) -> None:
    button, height = phone.locator("#refine"), phone.evaluate("innerHeight")
    end = phone.locator("#result").evaluate("part => part.getBoundingClientRect().top + scrollY")
    for share in (0, 0.3, 0.6, 0.9):
        phone.evaluate(f"window.scrollTo(0, {share * max(0, end - height)})")
        expect(button).to_be_in_viewport(ratio=1)
        assert bottom_of(phone, "#refine") > height - 20
        # Nothing is drawn over it.
        assert button.evaluate(
            """button => {
                const { left, top, width, height } = button.getBoundingClientRect();
                return [0.05, 0.5, 0.95].every(share =>
                    button.contains(document.elementFromPoint(left + share * width, top + height / 2)));
            }"""
        )
    phone.locator("#comparison").evaluate("part => part.scrollIntoView({ block: 'start' })")
    expect(button).not_to_be_in_viewport()

    give(phone, pair)
    phone.evaluate("window.scrollTo(0, 0)")
    button.tap()
    expect(phone.locator("#cancel")).to_be_in_viewport(ratio=1)
    assert phone.evaluate("scrollY") == 0
    expect(phone.locator("#status .done")).to_be_attached(timeout=RESULT_MILLISECONDS)
    expect(phone.locator("#comparison")).to_be_in_viewport(ratio=0.9)
    settle(phone)
    expect(button).not_to_be_in_viewport()


def test_an_example_that_is_chosen_is_seen_with_its_verdict(phone: Page) -> None:
    # The result's pictures are on the screen already, and what is said of them is not.
    verdict = phone.locator("#summary .outcome")
    verdict.evaluate("part => window.scrollBy(0, part.getBoundingClientRect().top - innerHeight - 20)")
    settle(phone)
    expect(verdict).not_to_be_in_viewport()
    assert bottom_of(phone, "#comparison") < phone.evaluate("innerHeight")
    phone.locator("#examples .thumbnail-item").nth(1).tap()
    shows(phone, EXAMPLES[1])
    expect(verdict).to_be_in_viewport(ratio=1)
    expect(phone.locator("#comparison .viewer-comparison")).to_be_in_viewport(ratio=0.9)
    settle(phone)
    # Once: who scrolls away is left there.
    phone.evaluate("window.scrollTo(0, 0)")
    phone.wait_for_timeout(300)
    assert phone.evaluate("scrollY") == 0


def test_a_problem_is_seen_at_the_button(phone: Page) -> None:
    phone.evaluate("window.scrollTo(0, 0)")
    phone.locator("#refine").tap()
    problem = phone.locator("#status").get_by_role("alert")
    expect(problem).to_be_in_viewport(ratio=1)
    assert bottom_of(phone, "#status") <= phone.locator("#refine").evaluate("part => part.getBoundingClientRect().top")


def test_marking_is_folded_until_it_is_asked_for(phone: Page, pair) -> None:
    give(phone, pair)
    frame, tools = frame_of(phone, "reference"), phone.locator("#reference-mode")
    expect(tools).to_be_hidden()
    small = frame.bounding_box()
    # A tap on the small picture unfolds it, and marks nothing.
    phone.touchscreen.tap(*place(frame, 0.5, 0.5))
    expect(tools).to_be_visible()
    expect(phone.locator("#generated-mode")).to_be_hidden()
    expect(frame.locator(".pad-mark")).to_have_count(0)
    large = frame.bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 1.8 * small["width"]
    phone.touchscreen.tap(*place(frame, 0.5, 0.5))
    expect(frame.locator(".pad-object")).to_have_count(1)
    # It stays unfolded while the server answers.
    expect(phone.locator("#reference-note")).to_contain_text("is marked.")
    expect(tools).to_be_visible()
    phone.locator("#reference-pad .pad-open").tap()
    expect(tools).to_be_hidden()
    expect(frame.locator(".pad-object")).to_have_count(1)


def test_a_finger_draws_a_box_and_scrolls_where_none_is_drawn(phone: Page, pair) -> None:
    give(phone, pair)
    unfold(phone, "reference")
    frame = frame_of(phone, "reference")
    phone.locator("#reference-mode").get_by_label("Box").check()
    x, y = place(frame, 0.2, 0.2)
    start = phone.evaluate("scrollY")
    swipe(phone, (x, y), (20, 15))
    expect(frame.locator(".pad-box")).to_have_count(1)
    assert phone.evaluate("scrollY") == start
    expect(phone.locator("#reference-note")).to_contain_text("is marked.")
    phone.locator("#reference-mode").get_by_label("Object").check()
    x, y = place(frame, 0.5, 0.8)
    start = phone.evaluate("scrollY")
    swipe(phone, (x, y), (0, -15))
    phone.wait_for_function(f"Math.abs(window.scrollY - {start}) > 30")
    expect(frame.locator(".pad-mark")).to_have_count(1)


def test_fingers_are_told_to_tap_and_a_mouse_to_click(phone: Page, opened: Page, pair) -> None:
    expect(phone.get_by_role("button", name="Reference photo: Tap to Upload")).to_be_visible()
    expect(opened.get_by_role("button", name="Reference photo: Drop File Here - or - Click to Upload")).to_be_visible()
    give(phone, pair)
    unfold(phone, "generated")
    expect(phone.locator("#generated-note")).to_have_text(
        "The object is found when you refine. To be sure of it, tap it or choose Box and draw one around it."
    )
    expect(phone.locator("#generated-mode")).to_contain_text("by a tap on two of its corners")
    label = frame_of(phone, "generated").get_attribute("aria-label") or ""
    assert "Tap the object" in label
    assert phone.get_by_text("click", exact=False).filter(visible=True).count() == 0
    expect(phone.locator("#comparison .viewer-hint")).to_have_text("Spread two fingers on the picture to zoom")
    expect(opened.locator("#comparison .viewer-hint")).to_contain_text("hold Ctrl")


@pytest.mark.slow
def test_the_gallery_loads_its_pictures_as_one_scrolls(browser: Browser, server: str) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url) if "-small.webp" in request.url else None)
        page.goto(server, wait_until="domcontentloaded")
        shows(page, EXAMPLES[0])
        page.wait_for_timeout(1000)
        in_gallery = {url for url in asked if "/gallery/" in url}
        assert in_gallery == set()
        page.get_by_role("tab", name="Gallery").tap()
        cards = page.locator("#gallery-cards .card:visible")
        expect(cards.first.locator("img").first).to_be_visible()
        page.wait_for_timeout(1500)
        pictures = page.locator("#gallery-cards .card img")
        whole = len(set(pictures.evaluate_all("all => all.map(picture => picture.src)")))
        at_first = len({url for url in asked if "/gallery/" in url})
        assert 0 < at_first < whole / 2
        cards.last.scroll_into_view_if_needed()
        expect(cards.last.locator("img").first).to_have_js_property("complete", True)
        page.wait_for_timeout(500)
        assert len({url for url in asked if "/gallery/" in url}) > at_first
