"""The viewer of a result: divider, zoom, pan, the object alone, the reference beside it, and every pixel on zoom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Locator, Page, expect

from refgc.imaging.image import Image
from refgc.page.pictures import write_result
from refgc.webui.viewer import SCRIPT, STYLE, ViewedPicture, ViewedReference, viewer_html
from tests.browser.refine_page import EXAMPLES, middle, settle, shows
from tests.support.reports import make_report, make_result

SIZE = (4096, 3072)
BOX = (3000, 600, 3400, 900)


@pytest.fixture
def viewer(opened: Page) -> Locator:
    shows(opened, EXAMPLES[0])
    found = opened.locator("#comparison refgc-viewer")
    found.scroll_into_view_if_needed()
    settle(opened)
    return found


def scale(viewer: Locator) -> float:
    """Screen pixels for a pixel of the picture."""
    return float(viewer.locator(".viewer-after").evaluate("one => one.getBoundingClientRect().width")) / float(
        viewer.evaluate("one => one.size[0]")
    )


def at(viewer: Locator) -> float:
    return float(viewer.locator(".viewer-divider").get_attribute("aria-valuenow") or "nan") / 100


def press(viewer: Locator, name: str) -> None:
    viewer.get_by_role("button", name=name).click()


def test_it_fills_the_column_and_is_in_view(opened: Page, viewer: Locator) -> None:
    column = opened.locator("#result").bounding_box()
    pane = viewer.locator(".viewer-comparison").bounding_box()
    assert column is not None
    assert pane is not None
    assert pane["width"] == pytest.approx(column["width"], abs=2)
    assert pane["width"] > 600
    opened.set_viewport_size({"width": 1440, "height": 900})
    opened.evaluate("scrollTo(0, 0)")
    expect(viewer.locator(".viewer-bar")).to_be_in_viewport(ratio=1)


def test_a_click_brings_the_divider_there(opened: Page, viewer: Locator) -> None:
    pane = viewer.locator(".viewer-comparison")
    box = pane.bounding_box()
    assert box is not None
    opened.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 40)
    assert at(viewer) == pytest.approx(0.8, abs=0.01)
    # What lies left of the divider is the picture before.
    clip = viewer.locator(".viewer-after").evaluate("one => one.style.clipPath")
    assert clip.startswith("inset(0px 0px 0px ")


def test_wheel_zooms_where_it_points_after_a_click_and_drag_pans(opened: Page, viewer: Locator) -> None:
    pane = viewer.locator(".viewer-comparison")
    x, y = middle(pane)
    whole = scale(viewer)
    opened.mouse.move(x + 100, y + 50)
    opened.mouse.wheel(0, -300)
    settle(opened)
    assert scale(viewer) == pytest.approx(whole), "without a click the page scrolls"
    viewer.scroll_into_view_if_needed()
    settle(opened)
    x, y = middle(pane)
    # The picture may be narrower than its pane, so what is under the middle stays there.
    opened.mouse.click(x, y + 50)
    place = """([one, x, y]) => {
        const box = one.getBoundingClientRect();
        return [(x - box.left) / box.width, (y - box.top) / box.height];
    }"""
    picture = viewer.locator(".viewer-after").element_handle()
    before = opened.evaluate(place, [picture, x, y + 50])
    for _ in range(6):
        opened.mouse.wheel(0, -100)
    opened.wait_for_function("one => one.hasAttribute('data-zoomed')", arg=viewer.element_handle())
    assert scale(viewer) > 1.5 * whole
    assert opened.evaluate(place, [picture, x, y + 50]) == pytest.approx(before, abs=0.01)
    left = viewer.locator(".viewer-after").evaluate("one => one.getBoundingClientRect().left")
    opened.mouse.move(x + 150, y + 80)
    opened.mouse.down()
    opened.mouse.move(x + 110, y + 80, steps=4)
    opened.mouse.up()
    moved = viewer.locator(".viewer-after").evaluate("one => one.getBoundingClientRect().left")
    assert moved == pytest.approx(left - 40, abs=6)
    press(viewer, "Fit the whole picture")
    assert scale(viewer) == pytest.approx(whole)


def test_object_and_pixels_and_keys(opened: Page, viewer: Locator) -> None:
    whole = scale(viewer)
    press(viewer, "Show the object alone")
    left, top, right, bottom = viewer.evaluate("one => one.box")
    pane = viewer.locator(".viewer-comparison").bounding_box()
    assert pane is not None
    shown = max((right - left) * scale(viewer) / pane["width"], (bottom - top) * scale(viewer) / pane["height"])
    assert 0.75 < shown < 1
    press(viewer, "Show the object alone")
    assert scale(viewer) == pytest.approx(whole)
    press(viewer, "One pixel of the picture for each of the screen")
    assert scale(viewer) == pytest.approx(1)
    viewer.get_by_role("slider").focus()
    opened.keyboard.press("0")
    assert scale(viewer) == pytest.approx(whole)
    opened.keyboard.press("+")
    assert scale(viewer) > whole


def test_reference_is_beside_and_zooms_along(viewer: Locator) -> None:
    reference = viewer.locator(".viewer-reference")
    expect(reference).to_be_hidden()
    press(viewer, "Show the reference photo beside it")
    expect(reference).to_be_visible()
    photo = "one => one.getBoundingClientRect().width"
    before = reference.locator("img").evaluate(photo)
    press(viewer, "One pixel of the picture for each of the screen")
    assert reference.locator("img").evaluate(photo) > 1.1 * before


@pytest.mark.slow
def test_full_screen(opened: Page, viewer: Locator) -> None:
    press(viewer, "Full screen")
    opened.wait_for_function("document.fullscreenElement?.localName === 'refgc-viewer'")
    pane = viewer.locator(".viewer-comparison").bounding_box()
    assert pane is not None
    assert pane["height"] > 0.75 * opened.evaluate("innerHeight")
    opened.keyboard.press("Escape")


@pytest.mark.parametrize("placed", [True, False])
def test_reference_shows_the_same_spot(page: Page, tmp_path: Path, placed: bool) -> None:
    # The reference shows the object twice as large as the picture, turned by a quarter, and elsewhere.
    placement = (0.0, -2.0, 900.0, 2.0, 0.0, -100.0, 0.0, 0.0, 1.0) if placed else None
    reference = ViewedReference(ViewedPicture("reference.png"), (1000, 1200), placement)
    picture = ViewedPicture("picture.png")
    markup = viewer_html(picture, picture, (600, 400), title="Cup", box=(280, 180, 320, 220), reference=reference)
    PIL.Image.new("RGB", (600, 400)).save(tmp_path / "picture.png")
    PIL.Image.new("RGB", (1000, 1200)).save(tmp_path / "reference.png")
    script, style = SCRIPT.read_text("utf-8"), STYLE.read_text("utf-8")
    (tmp_path / "page.html").write_text(f"<style>{style}</style>{markup}<script>{script}</script>", "utf-8")
    page.goto(f"file://{tmp_path}/page.html")
    viewer = page.locator("refgc-viewer")
    press(viewer, "Show the reference photo beside it")
    press(viewer, "Show the object alone")
    # What is in the middle of both panes, in pixels of each picture, and their scales.
    spot = """one => ["comparison", "reference"].map(name => {
        const pane = one.querySelector(`.viewer-${name}`).getBoundingClientRect();
        const image = one.querySelector(`.viewer-${name} img`);
        const box = image.getBoundingClientRect(), scale = box.width / image.naturalWidth;
        const middle = (from, length, start) => (from + length / 2 - start) / scale;
        return [middle(pane.left, pane.width, box.left), middle(pane.top, pane.height, box.top), scale];
    })"""
    (x, y, scale_here), (there_x, there_y, scale_there) = viewer.evaluate(spot)
    assert (x, y) == pytest.approx((300, 200), abs=1)
    wanted = (900 - 2 * 199.5 + 0.5, 2 * 299.5 - 100 + 0.5) if placed else (500, 600)
    assert (there_x, there_y) == pytest.approx(wanted, abs=1)
    assert scale_there == pytest.approx(scale_here * (1 / 2 if placed else 600 / 1200), rel=0.01)


@pytest.fixture
def large(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Locator:
    """The viewer of a result of 4096 pixels, alone on a page."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    picture = Image(np.kron(noise, np.ones((8, 8, 1), np.uint8)))
    report = make_report(output_size=SIZE, object_box=BOX)
    result: Any = make_result(make_report())
    result = type(result)(picture, report, {"upscaled": picture})
    shown = write_result(result, Image(noise), tmp_path / "refined")
    markup = shown.viewer("Large").replace('="folder:', f'="file://{tmp_path}/')
    script, style = SCRIPT.read_text("utf-8"), STYLE.read_text("utf-8")
    (tmp_path / "page.html").write_text(f"<style>{style}</style>{markup}<script>{script}</script>", "utf-8")
    page.goto(f"file://{tmp_path}/page.html")
    return page.locator("refgc-viewer")


def test_large_result_shows_a_light_picture_first_and_every_pixel_on_zoom(large: Locator) -> None:
    widths = "one => [...one.querySelectorAll('.viewer-comparison img')].map(each => each.naturalWidth)"
    large.page.wait_for_function(f"one => ({widths})(one).every(width => width === 2048)", arg=large.element_handle())
    press(large, "Show the object alone")
    large.page.wait_for_function(f"one => ({widths})(one).every(width => width === 4096)", arg=large.element_handle())


@pytest.mark.parametrize("width", [360, 820, 1440])
@pytest.mark.parametrize("size", [(400, 400), (180, 400), (60, 400), (400, 180)], ids=str)
def test_no_label_is_half_outside_its_picture(page: Page, tmp_path: Path, width: int, size: tuple[int, int]) -> None:
    picture = ViewedPicture("picture.png")
    markup = viewer_html(picture, picture, size, title="Cup", reference=ViewedReference(picture, size))
    PIL.Image.new("RGB", size, "olive").save(tmp_path / "picture.png")
    script, style = SCRIPT.read_text("utf-8"), STYLE.read_text("utf-8")
    (tmp_path / "page.html").write_text(f"<style>{style}</style>{markup}<script>{script}</script>", "utf-8")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"file://{tmp_path}/page.html")
    viewer = page.locator("refgc-viewer")
    # [left, right, bottom] of each label and of its picture.
    places = """one => [...one.querySelectorAll(".viewer-pane:not([hidden]) .viewer-label")].map(label => {
        const edges = part => ["left", "right", "bottom"].map(side => part.getBoundingClientRect()[side]);
        return [edges(label), edges(label.closest(".viewer-pane").querySelector("img"))];
    })"""
    for labels in (2, 3):
        found = viewer.evaluate(places)
        assert len(found) == labels
        for (left, right, bottom), (first, last, lowest) in found:
            inside = first <= left and right <= last and bottom <= lowest
            # Beside a picture that is too narrow for them.
            assert inside or (size[0] == 60 and (right <= first or left >= last))
        (_, before_ends, _), (after_begins, _, _) = found[0][0], found[1][0]
        assert before_ends < after_begins
        if labels == 2:
            press(viewer, "Show the reference photo beside it")
