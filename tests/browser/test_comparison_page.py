"""The page of sliders that `refgc figures html` writes: opened as a file, offline, by keys, mouse and finger."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from refgc.evaluation.figures.page import make_page
from refgc.evaluation.figures.selection import Choice, select
from tests.support.compared_scenes import make_comparison, make_scenes

GRAVE = ("serious", "critical")
HOSTILE = "<img src=x onerror=alert(1)></script>"
SHOWN = re.compile("^data:image/webp")
CLIP = "one => getComputedStyle(one).clipPath"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of four scenes, one of which has a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    selection = select(make_scenes(folder / "scenes"), Choice(evaluation=make_comparison(folder / "out")))
    first, *others = selection.scenes
    named = replace(first, item=replace(first.item, object_name=HOSTILE))
    make_page(replace(selection, scenes=(named, *others)), folder / "page.html")
    return (folder / "page.html").as_uri()


@pytest.fixture
def opened(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page without a network; fails the test at its end if the page complained or asked for anything."""
    options = {"viewport": {"width": 1280, "height": 900}, **getattr(request, "param", {})}
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url == address or asked.url.startswith("data:") else complaints.append(asked.url),
    )
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(address)
    # The page's policy forbids the polling scripts of `wait_for_function`.
    expect(page.locator(".scene .under img").first).to_have_attribute("src", SHOWN)
    yield page
    context.close()
    assert complaints == []


def test_the_line_moves_by_keys_and_by_the_mouse(opened: Page) -> None:
    scene = opened.locator(".scene").first
    slider, over = scene.get_by_role("slider"), scene.locator(".over")
    assert over.evaluate(CLIP) == "inset(0px 0px 0px 50%)"
    slider.focus()
    opened.keyboard.press("ArrowRight")
    assert over.evaluate(CLIP) == "inset(0px 0px 0px 51%)"
    opened.keyboard.press("Home")
    assert over.evaluate(CLIP) in ("inset(0px)", "inset(0px 0px 0px 0%)")
    expect(slider).to_have_attribute("aria-valuetext", "0 % LRGI, the rest sharp")
    box = scene.locator(".frame").bounding_box()
    assert box is not None
    # In the middle, since the bar may lie over the upper edge.
    middle = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + 10, middle)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 0.8 * box["width"], middle)
    opened.mouse.up()
    assert over.evaluate(CLIP) == "inset(0px 0px 0px 80%)"
    # Let go of, the line stays.
    opened.mouse.move(box["x"] + 10, middle)
    assert over.evaluate(CLIP) == "inset(0px 0px 0px 80%)"


@pytest.mark.parametrize(
    "opened", [{"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}], indirect=True
)
def test_a_finger_moves_the_line_on_a_phone(opened: Page) -> None:
    scene = opened.locator(".scene").first
    frame = scene.locator(".frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    assert box is not None
    opened.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    found = float(scene.get_by_role("slider").input_value())
    assert abs(found - 25) <= 1
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_both_sides_are_chosen_and_swapped(opened: Page) -> None:
    scene = opened.locator(".scene").nth(1)
    sides = scene.locator(".under img"), scene.locator(".over img")
    left, right = opened.get_by_label("Left"), opened.get_by_label("Right")
    left.select_option("sharp")
    right.select_option("HRGT")
    expect(sides[0]).to_have_attribute("alt", "sharp: bee")
    expect(sides[1]).to_have_attribute("alt", "HRGT: bee")
    before = sides[0].get_attribute("src"), sides[1].get_attribute("src")
    assert before[0] != before[1]
    opened.get_by_role("button", name="Swap").click()
    assert (sides[1].get_attribute("src"), sides[0].get_attribute("src")) == before
    expect(scene.locator(".tag.left")).to_have_text("HRGT")


def test_zoomed_the_object_fills_the_frame(opened: Page) -> None:
    scene = opened.locator(".scene").first
    frame, picture = scene.locator(".frame").bounding_box(), scene.locator(".under img")
    opened.get_by_label("Zoom to the object").check()
    box = picture.bounding_box()
    assert frame is not None
    assert box is not None
    # The object takes the middle half of each side, and zoomed nine tenths of the frame's.
    assert box["width"] / frame["width"] == pytest.approx(1.8, abs=0.02)
    assert box["x"] + box["width"] / 2 == pytest.approx(frame["x"] + frame["width"] / 2, abs=1)
    opened.get_by_label("Zoom to the object").uncheck()
    assert picture.bounding_box() == pytest.approx(frame)


def test_pictures_far_from_what_is_seen_are_let_go_of(opened: Page) -> None:
    last = opened.locator(".scene").last.locator(".under img")
    opened.set_viewport_size({"width": 600, "height": 300})
    opened.evaluate("scrollTo(0, 0)")
    expect(last).not_to_have_attribute("src", SHOWN)
    opened.locator(".scene").last.scroll_into_view_if_needed()
    expect(last).to_have_attribute("src", SHOWN)
    expect(last).to_have_js_property("naturalWidth", 128)


@pytest.mark.parametrize("opened", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_the_page_is_accessible(opened: Page) -> None:
    found = Axe().run(opened).response["violations"]
    assert [one["id"] for one in found if one["impact"] in GRAVE] == []


def test_a_hostile_name_is_shown_as_text(opened: Page) -> None:
    expect(opened.get_by_role("heading", name=HOSTILE)).to_be_visible()
    assert opened.locator("img[src=x]").count() == 0
