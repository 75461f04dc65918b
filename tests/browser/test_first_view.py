"""The first view: it comes whole, nothing in it moves by itself, and it comes even if a part is missing."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from benchmarks.page import WATCH_SHIFTS

# What the web's metric calls good is 0.1.
LARGEST_SHIFT = 0.05


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (360, 740),
        pytest.param(820, 1100, marks=pytest.mark.slow),
        (1440, 900),
        pytest.param(1920, 1080, marks=pytest.mark.slow),
    ],
)
def test_nothing_moves_by_itself(browser: Browser, server: str, width: int, height: int) -> None:
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        page.add_init_script(WATCH_SHIFTS)
        page.goto(server, wait_until="domcontentloaded")
        page.locator("#refine").wait_for()
        page.wait_for_function("[...document.querySelectorAll('#result img')].every(picture => picture.complete)")
        page.wait_for_timeout(2000)
        assert page.evaluate("window.layoutShift") < LARGEST_SHIFT


@pytest.mark.slow
def test_what_is_there_is_shown_even_if_a_part_never_comes(page: Page, server: str) -> None:
    def without_a_part(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace('["#refine"', '["#never", "#refine"', 1))

    page.route(f"{server}/", without_a_part)
    page.goto(server, wait_until="domcontentloaded")
    page.locator("#refine").wait_for(state="attached")
    expect(page.locator("#refine")).to_be_hidden()
    expect(page.locator("#refine")).to_be_visible()
