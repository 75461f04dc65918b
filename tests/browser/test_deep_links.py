"""Links that open the page at a tab or an example, and links to what is not there."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from refgc.page.app import NO_SUCH_EXAMPLE, NO_SUCH_TAB
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.refine.tab import LINKED, NO_SUCH_SETTING
from tests.browser.conftest import Watch
from tests.browser.refine_page import EXAMPLES, choose, fill_in, frame_of, open_options, shows, upload


def open_link(page: Page, server: str, query: str) -> None:
    page.goto(f"{server}/?{query}", wait_until="domcontentloaded")
    page.get_by_role("tab", name="Refine").wait_for()


@pytest.mark.parametrize(
    ("name", "label"),
    [("refine", "Refine"), ("preview", "DipRefGC preview"), ("gallery", "Gallery"), ("about", "About")],
)
def test_a_link_opens_a_tab(page: Page, server: str, watch: Watch, name: str, label: str) -> None:
    open_link(page, server, f"tab={name}")
    expect(page.get_by_role("tab", name=label)).to_have_attribute("aria-selected", "true")


def test_a_link_opens_an_example_with_its_result(page: Page, server: str, watch: Watch) -> None:
    open_link(page, server, "example=camera")
    expect(page.get_by_role("tab", name="Refine")).to_have_attribute("aria-selected", "true")
    examples = {example.name: example.meta.description for example in find_examples(EXAMPLES_FOLDER)}
    expect(page.locator("#status")).to_contain_text(examples["camera"])
    expect(page.locator("#result img").first).to_be_visible()


def test_a_link_to_nothing_shows_the_first_tab_and_says_so(page: Page, server: str, watch: Watch) -> None:
    open_link(page, server, "tab=<b>nowhere</b>&example=nothing")
    expect(page.get_by_text(NO_SUCH_TAB)).to_be_visible()
    expect(page.get_by_text(NO_SUCH_EXAMPLE)).to_be_visible()
    expect(page.get_by_text("nowhere")).to_have_count(0)
    expect(page.get_by_role("tab", name="Refine")).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.slow
def test_a_link_chooses_the_theme(page: Page, server: str, watch: Watch, theme: str) -> None:
    page.emulate_media(color_scheme="light" if theme == "dark" else "dark")
    open_link(page, server, f"__theme={theme}&tab=about")
    expect(page.get_by_role("tab", name="About")).to_have_attribute("aria-selected", "true")
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")


def test_a_link_sets_the_options(page: Page, server: str, watch: Watch) -> None:
    open_link(page, server, "example=camera&scale=2&strength=0.35&seed=17")
    expect(page.locator("#status")).to_have_text(LINKED)
    for name in ("reference", "generated"):
        expect(frame_of(page, name).locator("img")).to_be_visible()
    expect(page.get_by_label("2× the size")).to_be_checked()
    open_options(page)
    expect(page.get_by_label("number input for Strength")).to_have_value("0.35")
    expect(page.get_by_label("Seed")).to_have_value("17")
    expect(page.get_by_text(NO_SUCH_SETTING)).to_have_count(0)


def test_settings_that_make_no_sense_are_ignored_and_that_is_said_once(page: Page, server: str, watch: Watch) -> None:
    open_link(page, server, "scale=3&strength=nan&seed=-4&engine=%3Cb%3Emagic&surroundings=nowhere")
    expect(page.get_by_text(NO_SUCH_SETTING)).to_have_count(1)
    shows(page, EXAMPLES[0])
    expect(page.get_by_label("4× the size")).to_be_checked()
    open_options(page)
    expect(page.get_by_label("number input for Strength")).to_have_value("1")
    expect(page.get_by_label("Seed")).to_have_value("0")
    expect(page.get_by_text("magic")).to_have_count(0)


def copied_link(page: Page) -> str:
    page.locator("#copy-link").click()
    expect(page.locator("#link-said")).to_have_text("The link is copied.")
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_the_copied_link_opens_the_page_with_the_same_settings(page: Page, server: str, watch: Watch) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_link(page, server, "__theme=light")
    shows(page, EXAMPLES[0])
    open_options(page)
    # Nothing differs from how the page opens.
    assert urlsplit(copied_link(page)).query == ""
    choose(page, EXAMPLES[3])
    shows(page, EXAMPLES[3])
    page.get_by_label("2× the size").check()
    fill_in(page, "Seed", "17")
    fill_in(page, "number input for Strength", "0.5")
    link = copied_link(page)
    assert link.startswith(f"{server}/?")
    assert parse_qs(urlsplit(link).query) == {
        "example": [EXAMPLES[3].name],
        "scale": ["2"],
        "seed": ["17"],
        "strength": ["0.5"],
    }
    page.goto(link, wait_until="domcontentloaded")
    expect(page.locator("#status")).to_have_text(LINKED)
    open_options(page)
    assert copied_link(page) == link


@pytest.mark.slow
def test_no_link_names_the_visitor_s_own_pictures(page: Page, server: str, watch: Watch, pair) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_link(page, server, "example=camera&scale=2")
    expect(page.locator("#status")).to_have_text(LINKED)
    upload(page, "generated", pair.generated)
    frame_of(page, "generated")
    open_options(page)
    assert urlsplit(copied_link(page)).query == "scale=2"
    # What was said of an earlier link does not stay.
    expect(page.locator("#link-said")).not_to_contain_text("copied")


@pytest.mark.slow
def test_without_a_clipboard_the_link_is_there_to_be_copied_by_hand(page: Page, server: str, watch: Watch) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    open_link(page, server, "scale=2")
    expect(page.locator("#status")).to_have_text(LINKED)
    open_options(page)
    page.locator("#copy-link").click()
    expect(page.locator("#link-said")).to_have_text(f"{server}/?scale=2")
    assert page.evaluate("getSelection().toString().trim()") == f"{server}/?scale=2"
