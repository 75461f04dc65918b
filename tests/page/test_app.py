"""The page's parts that need no browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from refgc.engine import RefineResult, Report
from refgc.errors import InputError
from refgc.imaging.image import Image
from refgc.page.app import build_demo, launch_settings
from refgc.page.examples import EXAMPLES_FOLDER, ORDER, THUMBNAIL_SIDE, find_examples, thumbnail
from refgc.page.pictures import LONGEST_SIDE, MARGIN, object_window, write_picture, write_result
from refgc.page.service.runs import Service
from refgc.page.words import OUR_FAULT, missing_pictures, report_summary, sentence_for, status_line
from refgc.webui.theme import build_theme
from tests.support.command import assert_one_sentence, run_inside


def make_report(**changes: object) -> Report:
    values: dict[str, object] = {
        "engine": "correspondence",
        "placed": True,
        "message": "The reference was placed.",
        "confidence": 0.914,
        "coverage": 0.305,
        "matches": 1431,
        "object_box": (40, 40, 120, 100),
        "scale": 4,
        "strength": 1.0,
        "seed": 0,
        "reference_size": (300, 200),
        "generated_size": (50, 40),
        "output_size": (200, 160),
        "seconds": {"matching": 0.75, "fusing": 0.5},
        "versions": {"refgc": "0.1.0"},
    }
    return Report.model_validate(values | changes)


def make_result(report: Report) -> RefineResult:
    width, height = report.output_size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return RefineResult(Image(pixels), report, {"upscaled": Image(255 - pixels), "object mask": Image(pixels.copy())})


# --- the object's window --------------------------------------------------------------------------------------------


def test_window_has_a_margin_all_around() -> None:
    assert object_window((400, 300, 500, 400), (1000, 1000)) == (388, 288, 512, 412)


def test_window_at_the_edge_stays_inside() -> None:
    left, top, right, bottom = object_window((0, 900, 100, 1000), (1000, 1000))
    assert (left, bottom) == (0, 1000)
    assert right - left == bottom - top == round(100 * (1 + 2 * MARGIN))


def test_window_of_a_flat_object_is_opened() -> None:
    left, top, right, bottom = object_window((100, 500, 900, 520), (1000, 1000))
    assert (right - left) / (bottom - top) == pytest.approx(16 / 9, rel=0.02)


boxes = st.tuples(st.integers(16, 5000), st.integers(16, 5000)).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.tuples(st.integers(0, size[0] - 1), st.integers(0, size[1] - 1)).flatmap(
            lambda corner: st.tuples(
                st.just(corner[0]),
                st.just(corner[1]),
                st.integers(corner[0] + 1, size[0]),
                st.integers(corner[1] + 1, size[1]),
            )
        ),
    )
)


@given(boxes)
def test_window_holds_the_object_and_lies_in_the_picture(
    case: tuple[tuple[int, int], tuple[int, int, int, int]],
) -> None:
    size, box = case
    left, top, right, bottom = object_window(box, size)
    assert 0 <= left <= box[0]
    assert 0 <= top <= box[1]
    assert box[2] <= right <= size[0]
    assert box[3] <= bottom <= size[1]


# --- the report in words --------------------------------------------------------------------------------------------


def test_summary_says_the_message_first_and_the_figures_after() -> None:
    summary = report_summary(make_report())
    parts = ["The reference was placed.", "91%", "30% of the picture", "1,431", "200 × 160 pixels", "1.2 s"]
    assert [summary.index(part) for part in parts] == sorted(summary.index(part) for part in parts)


def test_summary_of_a_plain_upscale_claims_no_placement() -> None:
    summary = report_summary(make_report(placed=False, object_box=None, confidence=0.2, matches=3))
    assert "Confidence" not in summary
    assert "unplaced" in summary
    assert "200 × 160 pixels" in summary


def test_words_of_others_cannot_become_markup() -> None:
    assert "<script>" not in report_summary(make_report(message="<script>alert(1)</script>"))
    assert "<b>" not in status_line("<b>bold</b>")


def test_missing_pictures_are_named() -> None:
    assert "two pictures" in missing_pictures(None, None)
    assert "reference" in missing_pictures(None, "generated.png")
    assert "generated" in missing_pictures("reference.png", None)


def test_foreseen_errors_are_told_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    assert sentence_for(InputError("Give a picture.")) == "Give a picture."
    assert sentence_for(ZeroDivisionError("secret")) == OUR_FAULT
    assert "secret" in caplog.text


# --- files for the browser ------------------------------------------------------------------------------------------


def test_result_files_are_exact_and_complete(tmp_path: Path) -> None:
    report = make_report()
    result = make_result(report)
    shown = write_result(result, tmp_path / "new")
    with PIL.Image.open(shown.download) as picture:
        assert np.array_equal(np.asarray(picture), result.image.pixels)
        assert json.loads(picture.info["refgc-report"]) == report.model_dump(mode="json", exclude={"seconds"})
    assert shown.download.name == "refined-4x-200x160.png"
    for path in shown.whole:
        with PIL.Image.open(path) as picture:
            assert (picture.format, picture.size) == ("WEBP", (200, 160))
    assert shown.close_up is not None
    left, top, right, bottom = object_window((40, 40, 120, 100), (200, 160))
    for path in shown.close_up:
        with PIL.Image.open(path) as picture:
            assert picture.size == (right - left, bottom - top)
    assert [caption for _, caption in shown.stages] == ["The picture, only enlarged", "Object mask"]


def test_before_and_after_are_not_exchanged(tmp_path: Path) -> None:
    result = make_result(make_report())
    shown = write_result(result, tmp_path)
    for path, pixels in zip(shown.whole, (255 - result.image.pixels, result.image.pixels), strict=True):
        with PIL.Image.open(path) as picture:
            assert np.corrcoef(np.asarray(picture).ravel(), pixels.ravel())[0, 1] > 0.5


def test_result_that_placed_nothing_has_no_close_up(tmp_path: Path) -> None:
    assert write_result(make_result(make_report(placed=False, object_box=None)), tmp_path).close_up is None


def test_large_picture_is_shown_smaller(tmp_path: Path) -> None:
    path = write_picture(PIL.Image.new("RGB", (4096, 1024), "teal"), tmp_path / "large.webp", LONGEST_SIDE)
    with PIL.Image.open(path) as picture:
        assert picture.size == (2048, 512)


# --- examples -------------------------------------------------------------------------------------------------------


@pytest.fixture
def examples_folder(tmp_path: Path) -> Path:
    meta = {"title": "Tin", "description": "A tin.", "simulated": True, "licence": "CC0-1.0"}
    for name in ("tin", "vase", "box", "paperback"):
        folder = tmp_path / name
        folder.mkdir()
        PIL.Image.new("RGB", (500, 400), "navy").save(folder / "hrri.jpg")
        PIL.Image.new("RGB", (128, 160), "olive").save(folder / "lrgi.png")
        (folder / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "make").mkdir()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_examples_are_found_and_the_best_known_come_first(examples_folder: Path) -> None:
    examples = find_examples(examples_folder)
    assert [example.name for example in examples] == ["paperback", "vase", "box", "tin"]
    assert examples[0].reference.name == "hrri.jpg"
    assert examples[0].generated.name == "lrgi.png"
    assert examples[0].meta.title == "Tin"
    assert find_examples(examples_folder / "nowhere") == []


def test_every_example_of_ours_has_its_place() -> None:
    assert [example.name for example in find_examples(EXAMPLES_FOLDER)] == list(ORDER)


def test_thumbnail_shows_both_pictures(examples_folder: Path) -> None:
    picture = thumbnail(find_examples(examples_folder)[0])
    assert picture.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert np.allclose(np.asarray(picture)[300, 20], (128, 128, 0), atol=3)
    assert np.allclose(np.asarray(picture)[60, 250], (0, 0, 128), atol=3)


def test_unfinished_description_of_an_example_is_noticed(examples_folder: Path) -> None:
    (examples_folder / "tin" / "meta.json").write_text('{"title": "Tin"}')
    with pytest.raises(ValidationError):
        find_examples(examples_folder)


# --- the page -------------------------------------------------------------------------------------------------------


def test_page_is_built_without_analytics_and_asks_no_other_host() -> None:
    assert build_demo(Service()).analytics_enabled is False
    settings = launch_settings(Service())
    assert settings["share"] is False
    assert "http" not in settings["head"]
    for path in settings["css_paths"]:
        assert "//" not in path.read_text(encoding="utf-8")
    assert build_theme()._stylesheets == []


def channel(value: int) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4


def luminance(colour: str) -> float:
    named = {"white": "#ffffff"}.get(colour, colour).lstrip("#")
    red, green, blue = (channel(int(named[place : place + 2], 16)) for place in (0, 2, 4))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", ["", "_dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("body_text_color", "body_background_fill"),
        ("body_text_color_subdued", "body_background_fill"),
        ("body_text_color_subdued", "block_background_fill"),
        ("body_text_color_subdued", "background_fill_secondary"),
        ("block_label_text_color", "block_label_background_fill"),
        ("block_info_text_color", "block_background_fill"),
        ("button_primary_text_color", "button_primary_background_fill"),
        ("button_primary_text_color", "button_primary_background_fill_hover"),
        ("button_secondary_text_color", "button_secondary_background_fill"),
        ("link_text_color", "body_background_fill"),
    ],
)
def test_text_has_enough_contrast(text: str, ground: str, mode: str) -> None:
    theme = build_theme()
    lighter, darker = sorted(
        (luminance(theme._get_computed_value(text + mode)), luminance(theme._get_computed_value(ground + mode))),
        reverse=True,
    )
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_page_does_without_torch() -> None:
    code = "import sys; import refgc.page.app; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_a_port_that_is_taken_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_inside("page", "--host", "127.0.0.1", "--port", port, GRADIO_TEMP_DIR=str(tmp_path))
    assert_one_sentence(done, 2, f"The page cannot be served at 127.0.0.1, port {port}: it is taken")
