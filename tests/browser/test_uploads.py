"""Pictures that come another way than through the drop zones, and the names of files."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.refine_page import EXAMPLES, choose, download, frame_of, give, refine, shown_size, shows, upload

# A file as the clipboard or a drag brings it: (its bytes in base 64, its name, its type).
TRANSFER = """([content, name, type]) => {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    return transfer;
}"""
LONG_NAME = "a holiday photo of the teapot on the kitchen table in the evening light, second try.png"


def content_of(path: Path) -> list[str]:
    return [base64.b64encode(path.read_bytes()).decode(), path.name, "image/png"]


def paste(page: Page, path: Path, target: str = "body") -> None:
    """What Ctrl+V does while the clipboard has a picture and `target` has the focus."""
    transfer = page.evaluate_handle(TRANSFER, content_of(path))
    page.locator(target).evaluate(
        """(element, transfer) => element.dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }))""",
        transfer,
    )


def drop(page: Page, path: Path, target: str) -> bool:
    """Drops a file there; whether the browser would open it in place of the page."""
    transfer = page.evaluate_handle(TRANSFER, content_of(path))
    return bool(
        page.locator(target).evaluate(
            """(element, dataTransfer) => ["dragover", "drop"].map(kind => element.dispatchEvent(
                new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }))).some(Boolean)""",
            transfer,
        )
    )


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture whose size tells it from those of the pair."""
    path = tmp_path_factory.mktemp("square") / "square.png"
    PIL.Image.effect_noise((200, 200), 60).convert("RGB").save(path)
    return path


def shows_size(page: Page, name: str, size: list[int]) -> None:
    """Waits until the pad shows a picture of that size."""
    page.wait_for_function(
        """([name, [width, height]]) => {
            const picture = document.querySelector(`#${name}-pad img`);
            return picture?.naturalWidth === width && picture.naturalHeight === height;
        }""",
        arg=[name, size],
    )


def test_pasted_pictures_go_into_the_empty_pads_and_then_into_the_used_one(opened: Page, pair, square: Path) -> None:
    shows(opened, EXAMPLES[0])
    paste(opened, pair.reference)
    shows_size(opened, "reference", [512, 384])
    expect(frame_of(opened, "reference")).to_be_visible()
    paste(opened, pair.generated)
    shows_size(opened, "generated", [128, 96])
    expect(frame_of(opened, "generated")).to_be_visible()
    # Neither is empty now. The generated picture was used last; then the reference is.
    paste(opened, square)
    shows_size(opened, "generated", [200, 200])
    frame_of(opened, "reference").focus()
    paste(opened, pair.generated)
    shows_size(opened, "reference", [128, 96])
    assert shown_size(frame_of(opened, "generated").locator("img")) == [200, 200]


@pytest.mark.slow
def test_a_picture_pasted_into_a_text_field_is_left_to_the_field(opened: Page, pair) -> None:
    shows(opened, EXAMPLES[0])
    opened.locator("#options button").first.click()
    opened.get_by_label("Seed").wait_for()
    paste(opened, pair.reference, "#options input[type=number] >> nth=-1")
    opened.wait_for_timeout(1000)
    expect(opened.locator("#reference input[type=file]")).to_be_attached()
    expect(opened.locator("#generated input[type=file]")).to_be_attached()


def test_a_file_dropped_on_a_shown_picture_takes_its_place(opened: Page, pair, square: Path) -> None:
    shows(opened, EXAMPLES[0])
    give(opened, pair)
    assert not drop(opened, square, "#reference-pad .pad-frame")
    shows_size(opened, "reference", [200, 200])
    expect(opened.locator("#reference .filename")).to_have_attribute("title", "square.png")
    expect(opened.locator(".marking[data-drop]")).to_have_count(0)
    assert shown_size(frame_of(opened, "generated").locator("img")) == [128, 96]
    # A file that misses the pictures is not opened in place of the page, and changes nothing.
    assert not drop(opened, pair.generated, "h1")
    assert shown_size(frame_of(opened, "reference").locator("img")) == [200, 200]


@pytest.mark.slow
def test_a_file_dropped_on_a_useless_one_takes_its_place(opened: Page, pair, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    upload(opened, "reference", text)
    expect(opened.locator("#reference-note").get_by_role("alert")).to_be_visible()
    drop(opened, pair.reference, "#reference")
    shows_size(opened, "reference", [512, 384])
    expect(opened.locator("#reference-note").get_by_role("alert")).to_have_count(0)


def test_a_long_name_is_shortened_in_the_middle(opened: Page, pair, tmp_path: Path) -> None:
    shows(opened, EXAMPLES[0])
    long = tmp_path / LONG_NAME
    shutil.copy(pair.reference, long)
    upload(opened, "reference", long)
    frame_of(opened, "reference")
    cell = opened.locator("#reference .filename")
    expect(cell).to_have_attribute("title", LONG_NAME)
    head, tail = (cell.evaluate(f"cell => cell.dataset.{part}") for part in ("head", "tail"))
    assert head + tail == LONG_NAME
    assert tail.endswith("try.png")
    # The end is seen whole, within the cell, whatever there is room for.
    assert cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').textOverflow") == "ellipsis"


def test_a_camera_is_offered_where_a_finger_points(phone: Page, pair, opened: Page) -> None:
    expect(opened.locator(".pad-camera label").first).to_be_hidden()
    camera = phone.locator(".pads .pad-camera input")
    expect(camera).to_have_count(1)
    expect(camera).to_have_attribute("capture", "environment")
    expect(phone.locator(".pads .pad-camera label")).to_be_visible()
    camera.set_input_files(pair.reference)
    shows_size(phone, "reference", [512, 384])
    expect(phone.locator(".pads .pad-camera label")).to_be_hidden()


@pytest.fixture
def phone(browser: Browser, server: str) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(server, wait_until="domcontentloaded")
        shows(page, EXAMPLES[0])
        yield page


def test_a_download_has_the_visitor_s_name_and_the_chosen_format(opened: Page, pair, tmp_path: Path) -> None:
    shows(opened, EXAMPLES[0])
    given = tmp_path / "my dög (1).png"
    shutil.copy(pair.generated, given)
    upload(opened, "reference", pair.reference)
    frame_of(opened, "reference")
    upload(opened, "generated", given)
    frame_of(opened, "generated")
    refine(opened, opened.locator("#generated .filename").get_attribute("title") or "")
    png = download(opened, tmp_path)
    assert png.name == "my-dog-1-refined.png"
    for label, name, kind in (("JPEG", "my-dog-1-refined.jpg", "JPEG"), ("WebP", "my-dog-1-refined.webp", "WEBP")):
        opened.get_by_label(label, exact=True).check()
        expect(opened.locator("#download")).to_have_text(f"Download {label}")
        path = download(opened, tmp_path)
        assert path.name == name
        with PIL.Image.open(path) as picture:
            assert (picture.format, picture.size) == (kind, (512, 384))
            assert picture.info["icc_profile"]
    with PIL.Image.open(png) as picture:
        assert json.loads(picture.info["refgc-report"])["placed"]


@pytest.mark.slow
def test_the_download_of_an_example_is_named_by_its_folder(opened: Page, tmp_path: Path) -> None:
    choose(opened, EXAMPLES[1])
    shows(opened, EXAMPLES[1])
    expect(opened.locator("#download")).to_be_hidden()
    opened.locator("#refine").click()
    expect(opened.locator("#download")).to_be_visible(timeout=120_000)
    assert download(opened, tmp_path).name == f"{EXAMPLES[1].name}-refined.png"
