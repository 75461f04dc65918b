"""The study as people take part: on a desktop and a phone, by keys, by touch, by eye and by ear."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from refgc.study.definition import Study
from refgc.study.store import read_records
from tests.support.study import QUESTIONS, make_study

SAID, PROBLEM = "#study [role=status]", "#study [role=alert]"
GRAVE = ("serious", "critical")


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process of a study's page."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refgc", "study", "serve", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "The page is at " in line:
                yield line.partition("The page is at ")[2].split()[0], process
                break
        else:
            raise RuntimeError(f"The study did not start:\n{''.join(said)}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    root = tmp_path_factory.mktemp("study")
    return root / "study", make_study(root, items=5, side=128)


@pytest.fixture(scope="module")
def address(study: tuple[Path, Study]) -> Iterator[str]:
    with serving(study[0]) as (address, _):
        yield address


@pytest.fixture
def watched(page: Page, address: str) -> Iterator[list[str]]:
    """Fails the test at its end if the page complained or asked an outside host for anything."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((address, "data:")) else complaints.append(asked.url),
    )
    yield complaints
    assert complaints == []


def begin(page: Page, address: str) -> str:
    """The page with its first pictures; the answer is the person's code."""
    page.goto(address)
    page.get_by_role("button", name="I agree, and begin").click()
    # Empty until the server has answered.
    expect(page.locator(".large-code")).to_have_text(re.compile(r"\S"))
    code = page.locator(".large-code").inner_text()
    page.get_by_role("button", name="Show the first pictures").click()
    shows(page, 1)
    return code


def shows(page: Page, number: int) -> None:
    """Waits until a set of pictures can be judged."""
    expect(page.locator("#trial-title")).to_have_text(f"Set {number} of 6")
    expect(page.locator("fieldset:enabled")).to_have_count(3)
    assert page.evaluate("[...document.querySelectorAll('.frame img')].every((one) => one.naturalWidth > 0)")


def zooms(page: Page) -> list[str]:
    """How each picture is moved and enlarged."""
    return page.evaluate("[...document.querySelectorAll('.frame img')].map((one) => one.style.transform)")  # type: ignore[no-any-return]


def test_a_person_takes_part_by_keys_alone(
    page: Page, address: str, study: tuple[Path, Study], watched: list[str]
) -> None:
    code = begin(page, address)
    expect(page.locator(".frame")).to_have_count(6)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.keyboard.press("2")
    expect(page.locator(SAID)).to_contain_text("Result 2. Which result shows the detail")
    expect(page.locator("fieldset").nth(0).get_by_role("radio", name="2")).to_be_checked()
    page.keyboard.press("Enter")
    shows(page, 1)
    page.keyboard.press("0")
    # One question back, which is answered anew.
    page.keyboard.press("Backspace")
    page.keyboard.press("3")
    # There are four results.
    page.keyboard.press("7")
    page.keyboard.press("4")
    expect(page.get_by_role("button", name="Next")).to_be_enabled()
    page.keyboard.press("Enter")
    shows(page, 2)

    # Who comes back goes on where it was, and the code is still there.
    page.reload()
    expect(page.get_by_label("You have a code already?")).to_have_value(code)
    page.get_by_role("button", name="Go on").click()
    for number in range(2, 7):
        shows(page, number)
        for _ in QUESTIONS:
            page.keyboard.press("1")
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    record = next(one for one in read_records(*study) if one.answered == 6)
    first = record.showings[0]
    order = first.showing.order
    assert first.answers == {"refinement": order[1], "detail": order[2], "overall": order[3]}
    assert first.seconds is not None
    assert first.seconds > 0
    assert all(shown.answers == dict.fromkeys(QUESTIONS, shown.showing.order[0]) for shown in record.showings[1:])


def test_all_pictures_are_zoomed_together_by_mouse_wheel_and_keys(page: Page, address: str, watched: list[str]) -> None:
    begin(page, address)
    assert set(zooms(page)) == {""}
    box = page.locator(".frame").nth(3).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.25)
    (near,) = set(zooms(page))
    assert "scale(3)" in near
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 30)
    page.mouse.up()
    (moved,) = set(zooms(page))
    assert moved != near
    page.keyboard.press("ArrowRight")
    (further,) = set(zooms(page))
    assert further != moved
    page.mouse.wheel(0, -300)
    page.wait_for_function("!document.querySelector('.frame img').style.transform.includes('scale(3)')")
    assert len(set(zooms(page))) == 1
    page.keyboard.press("z")
    assert set(zooms(page)) == {""}
    page.get_by_role("button", name="Zoom in").click()
    assert "scale(1.5)" in zooms(page)[0]
    page.get_by_role("button", name="Fit").click()
    assert set(zooms(page)) == {""}
    # The next pictures are seen whole again, and what was dragged was no answer.
    expect(page.locator("input:checked")).to_have_count(0)


def test_letters_can_be_turned_off(page: Page, address: str, watched: list[str]) -> None:
    begin(page, address)
    page.get_by_role("button", name="Keys").click()
    page.keyboard.press("1")
    page.keyboard.press("z")
    expect(page.locator("input:checked")).to_have_count(0)
    assert set(zooms(page)) == {""}
    page.locator("fieldset").nth(1).get_by_role("radio", name="No difference").click()
    expect(page.locator("input:checked")).to_have_count(1)


def test_somebody_withdraws(page: Page, address: str, study: tuple[Path, Study], watched: list[str]) -> None:
    code = begin(page, address)
    before = sum(record.withdrawn for record in read_records(*study))
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Withdraw").click()
    assert sum(record.withdrawn for record in read_records(*study)) == before
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_role("heading", name="Your answers are deleted")).to_be_focused()
    assert sum(record.withdrawn for record in read_records(*study)) == before + 1
    page.reload()
    page.get_by_label("You have a code already?").fill(code)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(PROBLEM)).to_contain_text("Nobody has this code")
    watched.clear()  # the browser itself notes that the code was refused


def test_answers_wait_for_a_server_that_is_gone(page: Page, tmp_path: Path) -> None:
    made = make_study(tmp_path, items=5, side=128)
    folder = tmp_path / "study"
    with serving(folder) as (address, process):
        begin(page, address)
        process.kill()
        process.wait(20)
        for key in ("1", "2", "3", "Enter"):
            page.keyboard.press(key)
        expect(page.locator(PROBLEM)).to_contain_text("not saved yet")
    with serving(folder, "--port", address.rpartition(":")[2]):
        shows(page, 2)
        expect(page.locator(PROBLEM)).to_be_empty()
    (record,) = read_records(folder, made)
    assert record.answered == 1


def test_a_phone_shows_two_columns_and_zooms_by_touch(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    begin(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [frame.bounding_box() for frame in page.locator(".frame").all()]
    assert len({round(box["x"]) for box in boxes if box}) == 2
    assert all(box and box["width"] > 160 for box in boxes)
    page.locator(".frame").nth(2).tap()
    assert len(set(zooms(page))) == 1
    assert "scale(3)" in zooms(page)[0]
    page.locator(".frame").nth(2).tap()
    assert set(zooms(page)) == {""}
    for question in range(3):
        page.locator("fieldset").nth(question).get_by_role("radio", name="2").tap()
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('.answer, button:not([hidden])')].filter((one) => one.offsetHeight)"
        ".map((one) => Math.min(one.offsetHeight, one.offsetWidth)))"
    )
    # WCAG 2.2: 24 pixels for what is touched.
    assert smallest >= 36
    page.get_by_role("button", name="Next").tap()
    shows(page, 2)
    context.close()


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_the_pictures_fit_the_window(page: Page, address: str, width: int, watched: list[str]) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    begin(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width > 560:
        # Pictures and questions are seen at once.
        assert page.evaluate("document.documentElement.scrollHeight") <= 900


def test_the_page_is_accessible(browser: Browser, address: str) -> None:
    wrong: dict[str, list[Any]] = {}

    def judge(page: Page, name: str) -> None:
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in GRAVE]
        if found:
            wrong[name] = [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]

    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.emulate_media(reduced_motion="reduce")
        page.goto(address)
        judge(page, f"{scheme}: consent")
        page.get_by_label("You have a code already?").fill("none")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(PROBLEM)).not_to_be_empty()
        judge(page, f"{scheme}: refused")
        page.get_by_role("button", name="I agree, and begin").click()
        expect(page.get_by_role("heading", name="Your code")).to_be_focused()
        judge(page, f"{scheme}: code")
        page.get_by_role("button", name="Show the first pictures").click()
        shows(page, 1)
        judge(page, f"{scheme}: pictures")
        for key in ("1", "2", "0", "z"):
            page.keyboard.press(key)
        judge(page, f"{scheme}: answered")
        for number in range(1, 7):
            shows(page, number)
            for _ in QUESTIONS:
                page.keyboard.press("1")
            page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Thank you")).to_be_focused()
        judge(page, f"{scheme}: end")
        context.close()
    assert wrong == {}


def test_each_answer_has_a_name_and_its_question(page: Page, address: str, watched: list[str]) -> None:
    begin(page, address)
    group = page.get_by_role("group", name="Which result is best overall?")
    expect(group.get_by_role("radio")).to_have_count(5)
    expect(group.get_by_role("radio", name="No difference")).to_have_count(1)
    expect(page.get_by_role("img", name="Result 3")).to_have_count(1)
    expect(page.get_by_role("progressbar", name="Answered")).to_be_visible()
