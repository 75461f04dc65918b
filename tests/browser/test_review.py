"""The review of a dataset as people do it: by keys, several at once, by eye and by ear."""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from refgc.dataset.corrections import read_corrections
from refgc.dataset.manifest import VERDICTS, Verdict, read_rows
from refgc.dataset.verdicts import read_decisions
from tests.support.review_dataset import make_dataset

GRAVE = ("serious", "critical")
FEW = ("camera", "mug", "tea_tin")
SAID, PROBLEM = "#review [role=status]", "#review [role=alert]"
# Notes for each verdict by a key how long it takes until all pictures of the next row are drawn.
STOPWATCH = """() => {
    window.waits = [];
    document.addEventListener("keydown", (event) => {
        if (event.key !== "a") return;
        const from = performance.now();
        const before = document.querySelector(".review-pane");
        const look = async () => {
            const panes = [...document.querySelectorAll(".review-pane")];
            const pictures = panes.map((pane) => pane.querySelector("img"));
            const shown = panes[0] !== before && pictures.every((one) => one?.complete);
            if (!shown) return requestAnimationFrame(look);
            await Promise.all(pictures.map((one) => one.decode()));
            requestAnimationFrame(() => requestAnimationFrame(() => window.waits.push(performance.now() - from)));
        };
        requestAnimationFrame(look);
    }, true);
}"""


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Address of a review that runs in a process of its own."""
    command = "import sys; from refgc.cli.dataset_review import review; import typer; typer.run(review)"
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(folder), *options],
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
                yield line.partition("The page is at ")[2].split()[0].rstrip("/")
                break
        else:
            raise RuntimeError(f"The review did not start:\n{''.join(said)}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def open_as(page: Page, address: str, rater: str, theme: str = "light") -> Page:
    """The page with its first row shown."""
    page.goto(f"{address}/?__theme={theme}", wait_until="domcontentloaded")
    expect(page.get_by_label("Your name or number")).to_be_focused()
    page.keyboard.type(rater)
    page.keyboard.press("Enter")
    shows(page, "pair")
    return page


def shows(page: Page, part: str) -> None:
    """Waits until the row that is shown has this among its facts, and its pictures."""
    expect(page.locator("[data-part=facts]")).to_contain_text(part)
    expect(page.locator("[data-part=row]")).to_be_visible()
    page.wait_for_function("[...document.querySelectorAll('.review-pane img')].every(one => one.naturalWidth > 0)")


def verdicts(folder: Path, rater: str, number: int) -> list[Verdict]:
    """All verdicts of a person, once there are so many."""
    deadline = time.monotonic() + 20
    while True:
        found = [one for one in read_rows(folder / VERDICTS, Verdict) if one.rater == rater]
        if len(found) >= number or time.monotonic() > deadline:
            assert len(found) == number
            return found
        time.sleep(0.05)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("few") / "dataset", FEW)


@pytest.fixture
def dataset(few: Path, tmp_path: Path) -> Path:
    """Three pairs and their triplets."""
    return Path(shutil.copytree(few, tmp_path / "dataset"))


@dataclass(frozen=True)
class Shared:
    """One review for several tests, each with people of its own."""

    address: str
    folder: Path


@pytest.fixture(scope="module")
def shared(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = Path(shutil.copytree(few, tmp_path_factory.mktemp("shared") / "dataset"))
    # So that no row is ever decided, and everybody sees all of them.
    with serving(folder, "--raters-per-row", "9") as address:
        yield Shared(address, folder)


@pytest.fixture
def watched(page: Page) -> Iterator[list[str]]:
    """Fails the test at its end if the page complained or asked an outside host for anything."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(("http://127.0.0.1:", "data:", "blob:")) else complaints.append(asked.url)
        ),
    )
    yield complaints
    assert complaints == []


def test_a_person_reviews_by_keys_alone(page: Page, shared: Shared, watched: list[str]) -> None:
    open_as(page, shared.address, "Ada L.")
    assert len(page.locator(".review-pane").all()) == 2
    expect(page.get_by_role("img", name="HRRI, the sharp photo: camera")).to_be_visible()
    expect(page.locator(".review-canvas path.line")).to_have_count(2)

    page.keyboard.press("a")
    shows(page, "mug-pair")
    expect(page.locator(SAID)).to_contain_text("Accepted. Next: pair, mug.")
    page.keyboard.press("r")
    expect(page.get_by_role("button", name="1 other object")).to_be_focused()
    # Of a pair there is no LRGI to be wrong, and its key does nothing.
    expect(page.locator("[data-reason='LRGI in another pose']")).to_be_hidden()
    page.keyboard.press("8")
    page.keyboard.press("3")
    shows(page, "tea_tin-pair")
    page.keyboard.press("r")
    page.keyboard.press("Shift+Digit4")
    page.keyboard.press("Shift+Digit2")
    page.keyboard.press("Enter")
    shows(page, "camera-triplet")
    assert len(page.locator(".review-pane").all()) == 3
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="R Reject")).to_be_focused()
    page.keyboard.press("r")
    page.keyboard.press("8")
    shows(page, "mug-triplet")

    # Back over two rows, one of which is changed and one left as it is.
    page.keyboard.press("b")
    shows(page, "you rejected it: LRGI in another pose")
    page.keyboard.press("b")
    shows(page, "you rejected it: other side, mask wrong")
    page.keyboard.press("a")
    shows(page, "camera-triplet")
    page.keyboard.press("f")
    shows(page, "mug-triplet")
    said = verdicts(shared.folder, "Ada L.", 5)

    # What is kept in the browser outlives a reload.
    page.reload(wait_until="domcontentloaded")
    shows(page, "mug-triplet")
    page.keyboard.press("b")
    shows(page, "tea_tin-pair")
    assert [(one.row, one.accepted, one.reasons) for one in said] == [
        ("camera-pair", True, ()),
        ("mug-pair", False, ("blurred",)),
        ("tea_tin-pair", False, ("other side", "mask wrong")),
        ("camera-triplet", False, ("LRGI in another pose",)),
        ("tea_tin-pair", True, ()),
    ]
    assert all(one.seconds > 0 for one in said)


def test_masks_and_zoom_have_keys_and_letters_can_be_turned_off(page: Page, shared: Shared, watched: list[str]) -> None:
    open_as(page, shared.address, "7")
    line = page.locator(".review-canvas path.line").first
    expect(line).to_be_visible()
    page.keyboard.press("m")
    expect(line).to_be_hidden()
    page.keyboard.press("t")
    expect(line).to_be_visible()
    assert line.evaluate("line => getComputedStyle(line).fill") != "none"
    whole = page.locator(".review-canvas path.line").first.bounding_box()
    page.keyboard.press("z")
    expect(page.get_by_role("button", name="Z Zoom")).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(300)
    near = page.locator(".review-canvas path.line").first.bounding_box()
    assert whole is not None
    assert near is not None
    assert near["width"] > 1.2 * whole["width"]
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    moved = page.locator(".review-canvas path.line").first.bounding_box()
    assert moved is not None
    assert moved["x"] < near["x"]

    page.get_by_role("button", name="Keys").click()
    page.keyboard.press("a")
    page.wait_for_timeout(300)
    shows(page, "camera-pair")
    page.get_by_role("button", name="A Accept").click()
    shows(page, "mug-pair")
    assert len(verdicts(shared.folder, "7", 1)) == 1


def test_a_mask_is_mended_by_clicks_and_by_keys(page: Page, shared: Shared, watched: list[str]) -> None:
    open_as(page, shared.address, "mender")
    page.keyboard.press("e")
    frame = page.locator(".review-frame").nth(1).bounding_box()
    assert frame is not None
    before = page.locator(".review-canvas path.line").nth(1).get_attribute("d")
    page.mouse.click(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] * 0.55)
    expect(page.locator(SAID)).to_contain_text("S saves it")
    assert page.locator(".review-canvas path.line").nth(1).get_attribute("d") != before
    page.keyboard.press("Escape")
    expect(page.locator(".review-canvas path.line").nth(1)).to_have_attribute("d", before or "")
    assert read_corrections(shared.folder) == {}

    # By keys: from the middle of the HRRI, from the clicks alone.
    page.keyboard.press("e")
    page.keyboard.press("n")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(SAID)).to_contain_text("S saves it")
    page.keyboard.press("s")
    expect(page.locator(SAID)).to_contain_text("saved")
    expect(page.locator("figcaption").first).to_contain_text("mask mended")
    page.keyboard.press("a")
    verdicts(shared.folder, "mender", 1)
    ((row, view),) = read_corrections(shared.folder)
    assert (row, view) == ("camera-pair", "hrri")


def test_two_people_at_once_and_a_third_for_what_they_dispute(browser: Browser, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", FEW, triplets=False)
    with serving(dataset) as address:
        ada, bob, eve = (browser.new_context().new_page() for _ in range(3))
        open_as(ada, address, "Ada")
        open_as(bob, address, "Bob")
        for product in FEW:
            shows(ada, f"{product}-pair")
            ada.keyboard.press("a")
        for product in FEW:
            shows(bob, f"{product}-pair")
            bob.keyboard.press("r")
            bob.keyboard.press("1") if product == "mug" else bob.keyboard.press("Escape")
            if product != "mug":
                bob.keyboard.press("a")
        expect(bob.get_by_role("heading", name="Nothing is left for you now")).to_be_focused()
        expect(bob.locator("[data-part=counts]")).to_contain_text("2 of 3 decided (2 accepted, 1 disputed)")
        open_as(eve, address, "Eve")
        shows(eve, "mug-pair")
        eve.keyboard.press("r")
        eve.keyboard.press("1")
        expect(eve.get_by_role("heading", name="Nothing is left for you now")).to_be_visible()
        expect(eve.locator("[data-part=counts]")).to_contain_text("3 of 3 decided")
        for page in (ada, bob, eve):
            page.context.close()
    assert read_decisions(dataset) == {"camera-pair": "accepted", "mug-pair": "rejected", "tea_tin-pair": "accepted"}


@pytest.mark.slow
def test_what_was_said_while_the_server_was_away_is_sent_later(page: Page, dataset: Path) -> None:
    with serving(dataset, "--port", "17861") as address:
        open_as(page, address, "Ada")
    page.keyboard.press("a")
    expect(page.locator(PROBLEM)).to_contain_text("it is tried again")
    with serving(dataset, "--port", "17861"):
        said = verdicts(dataset, "Ada", 1)
        expect(page.locator(PROBLEM)).to_be_hidden()
    assert said[0].row == "camera-pair"


@pytest.mark.slow
def test_a_picture_that_is_damaged_is_told_in_its_place(page: Page, dataset: Path) -> None:
    pair = json.loads((dataset / "pairs.jsonl").read_text().splitlines()[0])
    (dataset / pair["hrri"]["picture"]["path"]).write_bytes(b"no picture")
    with serving(dataset) as address:
        page.goto(address, wait_until="domcontentloaded")
        page.get_by_label("Your name or number").fill("Ada")
        page.keyboard.press("Enter")
        expect(page.locator(".review-missing")).to_contain_text("is damaged")
        page.keyboard.press("r")
        page.keyboard.press("9")
        shows(page, "mug-pair")


@pytest.mark.slow
def test_nobody_waits_for_the_next_picture(page: Page, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", side=1024)
    with serving(dataset) as address:
        open_as(page, address, "Ada")
        page.wait_for_timeout(2000)
        page.evaluate(STOPWATCH)
        for number in range(17):
            page.keyboard.press("a")
            page.wait_for_function(f"window.waits.length === {number + 1}")
            # As fast as a person ever is.
            page.wait_for_timeout(500)
        waits = page.evaluate("window.waits")
    print(f"key to next row: median {statistics.median(waits):.0f} ms, longest {max(waits):.0f} ms")
    assert statistics.median(waits) < 300


def judge(page: Page, state: str) -> list[str]:
    """What is wrong with the page as it stands."""
    found: dict[str, Any] = Axe().run(page).response
    wrong = [
        f"{state}: {rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        wrong.append(f"{state}: wider than the screen")
    return wrong


def test_everybody_can_use_it_in_both_themes(browser: Browser, shared: Shared) -> None:
    wrong = []
    for theme in ("light", "dark"):
        page = browser.new_context(viewport={"width": 820, "height": 1100}).new_page()
        page.goto(f"{shared.address}/?__theme={theme}", wait_until="domcontentloaded")
        expect(page.get_by_label("Your name or number")).to_be_focused()
        wrong += judge(page, f"{theme}, name")
        page.keyboard.type(theme)
        page.keyboard.press("Enter")
        shows(page, "camera-pair")
        wrong += judge(page, f"{theme}, row")
        page.keyboard.press("r")
        wrong += judge(page, f"{theme}, reasons")
        page.keyboard.press("Escape")
        page.keyboard.press("e")
        wrong += judge(page, f"{theme}, mending")
        page.keyboard.press("Escape")
        for _ in range(2 * len(FEW)):
            page.keyboard.press("a")
            page.wait_for_timeout(100)
        expect(page.get_by_role("heading", name="Nothing is left for you now")).to_be_visible()
        wrong += judge(page, f"{theme}, done")
        page.context.close()
    assert wrong == [], "\n".join(wrong)
