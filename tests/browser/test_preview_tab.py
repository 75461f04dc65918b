"""What a visitor does on the preview tab, in a real browser against the real app."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.preview.tab import find_preview_examples
from tests.browser.gestures import swipe
from tests.browser.refine_page import place

RESULT_MILLISECONDS = 120_000
SCREENS = ((360, 740, "light"), (360, 740, "dark"), (820, 1180, "dark"), (1440, 900, "light"))
EXAMPLE = find_preview_examples(find_examples(EXAMPLES_FOLDER))[0]


@pytest.fixture
def preview(opened: Page) -> Page:
    """The tab, ready for input."""
    opened.get_by_role("tab", name="DipRefGC preview").click()
    opened.locator("#generate").wait_for()
    return opened


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright card on a dark table, 800 x 600 pixels, lying on its side as phones save it: columns 200 to 559."""
    path = tmp_path_factory.mktemp("card") / "card.jpg"
    table = np.random.default_rng(0).normal(60, 4, (600, 800, 3)).clip(0, 255).astype(np.uint8)
    table[150:480, 200:560] = np.random.default_rng(1).normal(205, 4, (330, 360, 3)).clip(0, 255).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(table).rotate(90, expand=True).save(path, quality=95, exif=exif)
    return path


def give(page: Page, name: str, path: Path) -> None:
    page.locator(f"#preview-{name} input[type=file]").set_input_files(path)


def set_mode(page: Page, name: str, mode: str) -> None:
    page.locator(f"#preview-{name}-mode").get_by_label(mode).check()


def frame_of(page: Page, name: str) -> Locator:
    frame = page.locator(f"#preview-{name}-pad .pad-frame")
    expect(frame).to_be_visible()
    return frame


def marked_share(page: Page, name: str) -> int:
    """What the note says of the mask, in percent."""
    found = re.search(r"(\d+)% of the picture", page.locator(f"#preview-{name}-note").inner_text())
    assert found is not None
    return int(found[1])


def shown(page: Page, frame: Locator) -> np.ndarray:
    """The picture in the frame as the browser got it, RGB."""
    source = frame.locator("img").get_attribute("src")
    assert source is not None
    with PIL.Image.open(io.BytesIO(page.request.get(source).body())) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def gain(page: Page) -> float:
    """How much closer to the truth the refined object is than the enlarged one, in dB."""
    gain = page.locator("#figures tbody tr").first.locator("td").last.text_content() or ""
    return float(gain.removesuffix(" dB"))


def is_coloured(pixels: np.ndarray) -> bool:
    """Whether a patch kept its light; what is not marked is dimmed."""
    return bool(pixels.mean() > 150)


@pytest.mark.slow
def test_from_example_to_refined_and_on_to_the_refine_tab(preview: Page) -> None:
    expect(preview.get_by_text("Simulated here:")).to_be_visible()
    # Nothing was made yet.
    expect(preview.locator("#preview-result")).to_be_hidden()
    preview.get_by_role("button", name=EXAMPLE.meta.title, exact=True).click()
    for name in ("reference", "scene"):
        expect(frame_of(preview, name).locator("img")).to_be_visible()
        expect(preview.locator(f"#preview-{name}-note")).to_contain_text("The example’s own mask")
    expect(preview.locator("#generate")).to_be_disabled()
    expect(preview.locator("#conditions .thumbnail-item")).to_have_count(3, timeout=RESULT_MILLISECONDS)
    expect(preview.locator("#preview-status .fine")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    expect(preview.locator("#generate")).to_be_enabled()

    story = preview.locator("#story .thumbnail-item")
    expect(story.locator(".caption-label")).to_have_text(
        [
            "Reference photo",
            "Generated picture, simulated: 256 × 256",
            "Refined: 1024 × 1024",
            "Truth: the scene",
        ]
    )
    for number in range(4):
        picture = story.nth(number).locator("img")
        assert picture.evaluate("async picture => { await picture.decode(); return picture.naturalWidth; }") > 200
    expect(preview.locator("#preview-summary")).to_contain_text("simulated")
    assert gain(preview) > 1
    figures, seen = preview.locator("#figures"), preview.locator(".tabitem:visible")
    expect(figures).to_contain_text("closer to the truth")
    # The field's words are for those who open them.
    for word in ("HRRI", "LRGI", "HRGT", "PSNR", "dB"):
        assert not re.search(rf"\b{word}\b", seen.inner_text())
    figures.get_by_text("Details").click()
    assert "PSNR, object" in seen.inner_text()
    preview.locator("#preview-files").get_by_role("button").first.click()
    expect(preview.locator("#preview-files")).to_contain_text("condition_edges")

    preview.locator("#send").click()
    expect(preview.get_by_role("tab", name="Refine", exact=True)).to_have_attribute("aria-selected", "true")
    expect(preview.locator("#status")).to_contain_text("come from the preview")
    for name in ("reference", "generated"):
        expect(preview.locator(f"#{name}-pad img")).to_be_visible()
        expect(preview.locator(f"#{name}-note")).to_contain_text("By the given mask")
    preview.locator("#refine").click()
    expect(preview.locator("#status .fine")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    with preview.expect_download() as waiting:
        preview.locator("#download").click()
    with PIL.Image.open(waiting.value.path()) as refined:
        assert json.loads(refined.info["refgc-report"])["placed"]
        assert refined.size == (1024, 1024)


def test_a_click_marks_the_object_at_once(preview: Page, card: Path) -> None:
    give(preview, "scene", card)
    frame = frame_of(preview, "scene")
    preview.mouse.click(*place(frame, 0.5, 0.5))
    marks = frame.locator(".pad-marks .pad-object")
    expect(marks).to_have_count(1)
    expect(preview.locator("#preview-scene-note")).to_contain_text("is marked.")
    assert marked_share(preview, "scene") == pytest.approx(25, abs=2)
    picture = shown(preview, frame)
    assert picture.shape == (600, 800, 3)
    assert is_coloured(picture[300:330, 360:400])
    assert not is_coloured(picture[60:100, 60:100])
    box, mark = frame.bounding_box(), marks.bounding_box()
    assert box is not None
    assert mark is not None
    assert mark["x"] + mark["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=2)

    set_mode(preview, "scene", "Background")
    preview.mouse.click(*place(frame, 0.1, 0.1))
    expect(frame.locator(".pad-marks .pad-background")).to_have_count(1)
    undo, clear = preview.locator("#preview-scene-undo"), preview.locator("#preview-scene-clear")
    undo.click()
    expect(frame.locator(".pad-mark")).to_have_count(1)
    clear.click()
    expect(frame.locator(".pad-mark")).to_have_count(0)
    expect(clear).to_be_disabled()


@pytest.mark.slow
def test_a_box_is_dragged_or_given_by_two_corners_or_by_the_keyboard(preview: Page, card: Path) -> None:
    give(preview, "reference", card)
    frame = frame_of(preview, "reference")
    box = frame.locator(".pad-marks .pad-box")
    preview.mouse.move(*place(frame, 0.2, 0.2))
    preview.mouse.down()
    preview.mouse.move(*place(frame, 0.75, 0.85), steps=5)
    expect(frame.locator(".pad-band")).to_be_visible()
    preview.mouse.up()
    expect(box).to_have_count(1)
    assert box.evaluate("box => [parseFloat(box.style.left), parseFloat(box.style.width)]") == pytest.approx(
        [20, 55], abs=1
    )
    expect(preview.locator("#preview-reference-note")).to_contain_text("is marked.")
    assert marked_share(preview, "reference") == pytest.approx(25, abs=2)

    set_mode(preview, "reference", "Box")
    preview.mouse.click(*place(frame, 0.1, 0.1))
    preview.mouse.click(*place(frame, 0.9, 0.9))
    preview.wait_for_function(
        "Math.abs(parseFloat(document.querySelector('#preview-reference-pad .pad-box').style.width) - 80) < 1"
    )

    set_mode(preview, "reference", "Object")
    frame.focus()
    preview.keyboard.press("ArrowLeft")
    preview.keyboard.press("Shift+ArrowUp")
    expect(frame.locator(".pad-cross")).to_be_visible()
    preview.keyboard.press("Enter")
    dot = frame.locator(".pad-marks .pad-object")
    expect(dot).to_have_count(1)
    assert dot.evaluate("dot => [parseFloat(dot.style.left), parseFloat(dot.style.top)]") == pytest.approx([48, 49.6])
    expect(frame.locator(".pad-cross")).to_be_visible()
    expect(frame).to_be_focused()


@pytest.mark.slow
def test_uploads_are_found_by_themselves_and_made_into_a_story(preview: Page) -> None:
    give(preview, "scene", EXAMPLE.scene.source)
    note = preview.locator("#preview-scene-note")
    expect(note).to_contain_text("We looked for the object")
    give(preview, "reference", EXAMPLE.reference.source)
    expect(preview.locator("#preview-reference-note")).to_contain_text("it takes up 36%")
    # Now that the reference is there, its object is looked for.
    expect(note).to_contain_text("it takes up 22%")
    preview.locator("#generate").click()
    expect(preview.locator("#preview-status .fine")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    assert gain(preview) > 1


@pytest.mark.slow
def test_a_heic_photo_can_be_marked(preview: Page, phone_pair) -> None:
    give(preview, "reference", phone_pair.reference)
    frame = frame_of(preview, "reference")
    assert shown(preview, frame).shape == (384, 512, 3)
    preview.mouse.move(*place(frame, 0.2, 0.2))
    preview.mouse.down()
    preview.mouse.move(*place(frame, 0.6, 0.6), steps=5)
    preview.mouse.up()
    expect(preview.locator("#preview-reference-note")).to_contain_text("is marked.")


@pytest.mark.slow
def test_a_finger_marks_by_a_tap_and_scrolls_unless_it_draws_a_box(browser: Browser, server: str, card: Path) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(server)
        page.get_by_role("tab", name="DipRefGC preview").click()
        give(page, "scene", card)
        frame = frame_of(page, "scene")
        page.locator("#preview-scene-pad .pad-open").tap()
        page.touchscreen.tap(*place(frame, 0.5, 0.5))
        expect(frame.locator(".pad-object")).to_have_count(1)
        # The answer draws the picture anew, which would end a swipe.
        expect(page.locator("#preview-scene-note")).to_contain_text("is marked.")
        start = page.evaluate("window.scrollY")
        swipe(page, place(frame, 0.5, 0.5), (0, 12))
        page.wait_for_function(f"Math.abs(window.scrollY - {start}) > 30")
        assert frame.locator(".pad-mark").count() == 1

        set_mode(page, "scene", "Box")
        x, y = place(frame, 0.2, 0.2)
        start = page.evaluate("window.scrollY")
        swipe(page, (x, y), (20, 15))
        expect(frame.locator(".pad-box")).to_have_count(1)
        assert page.evaluate("window.scrollY") == start


@pytest.mark.slow
def test_what_is_missing_or_no_picture_is_said_in_a_sentence(preview: Page, card: Path, tmp_path: Path) -> None:
    problem = preview.locator("#preview-status").get_by_role("alert")
    preview.locator("#generate").click()
    expect(problem).to_have_text("Add the two pictures first: the reference photo and the scene.")
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    give(preview, "reference", text)
    note = preview.locator("#preview-reference-note").get_by_role("alert")
    expect(note).to_contain_text("The reference 'notes.png' is not a picture that can be read")
    expect(preview.locator("#preview-reference-pad .pad-frame")).to_be_hidden()
    preview.locator("#preview-reference").get_by_label("Clear").click()
    expect(note).to_be_hidden()

    give(preview, "reference", card)
    frame = frame_of(preview, "reference")
    preview.mouse.click(*place(frame, 0.5, 0.5))
    expect(frame.locator(".pad-mark")).to_have_count(1)
    set_mode(preview, "reference", "Background")
    preview.mouse.click(*place(frame, 0.5, 0.5))
    expect(note).to_contain_text("is marked as object and as background; take one mark back.")
    expect(frame.locator(".pad-mark")).to_have_count(1)
    expect(frame.locator(".pad-pending")).to_be_hidden()
    preview.locator("#generate").click()
    expect(problem).to_have_text("Add the scene first: the picture that the object is drawn into.")


@pytest.mark.slow
def test_fits_the_screen_in_both_themes(preview: Page, output_path: str) -> None:
    preview.get_by_role("button", name=EXAMPLE.meta.title, exact=True).click()
    expect(preview.locator("#preview-status .fine")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    preview.locator("#figures summary").click()
    expect(preview.locator("#figures table")).to_be_visible()
    for width, height, theme in SCREENS:
        preview.set_viewport_size({"width": width, "height": height})
        preview.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
        assert preview.evaluate("document.documentElement.scrollWidth") <= width
        cut_off = preview.evaluate(
            """() => [...document.querySelectorAll('#generate, #send, .pad-frame, #conditions, #story, #figures td')]
                .filter(part => part.getBoundingClientRect().right > innerWidth
                    || part.scrollWidth > part.clientWidth + 1)
                .map(part => part.outerHTML)"""
        )
        assert cut_off == []
        preview.screenshot(path=Path(output_path) / f"preview-{width}-{theme}.png", full_page=True)
