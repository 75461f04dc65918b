"""What a visitor does on the Refine tab, for the tests to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from refgc.page.examples import EXAMPLES_FOLDER, Example, find_examples

RESULT_MILLISECONDS = 120_000
PATIENCE_SECONDS = 30
EXAMPLES = find_examples(EXAMPLES_FOLDER)


def upload(page: Page, drop_zone: str, path: Path) -> None:
    """Gives a file; one that is there already is taken away first."""
    zone = page.locator(f"#{drop_zone}")
    if zone.get_by_label("Clear").count():
        zone.get_by_label("Clear").click()
    zone.locator("input[type=file]").set_input_files(path)


def frame_of(page: Page, name: str) -> Locator:
    """The picture to mark, when it is there."""
    frame = page.locator(f"#{name}-pad .pad-frame")
    expect(frame).to_be_visible()
    return frame


def give(page: Page, pair: Any) -> None:
    """Uploads both pictures and waits until the page shows them as it read them."""
    for name, path in (("reference", pair.reference), ("generated", pair.generated)):
        upload(page, name, path)
        expect(frame_of(page, name).locator("img")).to_be_visible()


def start(page: Page) -> None:
    """Presses the button and waits until the page says that work goes on."""
    page.locator("#refine").click()
    expect(page.locator("#cancel")).to_be_visible()


def refine(page: Page, title: str = "generated.png") -> None:
    shown = page.locator("#comparison .viewer-after")
    earlier = shown.get_attribute("src") or ""
    page.locator("#refine").click()
    expect(page.locator("#status .done")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    expect(shown).not_to_have_attribute("src", earlier)
    expect(page.locator("#caption")).to_have_text(title)


def shows(page: Page, example: Example) -> None:
    expect(page.locator("#caption")).to_have_text(example.meta.title, timeout=RESULT_MILLISECONDS)


def choose(page: Page, example: Example) -> None:
    page.locator("#examples").get_by_role("button", name=example.meta.title, exact=True).click()


def clear_screen(page: Page, pair: Any) -> None:
    """Waits for the example that is shown at first, so that what follows is told apart from it."""
    shows(page, EXAMPLES[0])
    give(page, pair)


def settle(page: Page) -> None:
    """Waits until the page no longer scrolls."""
    page.evaluate(
        """() => new Promise(done => {
            let last = scrollY, still = 0;
            const look = () => {
                still = scrollY === last ? still + 1 : 0;
                last = scrollY;
                still > 30 ? done() : requestAnimationFrame(look);
            };
            look();
        })"""
    )


def middle(locator: Locator) -> tuple[float, float]:
    box = locator.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def place(frame: Locator, x: float, y: float) -> tuple[float, float]:
    """Where shares of the picture's width and height are on the screen, once the picture rests there.

    The page sets a picture anew with each answer of the server; one that is replaced meanwhile is looked for again.
    """
    for _ in range(PATIENCE_SECONDS):
        box = frame.evaluate(
            """async element => {
                const seen = element.getBoundingClientRect();
                if (seen.top < 0 || seen.left < 0 || seen.bottom > innerHeight || seen.right > innerWidth)
                    element.scrollIntoView({ block: "center" });
                const where = () => JSON.stringify(element.getBoundingClientRect());
                for (let frame = 0, still = 0, last = where(); frame < 60; frame++, last = where()) {
                    await new Promise(requestAnimationFrame);
                    if (!element.isConnected) return null;
                    still = where() === last ? still + 1 : 0;
                    if (still === 10) return element.getBoundingClientRect().toJSON();
                }
                return null;
            }"""
        )
        if box is not None:
            return box["x"] + x * box["width"], box["y"] + y * box["height"]
    raise AssertionError("The picture does not come to rest.")


def shown_size(picture: Locator) -> Any:
    """[width, height] of the file that the browser shows."""
    return picture.evaluate(
        "async picture => { await picture.decode(); return [picture.naturalWidth, picture.naturalHeight]; }"
    )


def open_options(page: Page) -> None:
    page.locator("#options button").first.click()
    page.get_by_label("Seed").wait_for()


def fill_in(page: Page, label: str, value: str) -> None:
    """Types `value`, again where a part of the page that has only just unfolded sets itself back."""
    field = page.get_by_label(label)
    for _ in range(PATIENCE_SECONDS):
        field.fill(value)
        field.press("Tab")
        page.wait_for_timeout(1000)
        if field.input_value() == value:
            return
    raise AssertionError(f"{label} does not keep the value {value}.")


def download(page: Page, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator("#download").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path
