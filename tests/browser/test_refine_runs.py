"""Runs on the Refine tab while they go on: what is shown on the way, cancelling, leaving, failing, going back."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from uuid import uuid4

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Browser, Page, expect

from refgc.surroundings.weights import are_weights_here
from tests.browser.refine_page import (
    EXAMPLES,
    PATIENCE_SECONDS,
    RESULT_MILLISECONDS,
    choose,
    clear_screen,
    download,
    give,
    open_options,
    refine,
    shows,
    start,
    upload,
)
from tests.support.synthetic import SyntheticPair, make_synthetic_pair

# Keeps the engine busy for some seconds.
LARGE_SIDE = 512

# What the page showed, noted by the page itself, so that nothing quick is missed.
NOTING = """() => {
    window.noted = { stages: [], fractions: [], captions: [] };
    const note = () => {
        const add = (list, text) => { if (text && list.at(-1) !== text) list.push(text); };
        add(window.noted.stages, document.querySelector("#status .working [role=status]")?.textContent);
        add(window.noted.fractions, document.querySelector("#status progress")?.getAttribute("value"));
        add(window.noted.captions, document.querySelector("#caption h2")?.textContent);
    };
    new MutationObserver(note).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


@pytest.fixture(scope="module")
def large_pictures() -> SyntheticPair:
    return make_synthetic_pair(reference_side=1024, generated_side=LARGE_SIDE)


@pytest.fixture
def large_pair(large_pictures: SyntheticPair, tmp_path: Path) -> tuple[Path, Path]:
    return never_seen(large_pictures, tmp_path)


@pytest.fixture
def small_pair(tmp_path: Path) -> tuple[Path, Path]:
    return never_seen(make_synthetic_pair(), tmp_path / "small")


def never_seen(pictures: SyntheticPair, folder: Path) -> tuple[Path, Path]:
    """Files with pixels that were never given before, since the server knows what it has made."""
    folder.mkdir(exist_ok=True)
    paths = folder / "new reference.png", folder / "new generated.png"
    for path, pixels in zip(paths, (pictures.reference, pictures.generated), strict=True):
        picture = pixels.copy()
        picture[0, 0] = list(uuid4().bytes[:3])
        PIL.Image.fromarray(picture).save(path)
    return paths


def give_new(page: Page, pair: tuple[Path, Path]) -> None:
    shows(page, EXAMPLES[0])
    for name, path in zip(("reference", "generated"), pair, strict=True):
        upload(page, name, path)
        expect(page.locator(f"#{name}-pad img")).to_be_visible()


def endings(log: Path) -> Counter[str]:
    """How runs of the large pictures ended, by the server's notes."""
    notes = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return Counter(note["outcome"] for note in notes if note.get("generated") == [LARGE_SIDE, LARGE_SIDE])


def expect_cancelled(page: Page, log: Path, before: Counter[str]) -> None:
    """Waits until the server has noted that the one run since was cancelled."""
    for _ in range(PATIENCE_SECONDS):
        if endings(log) != before:
            break
        page.wait_for_timeout(1000)
    assert endings(log) - before == {"cancelled": 1}


def rested(page: Page) -> None:
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.locator("#refine")).to_be_enabled()


def test_stages_and_their_pictures_come_one_after_the_other(opened: Page, small_pair) -> None:
    give_new(opened, small_pair)
    opened.evaluate(NOTING)
    refine(opened, "new generated.png")
    rested(opened)
    noted = opened.evaluate("window.noted")
    assert {"Upscaling", "Finding the object", "Fusing"} <= set(noted["stages"])
    shares = [float(share) for share in noted["fractions"]]
    assert shares == sorted(shares)
    assert noted["captions"][-3:] == [
        "The picture, only enlarged",
        "The reference, fitted into place",
        "new generated.png",
    ]


@pytest.mark.skipif(not are_weights_here("best"), reason="the networks that draw surroundings are not here")
def test_plain_result_comes_first_and_better_surroundings_take_its_place(opened: Page, small_pair) -> None:
    give_new(opened, small_pair)
    open_options(opened)
    expect(opened.locator("#surroundings-times")).to_contain_text("At 1024 × 1024 pixels, fast takes")
    around, results = opened.locator("#surroundings"), opened.locator("#results .thumbnail-item")
    around.get_by_label("Best").check()
    start(opened)
    expect(opened.locator("#status .arrived")).to_contain_text(
        "Your result is here, with plain surroundings.", timeout=RESULT_MILLISECONDS
    )
    expect(opened.locator("#caption")).to_have_text("new generated.png")
    expect(opened.locator("#summary .report")).to_be_visible()
    expect(opened.locator("#download")).to_be_visible()
    opened.locator("#cancel").click()
    expect(opened.locator("#status")).to_contain_text("You see the result with plain surroundings")
    rested(opened)
    expect(results).to_have_count(1)
    plain = opened.locator("#comparison .viewer-after").get_attribute("src")

    around.get_by_label("Fast").check()
    opened.evaluate(NOTING)
    refine(opened, "new generated.png")
    noted = opened.evaluate("window.noted")
    assert any(stage.startswith("Your result is here, with plain surroundings.") for stage in noted["stages"])
    shares = [float(share) for share in noted["fractions"]]
    assert shares == sorted(shares)
    expect(results).to_have_count(2)
    assert opened.locator("#comparison .viewer-after").get_attribute("src") != plain
    opened.locator("#json button").first.click()
    expect(opened.locator("#json")).to_contain_text('"fast"')


@pytest.mark.slow
def test_cancelled_run_leaves_what_was_there_and_frees_the_engine(
    opened: Page, browser: Browser, server: str, server_log: Path, pair, small_pair, large_pair
) -> None:
    before = endings(server_log)
    give_new(opened, large_pair)
    with browser.new_context() as context:
        other = context.new_page()
        other.goto(server, wait_until="domcontentloaded")
        give_new(other, small_pair)
        start(opened)
        expect(opened.locator("#caption .in-the-making")).to_be_visible(timeout=RESULT_MILLISECONDS)
        start(other)
        opened.locator("#cancel").click()
        expect(opened.locator("#status")).to_contain_text("Cancelled")
        expect_cancelled(opened, server_log, before)
        rested(opened)
        expect(opened.locator("#caption")).to_have_text(EXAMPLES[0].meta.title)
        expect(opened.locator("#history")).to_be_hidden()
        expect(other.locator("#status .done")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    # What was cancelled does not come after all.
    expect(opened.locator("#caption")).to_have_text(EXAMPLES[0].meta.title)
    expect(opened.locator("#status")).to_contain_text("Cancelled")
    give(opened, pair)
    refine(opened)


@pytest.mark.slow
def test_visitor_who_waits_can_cancel(opened: Page, browser: Browser, server: str, large_pair, small_pair) -> None:
    with browser.new_context() as context:
        other = context.new_page()
        other.goto(server, wait_until="domcontentloaded")
        give_new(other, large_pair)
        give_new(opened, small_pair)
        start(other)
        expect(other.locator("#caption .in-the-making")).to_be_visible(timeout=RESULT_MILLISECONDS)
        start(opened)
        expect(opened.locator("#status .working")).to_contain_text("Waiting for your turn, you are next")
        opened.locator("#cancel").click()
        expect(opened.locator("#status")).to_contain_text("Cancelled")
        rested(opened)
        expect(other.locator("#status .done")).to_contain_text("Done", timeout=RESULT_MILLISECONDS)
    refine(opened, "new generated.png")


@pytest.mark.slow
def test_visitor_who_leaves_makes_way(
    opened: Page, browser: Browser, server: str, server_log: Path, small_pair, large_pair
) -> None:
    before = endings(server_log)
    give_new(opened, small_pair)
    with browser.new_context() as context:
        other = context.new_page()
        other.goto(server, wait_until="domcontentloaded")
        give_new(other, large_pair)
        start(other)
        expect(other.locator("#caption .in-the-making")).to_be_visible(timeout=RESULT_MILLISECONDS)
        other.close()
        expect_cancelled(opened, server_log, before)
    refine(opened, "new generated.png")


@pytest.mark.slow
def test_choosing_an_example_ends_the_run(opened: Page, server_log: Path, large_pair) -> None:
    before = endings(server_log)
    give_new(opened, large_pair)
    start(opened)
    expect(opened.locator("#caption .in-the-making")).to_be_visible(timeout=RESULT_MILLISECONDS)
    opened.evaluate(NOTING)
    choose(opened, EXAMPLES[1])
    shows(opened, EXAMPLES[1])
    rested(opened)
    expect_cancelled(opened, server_log, before)
    # The engine takes one after the other: when this is done, the one before would have been.
    refine(opened, EXAMPLES[1].meta.title)
    assert "new generated.png" not in opened.evaluate("window.noted.captions")


def test_failure_is_a_sentence_and_the_page_goes_on(opened: Page, pair, tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    PIL.Image.new("RGB", (5000, 1000), "olive").save(huge)
    clear_screen(opened, pair)
    earlier, verdict = opened.locator("#earlier"), opened.locator("#summary .outcome")
    sign = "one => getComputedStyle(one, '::before').content"
    expect(earlier).to_contain_text("This result is not of the pictures chosen now.")
    upload(opened, "generated", huge)
    expect(opened.locator("#generated-pad img")).to_be_visible()
    opened.locator("#refine").click()
    expect(opened.locator("#status").get_by_role("alert")).to_contain_text("choose scale 2")
    rested(opened)
    # What was there before is there again, and is no verdict on what has failed.
    expect(opened.locator("#caption")).to_have_text(EXAMPLES[0].meta.title)
    expect(earlier).to_be_visible()
    assert verdict.evaluate(sign) == '"Earlier result: "'
    upload(opened, "generated", pair.generated)
    expect(opened.locator("#generated-pad img")).to_be_visible()
    refine(opened)
    expect(earlier).to_be_hidden()
    assert verdict.evaluate(sign) == '"✓"'


@pytest.mark.slow
def test_earlier_results_are_shown_again_to_their_own_visitor_only(
    opened: Page, browser: Browser, server: str, pair, tmp_path: Path
) -> None:
    clear_screen(opened, pair)
    refine(opened)
    first = download(opened, tmp_path)
    opened.get_by_label("2× the size").check()
    refine(opened)
    results = opened.locator("#results .thumbnail-item")
    expect(results).to_have_count(2)
    expect(results.nth(0)).to_contain_text("generated.png: 2×")
    expect(results.nth(1)).to_contain_text("generated.png: 4×")
    expect(opened.locator("#summary")).to_contain_text("256 × 192 pixels")

    results.nth(1).click()
    expect(opened.locator("#summary")).to_contain_text("512 × 384 pixels")
    expect(opened.locator("#download")).to_be_visible()
    (tmp_path / "again").mkdir()
    again = download(opened, tmp_path / "again")
    assert again.read_bytes() == first.read_bytes()
    expect(results).to_have_count(2)
    with PIL.Image.open(io.BytesIO(first.read_bytes())) as picture:
        assert json.loads(picture.info["refgc-report"])["scale"] == 4
        assert np.asarray(picture).shape == (384, 512, 3)

    with browser.new_context() as context:
        other = context.new_page()
        other.goto(server, wait_until="domcontentloaded")
        shows(other, EXAMPLES[0])
        expect(other.locator("#history")).to_be_hidden()
