"""Links that open the page at a tab or an example, and links to what is not there."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from refgc.page.app import NO_SUCH_EXAMPLE, NO_SUCH_TAB
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from tests.browser.conftest import Watch


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
def test_a_link_chooses_the_theme(page: Page, server: str, watch: Watch, theme: str) -> None:
    page.emulate_media(color_scheme="light" if theme == "dark" else "dark")
    open_link(page, server, f"__theme={theme}&tab=about")
    expect(page.get_by_role("tab", name="About")).to_have_attribute("aria-selected", "true")
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
