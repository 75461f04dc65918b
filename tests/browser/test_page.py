"""What a visitor does on the page, in a real browser against the real app."""

from __future__ import annotations

import json
import re
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.gestures import swipe
from tests.browser.refine_page import (
    EXAMPLES,
    PATIENCE_SECONDS,
    choose,
    clear_screen,
    download,
    fill_in,
    frame_of,
    middle,
    open_options,
    refine,
    settle,
    shown_size,
    shows,
    upload,
)


def divider_of(page: Page) -> Locator:
    return page.locator("#comparison .viewer-divider")


def body_of(page: Page, number: int) -> bytes:
    """The file behind the first (0) or second (1) picture of the comparison."""
    address = page.locator("#comparison .viewer-comparison img").nth(number).evaluate("picture => picture.src")
    return page.request.get(address).body()


def test_page_opens_whole_and_quiet(opened: Page) -> None:
    expect(opened).to_have_title(re.compile("RefGC-SR²"))
    expect(opened.get_by_role("heading", level=1)).to_have_text("RefGC-SR²")
    for name in ("Reference photo: Drop File Here", "Generated picture: Drop File Here", "Refine"):
        expect(opened.get_by_role("button", name=name)).to_be_visible()
    thumbnails = opened.locator("#examples .thumbnail-item")
    expect(thumbnails.locator(".caption-label")).to_have_text([example.meta.title for example in EXAMPLES])
    for number in range(len(EXAMPLES)):
        assert min(shown_size(thumbnails.nth(number).locator("img"))) > 0
    fonts = opened.evaluate(
        "document.fonts.ready.then(() => [...document.fonts].map(font => [font.family, font.status]))"
    )
    assert ["IBM Plex Sans", "loaded"] in fonts
    assert "error" not in [status for _, status in fonts]


def test_first_example_is_shown_from_the_start(opened: Page) -> None:
    shows(opened, EXAMPLES[0])
    expect(opened.locator("#comparison .viewer-before")).to_be_visible()


def test_upload_refine_compare_and_download(opened: Page, pair, tmp_path: Path) -> None:
    clear_screen(opened, pair)
    refine(opened)

    divider = divider_of(opened)
    divider.scroll_into_view_if_needed()
    settle(opened)
    pictures = opened.locator("#comparison .viewer-comparison img")
    assert shown_size(pictures.nth(0)) == shown_size(pictures.nth(1)) == [512, 384]
    x, y = middle(divider)
    revealed = pictures.nth(1).evaluate("picture => picture.style.clipPath")
    opened.mouse.move(x, y)
    opened.mouse.down()
    opened.mouse.move(x - 120, y, steps=6)
    opened.mouse.up()
    assert middle(divider)[0] == pytest.approx(x - 120, abs=4)
    assert pictures.nth(1).evaluate("picture => picture.style.clipPath") != revealed

    stages = opened.locator("#stages .thumbnail-item")
    assert stages.count() >= 3
    expect(stages.first).to_have_attribute("aria-label", "The picture, only enlarged")
    for number in range(stages.count()):
        stages.nth(number).scroll_into_view_if_needed()
        assert min(shown_size(stages.nth(number).locator("img"))) > 0

    summary = opened.locator("#summary")
    expect(summary.locator(".message")).not_to_be_empty()
    for figure in ("Confidence", "of it has its detail", "Time"):
        expect(summary).to_contain_text(figure)
    expect(summary).to_contain_text("512 × 384 pixels")

    path = download(opened, tmp_path)
    with PIL.Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (4 * 128, 4 * 96)
        report = json.loads(picture.info["refgc-report"])
    assert report["placed"]
    assert report["output_size"] == [512, 384]
    assert report["message"] == summary.locator(".message").inner_text()


def test_the_code_asks_the_page_that_is_open(opened: Page, server: str) -> None:
    shows(opened, EXAMPLES[0])
    opened.locator("#code button").first.click()
    for part, line in (("client", f'client = Client("{server}/")'), ("curl", f"PAGE={server}/gradio_api")):
        expect(opened.locator(f"#{part} textarea")).to_have_value(re.compile(rf"^{re.escape(line)}$", re.MULTILINE))


def test_slider_obeys_the_arrow_keys(opened: Page) -> None:
    shows(opened, EXAMPLES[0])
    settle(opened)
    handle = opened.get_by_role("slider", name=f"{EXAMPLES[0].meta.title}: divider between Before and After")
    before = middle(handle)[0]
    handle.focus()
    for _ in range(5):
        opened.keyboard.press("ArrowLeft")
    width = opened.locator("#comparison .viewer-comparison").evaluate("element => element.clientWidth")
    assert before - middle(handle)[0] == pytest.approx(0.1 * width, abs=6)
    expect(handle).to_have_attribute("aria-valuenow", "40")


@pytest.mark.slow
def test_wheel_over_a_slider_scrolls_the_page(opened: Page) -> None:
    shows(opened, EXAMPLES[0])
    opened.locator("#comparison").scroll_into_view_if_needed()
    settle(opened)
    x, y = middle(opened.locator("#comparison .viewer-comparison"))
    opened.mouse.move(x + 100, y)
    start = opened.evaluate("window.scrollY")
    opened.mouse.wheel(0, 200)
    opened.wait_for_function(f"window.scrollY > {start} + 50")


@pytest.mark.slow
def test_finger_drags_the_handle_and_scrolls_over_the_picture(browser: Browser, server: str) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(server)
        shows(page, EXAMPLES[0])
        page.locator("#comparison").scroll_into_view_if_needed()
        settle(page)
        handle = divider_of(page)
        x, y = middle(handle)
        swipe(page, (x, y), (-10, 0))
        assert middle(handle)[0] == pytest.approx(x - 80, abs=4)
        start = page.evaluate("window.scrollY")
        swipe(page, (x + 90, y), (0, -15))
        page.wait_for_function(f"window.scrollY > {start} + 30")


@pytest.mark.slow
def test_on_a_phone_the_last_example_is_reached_and_the_page_stays_in_place(page: Page, server: str, watch) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(server)
    shows(page, EXAMPLES[0])
    choose(page, EXAMPLES[-1])
    shows(page, EXAMPLES[-1])
    for part in ("refine", "comparison"):
        box = page.locator(f"#{part}").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


@pytest.mark.slow
def test_more_photos_of_the_object_are_taken_and_an_example_clears_them(
    opened: Page, pair, tmp_path: Path, output_path: str
) -> None:
    other = tmp_path / "back.png"
    PIL.Image.effect_noise((200, 160), 60).save(other)
    clear_screen(opened, pair)
    expect(opened.locator("#further-references")).to_be_hidden()
    opened.locator("#more-photos button").first.click()
    upload(opened, "further-references", other)
    expect(opened.locator("#further-references")).to_contain_text("back")
    opened.locator("#more-photos").screenshot(path=str(Path(output_path) / "more-photos.png"))
    refine(opened)
    expect(opened.locator("#summary")).to_contain_text("Nothing was taken from reference 2")
    opened.locator("#code button").first.click()
    expect(opened.locator("#command textarea")).to_have_value(re.compile("--reference back.png"))
    choose(opened, EXAMPLES[1])
    shows(opened, EXAMPLES[1])
    expect(opened.locator("#further-references")).not_to_contain_text("back")


@pytest.mark.slow
def test_phone_files_are_read_upright(opened: Page, phone_pair, tmp_path: Path) -> None:
    clear_screen(opened, phone_pair)
    assert shown_size(opened.locator("#reference-pad img")) == [512, 384]
    assert shown_size(opened.locator("#generated-pad img")) == [128, 96]
    opened.get_by_label("2× the size").check()
    refine(opened, "generated.jpg")
    with PIL.Image.open(download(opened, tmp_path)) as picture:
        assert picture.size == (2 * 128, 2 * 96)
        assert json.loads(picture.info["refgc-report"])["placed"]


@pytest.mark.slow
def test_options_reach_the_engine(opened: Page, pair, tmp_path: Path) -> None:
    clear_screen(opened, pair)
    open_options(opened)
    fill_in(opened, "number input for Strength", "0")
    fill_in(opened, "Seed", "17")
    refine(opened)
    with PIL.Image.open(download(opened, tmp_path)) as picture:
        report = json.loads(picture.info["refgc-report"])
    assert (report["strength"], report["seed"]) == (0, 17)
    # A busy browser may still be exchanging one of the two.
    for _ in range(PATIENCE_SECONDS):
        before, after = (body_of(opened, number) for number in (0, 1))
        if before == after:
            break
        opened.wait_for_timeout(1000)
    assert before == after
    opened.locator("#json").get_by_role("button").first.click()
    expect(opened.locator("#json")).to_contain_text("reference_size")


@pytest.mark.slow
def test_nothing_placed_is_said(opened: Page, pair, tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    PIL.Image.new("RGB", (400, 400), (120, 140, 160)).save(plain)
    clear_screen(opened, pair)
    opened.locator("#reference").get_by_label("Clear").click()
    upload(opened, "reference", plain)
    frame_of(opened, "reference")
    refine(opened)
    expect(opened.locator("#summary .enlarged")).to_be_visible()
    expect(opened.locator("#status")).to_contain_text("only enlarged")
    expect(opened.locator("#comparison .viewer-label.right")).to_have_text("After")
    expect(opened.locator("#comparison").get_by_text("Object", exact=True)).to_have_count(0)


@pytest.mark.slow
def test_every_example_loads_and_shows_its_result(opened: Page) -> None:
    for example in EXAMPLES:
        choose(opened, example)
        shows(opened, example)
        for name in ("reference", "generated"):
            expect(frame_of(opened, name).locator("img")).to_be_visible()
        expect(opened.locator("#status")).to_contain_text(example.meta.description)
        assert min(shown_size(opened.locator("#comparison .viewer-after"))) > 0
    # They were made by us, not by the visitor.
    expect(opened.locator("#history")).to_be_hidden()


def test_missing_picture_is_asked_for(opened: Page, pair) -> None:
    opened.locator("#refine").click()
    problem = opened.locator("#status").get_by_role("alert")
    expect(problem).to_have_text("Add the two pictures first: the reference photo and the generated picture.")
    expect(problem).to_be_in_viewport()
    upload(opened, "reference", pair.reference)
    frame_of(opened, "reference")
    expect(problem).to_be_hidden()
    opened.locator("#refine").click()
    expect(problem).to_have_text("Add the generated picture first: the one to refine.")


@pytest.mark.slow
def test_text_named_png_is_refused_in_a_sentence(opened: Page, pair, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    upload(opened, "reference", pair.reference)
    upload(opened, "generated", text)
    note = opened.locator("#generated-note").get_by_role("alert")
    expect(note).to_contain_text("The generated picture 'notes.png' is not a picture that can be read")
    opened.locator("#refine").click()
    expect(opened.locator("#status").get_by_role("alert")).to_contain_text("'notes.png' is not a picture")
    # Told once, beside the button; gone with its cause.
    expect(opened.get_by_test_id("toast-body")).to_have_count(0)

    opened.locator("#generated").get_by_label("Clear").click()
    expect(note).to_be_hidden()
    upload(opened, "generated", pair.generated)
    frame_of(opened, "generated")
    refine(opened)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fits_the_screen_in_both_themes(page: Page, server: str, watch, pair, theme: str, output_path: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{server}/?__theme={theme}")
    clear_screen(page, pair)
    for width, height in ((360, 740), (1440, 900)):
        page.set_viewport_size({"width": width, "height": height})
        refine(page)
        fits(page, width, theme)
        picture = Path(output_path) / f"page-{width}-{theme}.png"
        page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 0


def fits(page: Page, width: int, theme: str) -> None:
    """Everything of a result is on the screen and in the theme's colours."""
    dark = page.evaluate("document.querySelector('.dark') !== null")
    assert dark == (theme == "dark")
    lightness = page.evaluate(
        "getComputedStyle(document.querySelector('gradio-app')).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    assert (lightness < 60) == (theme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut_off = page.evaluate(
        """() => [...document.querySelectorAll('#refine, #comparison, #summary dd, #download, .upload')]
            .filter(part => part.getBoundingClientRect().right > innerWidth || part.scrollWidth > part.clientWidth + 1)
            .map(part => part.outerHTML)"""
    )
    assert cut_off == []
    covered = page.evaluate(
        """() => [...document.querySelectorAll('#stages .thumbnail-item')].filter(stage =>
            stage.querySelector('.caption-label').getBoundingClientRect().top
                < stage.querySelector('img').getBoundingClientRect().bottom - 1).length"""
    )
    assert covered == 0
    expect(page.locator("#comparison")).to_be_in_viewport()
