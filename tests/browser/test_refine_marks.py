"""Marks, masks and code on the Refine tab: what a visitor says of the object reaches the engine, and a script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Page, expect

from refgc.page.examples import EXAMPLES_FOLDER
from tests.browser.refine_page import (
    EXAMPLES,
    choose,
    clear_screen,
    download,
    frame_of,
    open_options,
    place,
    refine,
    shows,
    upload,
)


@pytest.mark.slow
def test_click_and_box_reach_the_engine_and_the_code_makes_the_very_result(opened: Page, pair, tmp_path: Path) -> None:
    odd = tmp_path / "given" / "it's the (real) photo, ünïcode.png"
    odd.parent.mkdir()
    shutil.copy(pair.reference, odd)
    clear_screen(opened, pair)
    upload(opened, "reference", odd)
    frame = frame_of(opened, "reference")
    expect(opened.locator("#reference-note")).to_contain_text("The object is found when you refine.")
    opened.mouse.click(*place(frame, 0.5, 0.5))
    expect(opened.locator("#reference-note")).to_contain_text("is marked.")

    frame = frame_of(opened, "generated")
    left, top = place(frame, 0.2, 0.15)
    opened.mouse.move(left, top)
    opened.mouse.down()
    opened.mouse.move(*place(frame, 0.8, 0.85), steps=5)
    opened.mouse.up()
    expect(opened.locator("#generated-note")).to_contain_text("is marked.")
    expect(frame.locator(".pad-marks .pad-box")).to_have_count(1)

    opened.get_by_label("2× the size").check()
    refine(opened)
    result = download(opened, tmp_path)

    opened.locator("#code button").first.click()
    script = opened.locator("#python textarea")
    expect(script).to_be_visible()
    folder = tmp_path / "somewhere"
    folder.mkdir()
    shutil.copy(odd, folder)
    shutil.copy(pair.generated, folder)
    for number, name in enumerate(("reference-mask.png", "generated-mask.png")):
        with opened.expect_download() as waiting:
            opened.locator("#masks a").nth(number).click()
        assert waiting.value.suggested_filename == name
        waiting.value.save_as(folder / name)
    environment = {
        **os.environ,
        "PYTHONPATH": str(EXAMPLES_FOLDER.parent),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (folder / "made.py").write_text(script.input_value())
    for command in ([sys.executable, "made.py"], ["bash", "-c", opened.locator("#command textarea").input_value()]):
        subprocess.run(command, cwd=folder, env=environment, check=True)
        made = folder / result.name
        with PIL.Image.open(made) as again, PIL.Image.open(result) as shown:
            assert np.array_equal(np.asarray(again), np.asarray(shown))
        made.unlink()


@pytest.mark.slow
def test_given_mask_is_shown_and_a_useless_one_is_refused(opened: Page, pair, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    mask = PIL.Image.new("L", (128, 96))
    mask.paste(255, (32, 24, 96, 72))
    mask.save(good)
    PIL.Image.new("L", (100, 300), 255).save(bad)
    clear_screen(opened, pair)
    open_options(opened)
    note = opened.locator("#generated-note")
    upload(opened, "generated-mask", bad)
    expect(note.get_by_role("alert")).to_contain_text("give a mask of the same size")
    expect(opened.locator("#generated-mask input[type=file]")).to_be_attached()
    upload(opened, "generated-mask", good)
    expect(note).to_contain_text("By the given mask: 25% of the picture.")
    refine(opened)
    opened.locator("#code button").first.click()
    expect(opened.locator("#command textarea")).to_have_value(
        "refgc refine \\\n  --reference reference.png \\\n  --generated generated.png \\\n"
        "  --generated-mask good.png \\\n  --output generated-refined.png \\\n  --engine correspondence\n"
    )
    expect(opened.locator("#masks")).to_be_hidden()


@pytest.mark.slow
def test_transparency_of_the_reference_is_shown(opened: Page, pair, tmp_path: Path) -> None:
    cut_out = tmp_path / "cut out.png"
    with PIL.Image.open(pair.reference) as picture:
        alpha = PIL.Image.new("L", picture.size)
        alpha.paste(255, (128, 96, 384, 288))
        transparent = picture.convert("RGB")
        transparent.putalpha(alpha)
        transparent.save(cut_out)
    shows(opened, EXAMPLES[0])
    upload(opened, "reference", cut_out)
    frame_of(opened, "reference")
    expect(opened.locator("#reference-note")).to_contain_text("own transparency: 25% of the picture")


def test_engine_is_not_asked_for_where_there_is_none_to_choose(opened: Page) -> None:
    open_options(opened)
    for part in ("engine", "object-name"):
        expect(opened.locator(f"#{part}")).to_be_hidden()
    expect(opened.get_by_label("Seed")).to_be_visible()


def test_code_of_an_example_names_the_project_s_files(opened: Page) -> None:
    choose(opened, EXAMPLES[2])
    shows(opened, EXAMPLES[2])
    opened.locator("#code button").first.click()
    expect(opened.locator("#command textarea")).to_have_value(
        f"refgc refine \\\n  --reference examples/{EXAMPLES[2].name}/hrri.jpg \\\n"
        f"  --generated examples/{EXAMPLES[2].name}/lrgi.png \\\n  --output {EXAMPLES[2].name}-refined.png \\\n"
        "  --engine correspondence\n"
    )


@pytest.mark.slow
def test_link_to_an_example_opens_it(page: Page, server: str, watch) -> None:
    example = EXAMPLES[3]
    page.goto(f"{server}/?example={example.name}", wait_until="domcontentloaded")
    shows(page, example)
    for name in ("reference", "generated"):
        expect(frame_of(page, name).locator("img")).to_be_visible()
