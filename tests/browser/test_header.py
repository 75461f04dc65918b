"""The header: what runs here, and the links to paper, citation and the API's documentation."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from refgc.page.app import PAPER, PROJECT_PAGE
from tests.browser.conftest import Watch
from tests.browser.test_embed import ELEMENT, PAGE, another_site

IN_SIGHT = "part => { const box = part.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; }"


def badge(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Paper and code").get_by_role("link", name=name, exact=True)


def ready(page: Page, address: str) -> Page:
    page.goto(address, wait_until="domcontentloaded")
    page.locator("#refine").wait_for(state="attached")
    return page


def shows_documentation(page: Page) -> None:
    """The panel names each endpoint and says what its parameters mean."""
    panel = page.locator(".api-docs")
    expect(panel.get_by_role("heading", name="API documentation")).to_be_visible()
    for endpoint in ("/refine", "/preview", "/examples"):
        expect(panel.locator(".post", has_text=re.compile(rf"^{endpoint}$"))).to_be_visible()
    expect(panel).to_contain_text("the sharp photo of the real object")
    expect(panel).not_to_contain_text("/open_page")


def test_it_says_what_runs_here_and_links_to_the_paper(opened: Page) -> None:
    said = opened.locator(".runs")
    expect(said).to_contain_text(re.compile("This page runs .* engine"))
    expect(said).to_contain_text("The paper’s trained weights are not public.")
    expect(badge(opened, "Paper")).to_have_attribute("href", PAPER)
    expect(badge(opened, "Project page")).to_have_attribute("href", PROJECT_PAGE)
    expect(badge(opened, "Code")).to_have_count(0)


@pytest.mark.parametrize(
    "width",
    [360, pytest.param(760, marks=pytest.mark.slow), pytest.param(820, marks=pytest.mark.slow), 1440],
)
def test_its_badges_stand_beside_one_another_and_on_the_screen(opened: Page, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 740})
    boxes = [part.bounding_box() for part in opened.locator(".badge").all()]
    assert len({round(box["y"]) for box in boxes if box}) == 1
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= 32 for box in boxes)


def test_cite_opens_the_citation(opened: Page) -> None:
    badge(opened, "Cite").click()
    expect(opened.get_by_role("tab", name="About")).to_have_attribute("aria-selected", "true")
    entry = opened.locator(".cite pre")
    expect(entry).to_be_focused()
    assert entry.evaluate(IN_SIGHT)


def test_a_link_to_the_citation_opens_it_too(page: Page, server: str, watch: Watch) -> None:
    ready(page, f"{server}/?tab=about#cite")
    entry = page.locator(".cite pre")
    expect(entry).to_be_focused()
    assert entry.evaluate(IN_SIGHT)


@pytest.mark.parametrize("name", ["API", pytest.param("Use this page from scripts", marks=pytest.mark.slow)])
def test_the_documentation_of_the_api_opens_and_closes(page: Page, server: str, name: str) -> None:
    ready(page, server).get_by_role("link", name=name, exact=True).click()
    shows_documentation(page)
    page.keyboard.press("Escape")
    expect(page.locator(".api-docs")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_a_link_opens_the_documentation_and_everybody_can_use_it(
    page: Page, server: str, watch: Watch, theme: str
) -> None:
    ready(page, f"{server}/?view=api&__theme={theme}")
    shows_documentation(page)
    expect(page.locator(".api-docs").get_by_role("button", name="Close")).to_be_visible()
    wrong = [rule for rule in Axe().run(page).response["violations"] if rule["impact"] in ("serious", "critical")]
    assert wrong == []
    page.locator(".api-docs").get_by_role("button", name="Close").click()
    expect(page.locator(".api-docs")).to_have_count(0)


def test_on_another_site_its_links_lead_to_this_one(page: Page, server: str, watch: Watch) -> None:
    with another_site(PAGE.format(embedded=ELEMENT.format(address=server))) as site:
        watch.own_sites.append(site)
        ready(page, site)
        badge(page, "Cite").click()
        expect(page.locator(".cite pre")).to_be_focused()
        with page.context.expect_page() as opening:
            badge(page, "API").click()
        opening.value.wait_for_url(f"{server}/?view=api")
        opening.value.close()


@pytest.mark.parametrize(
    ("theme", "colour"),
    [("dark", "rgb(14, 18, 19)"), pytest.param("light", "rgb(250, 250, 250)", marks=pytest.mark.slow)],
)
def test_the_body_has_the_themes_colour_whatever_the_system_prefers(
    browser: Browser, server: str, theme: str, colour: str
) -> None:
    with browser.new_context(viewport={"width": 1920, "height": 4000}) as context:
        page = context.new_page()
        page.emulate_media(color_scheme="light" if theme == "dark" else "dark")
        page.goto(f"{server}/?tab=about&__theme={theme}", wait_until="commit")
        page.locator("body").wait_for()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colour
        expect(page.get_by_role("heading", name="The task")).to_be_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colour
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == theme
        below = page.screenshot(clip={"x": 0, "y": 3990, "width": 4, "height": 4})
        assert below == page.screenshot(clip={"x": 0, "y": 0, "width": 4, "height": 4})
