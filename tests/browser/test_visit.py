"""What a visitor keeps: own pictures, own results, and the truth about how a result turned out."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.refine_page import EXAMPLES, choose, clear_screen, frame_of, refine, settle, shows

BY_NAME = {example.name: example for example in EXAMPLES}


def file_name(page: Page, pad: str) -> str:
    return page.locator(f"#{pad} .file-preview .filename").get_attribute("aria-label") or ""


def test_what_is_hardly_refined_is_no_success(opened: Page) -> None:
    shows(opened, EXAMPLES[0])
    expect(opened.locator("#summary .refined .outcome")).to_have_text("Refined")
    expect(opened.locator("#summary")).to_contain_text("Confidence")
    choose(opened, BY_NAME["vase"])
    shows(opened, BY_NAME["vase"])
    expect(opened.locator("#summary .partly .outcome")).to_have_text("Partly refined")
    expect(opened.locator("#summary")).to_contain_text("of the object could be refined: mark the object")
    expect(opened.locator("#summary")).not_to_contain_text("Confidence")


def test_the_two_pictures_change_places_with_their_marks(opened: Page, pair) -> None:
    clear_screen(opened, pair)
    frame_of(opened, "generated").click()
    expect(opened.locator("#generated-note")).to_contain_text("is marked")
    opened.locator("#swap").click()
    expect(opened.locator("#status")).to_contain_text("have changed places")
    assert "generated" in file_name(opened, "reference")
    assert "reference" in file_name(opened, "generated")
    expect(opened.locator("#reference-note")).to_contain_text("is marked")
    expect(opened.locator("#reference-pad .pad-object")).to_have_count(1)
    expect(opened.locator("#generated-pad .pad-object")).to_have_count(0)


@pytest.mark.slow
def test_results_and_own_pictures_outlast_examples_the_gallery_and_a_reload(opened: Page, pair) -> None:
    clear_screen(opened, pair)
    opened.get_by_label("2× the size").check()
    refine(opened)
    results = opened.locator("#results .thumbnail-item")
    expect(results).to_have_count(1)

    choose(opened, EXAMPLES[1])
    shows(opened, EXAMPLES[1])
    expect(results).to_have_count(1)
    opened.locator("#own").click()
    expect(opened.locator("#own")).to_be_hidden()
    assert "generated.png" in file_name(opened, "generated")

    opened.get_by_role("tab", name="Gallery", exact=True).click()
    opened.get_by_role("link", name="Try it in Refine").nth(2).click()
    shows(opened, EXAMPLES[2])
    assert "example=" not in opened.url
    expect(opened.get_by_role("tab", name="Refine", exact=True)).to_have_attribute("aria-selected", "true")
    expect(results).to_have_count(1)

    # With the result comes what it was made with.
    settle(opened)
    results.first.click()
    expect(opened.locator("#caption")).to_have_text("generated.png")
    expect(opened.get_by_label("2× the size")).to_be_checked()
    assert "generated.png" in file_name(opened, "generated")

    opened.reload(wait_until="domcontentloaded")
    expect(opened.locator("#caption")).to_have_text("generated.png")
    expect(results).to_have_count(1)
    expect(opened.locator("#generated .filename")).to_have_attribute("aria-label", "generated.png")
