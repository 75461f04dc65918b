"""What everybody can use: each tab judged by axe-core, names for all pictures, and all of it worked by the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watch
from tests.browser.refine_page import EXAMPLES, RESULT_MILLISECONDS, choose, open_options, shows

GRAVE = ("serious", "critical")
# More than any tab of the page has parts to reach.
MOST_STEPS = 90
PICTURES_WITHOUT_NAMES = """() => [...document.querySelectorAll("img")]
    .filter(picture => picture.checkVisibility() && !picture.alt.trim()).map(picture => picture.outerHTML)"""
FOCUS_RING = """() => {
    const ringed = (part, pseudo) => {
        const style = getComputedStyle(part, pseudo);
        return style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2;
    };
    const part = document.activeElement;
    const drawn = getComputedStyle(part).opacity !== "0" && part.checkVisibility();
    // Where what has the focus is not drawn itself, what is drawn in its place bears the ring.
    const instead = [part.closest("label"), ...part.querySelectorAll("*"), ...part.parentElement.querySelectorAll("i")];
    return (drawn && ringed(part)) || instead.some(other => other && (ringed(other) || ringed(other, "::after")));
}"""
FOCUSED_NAME = """() => {
    const part = document.activeElement;
    const name = part.getAttribute("aria-label") || part.labels?.[0]?.textContent || part.textContent;
    return part === document.body ? "" : name.replace("▼", "").replace(/\\s+/g, " ").trim();
}"""


def judge(page: Page, state: str) -> list[str]:
    """What is wrong with the page as it stands."""
    found: dict[str, Any] = Axe().run(page).response
    wrong = [
        f"{state}: {rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
    wrong += [f"{state}: no name for {picture}" for picture in page.evaluate(PICTURES_WITHOUT_NAMES)]
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        wrong.append(f"{state}: wider than the screen")
    return wrong


def judge_with_problem(page: Page, where: str) -> list[str]:
    """As `judge`, with the sentence that nothing was given."""
    page.locator("#refine").click()
    expect(page.locator("#status .problem")).to_be_visible()
    return judge(page, where)


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def walk(page: Page) -> list[str]:
    """Names of what the tabulator key reaches one after the other, each seen to be where the keyboard is."""
    names: list[str] = []
    # From the top, wherever something was clicked last.
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        name = page.evaluate(FOCUSED_NAME)
        if page.evaluate("document.activeElement === document.body"):
            return names
        assert page.evaluate(FOCUS_RING), f"it is not seen that the keyboard is at {name!r}"
        names.append(name)
    raise AssertionError(f"The keyboard does not come out of {names}.")


def screens(page: Page) -> Iterator[str]:
    """The page as it stands, on a phone and on a desk, light and dark; yields which it is."""
    for width, height in ((360, 740), (1440, 900)):
        for theme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
            yield f"{width} pixels wide, {theme}"


def judge_everywhere(page: Page, state: str) -> list[str]:
    return [complaint for screen in screens(page) for complaint in judge(page, f"{state}, {screen}")]


@pytest.mark.slow
def test_every_tab_is_accessible_empty_and_with_a_result(page: Page, server: str, watch: Watch) -> None:
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text) if message.type == "warning" else None)
    page.goto(f"{server}/?__theme=light", wait_until="domcontentloaded")
    # A colour on its way to another is no colour to judge.
    page.add_style_tag(content="*, ::before, ::after { transition: none !important; animation: none !important; }")
    shows(page, EXAMPLES[0])
    wrong = []
    for screen in screens(page):
        wrong += judge(page, f"Refine, at first, {screen}")
        rows = page.get_by_role("tab").evaluate_all("tabs => new Set(tabs.map(tab => tab.offsetTop)).size")
        assert rows == 1
        page.evaluate("window.scrollTo(0, 0)")
        expect(page.locator("#refine")).to_be_in_viewport(ratio=1)
    for screen in screens(page):
        wrong += judge_with_problem(page, f"Refine, with nothing given, {screen}")
    choose(page, EXAMPLES[1])
    shows(page, EXAMPLES[1])
    page.locator("#refine").click()
    expect(page.locator("#steps")).to_be_visible(timeout=RESULT_MILLISECONDS)
    open_options(page)
    for accordion in ("#code", "#json"):
        page.locator(f"{accordion} button").first.click()
    expect(page.locator("#python textarea")).to_be_visible()
    wrong += judge_everywhere(page, "Refine, with a result and everything unfolded")

    open_tab(page, "DipRefGC preview")
    wrong += judge_everywhere(page, "Preview, at first")
    page.locator("#preview-examples .thumbnail-item").first.click()
    expect(page.locator("#figures summary")).to_be_visible(timeout=RESULT_MILLISECONDS)
    page.locator("#figures summary").click()
    for accordion in ("#preview-options", "#preview-files"):
        page.locator(f"{accordion} button").first.click()
    expect(page.get_by_label("Caption")).to_be_visible()
    wrong += judge_everywhere(page, "Preview, with a result and everything unfolded")

    open_tab(page, "Gallery")
    expect(page.locator("#paper-cards")).not_to_contain_text("Fetching")
    wrong += judge_everywhere(page, "Gallery")
    page.locator(".card-open").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    wrong += judge_everywhere(page, "Gallery, a card looked at closely")
    page.keyboard.press("Escape")
    open_tab(page, "About")
    expect(page.get_by_role("heading", name="The task")).to_be_visible()
    wrong += judge_everywhere(page, "About")
    assert wrong == [], "\n".join(wrong)
    assert warnings == []


def test_everything_is_reached_and_worked_by_the_keyboard(opened: Page) -> None:
    shows(opened, EXAMPLES[0])
    open_options(opened)
    reached = walk(opened)
    expected = [
        *("Refine", "DipRefGC preview", "Gallery", "About"),
        *(
            "Reference photo: Drop File Here - or - Click to Upload",
            "Generated picture: Drop File Here - or - Click to Upload",
        ),
        *("Refine", "4× the size", "Options", "range slider for Strength", "Seed"),
        *(example.meta.title for example in EXAMPLES),
        f"{EXAMPLES[0].meta.title}: divider between Before and After",
        *("Zoom in", "Fit the whole picture", "Show the object alone", "Full screen"),
        *("Use as code", "Full report (JSON)"),
    ]
    left = iter(reached)
    missing = [name for name in expected if name not in left]
    assert missing == [], f"not reached, or not in this order: {reached}"

    strength = opened.get_by_label("range slider for Strength")
    strength.focus()
    opened.keyboard.press("ArrowLeft")
    expect(strength).to_have_value("0.95")

    for tab, parts in (
        (
            "DipRefGC preview",
            ["Reference photo: Drop File Here - or - Click to Upload", "Generate and refine", "Options"],
        ),
        ("Gallery", [f"{EXAMPLES[0].meta.title}: divider between before and after"]),
        ("About", ["BibTeX entry", "Copy BibTeX"]),
    ):
        opened.get_by_role("tab", name=tab, exact=True).focus()
        opened.keyboard.press("Enter")
        expect(opened.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
        reached = walk(opened)
        assert [part for part in parts if part not in reached] == [], reached
