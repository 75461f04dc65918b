"""Grids: their bytes, their data, and what cannot be drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from refgc.errors import InputError
from refgc.evaluation.figures.drawing import figure_style
from refgc.evaluation.figures.grid import Cell, GridSettings, Row, draw_grid, make_grid
from refgc.evaluation.figures.selection import Choice, select
from refgc.imaging.image import Image, save_image
from tests.support.compared_scenes import make_scenes

NAMES = ("grid.pdf", "grid.svg", "grid.png")
SMALL = GridSettings(width=4.0, dpi=72)


def test_the_same_input_gives_the_same_bytes_and_no_date(scenes: Path, compared: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        outputs = [tmp_path / folder / name for name in NAMES]
        make_grid(select(scenes, Choice(evaluation=compared, pick="best,worst")), outputs, settings=SMALL)
    for name in (*NAMES, "grid.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    pdf, svg, png = ((tmp_path / "one" / name).read_bytes() for name in NAMES)
    for content, start in ((pdf, b"%PDF"), (svg, b"<?xml"), (png, b"\x89PNG")):
        assert content.startswith(start)
        # Neither date nor version, by which another day or machine would give other bytes.
        assert not any(word in content for word in (b"CreationDate", b"dc:date", b"Matplotlib v", b"matplotlib.org"))


def test_the_data_say_what_is_shown(scenes: Path, compared: Path, tmp_path: Path) -> None:
    selection = select(scenes, Choice(evaluation=compared, ids="bee,cat"))
    data = json.loads(make_grid(selection, [tmp_path / "g.png"], settings=SMALL).read_bytes())
    assert data["columns"] == ["HRRI", "LRGI", "soft", "sharp", "HRGT"]
    assert [row["id"] for row in data["rows"]] == ["bee", "cat"]
    assert data["rows"][1]["scores"]["sharp"]["psnr"] == 30.0
    assert len(data["rows"][0]["windows"]) == len(data["rows"][0]["reference_windows"]) == 2


def test_pictures_stand_in_their_columns(scenes: Path, compared: Path, tmp_path: Path) -> None:
    """The object's upper left part is grey 128 in the HRGT, and half of that as the method "sharp" has it."""
    selection = select(scenes, Choice(evaluation=compared, ids="ant"))
    settings = GridSettings(windows=0, width=5.0, dpi=100)
    make_grid(selection, [tmp_path / "g.png"], settings=settings)
    with PIL.Image.open(tmp_path / "g.png") as opened:
        levels = np.asarray(opened.convert("L")).astype(int)
    width = (5.0 - 0.34 - 0.04 - 4 * 0.05) / 5
    for column, level in ((1, 128), (2, 128), (3, 64), (4, 128)):
        left, top = round(100 * (0.34 + column * (width + 0.05))), 20
        corner = levels[top + 4 : top + 16, left + 4 : left + 16]
        assert abs(corner - level).max() <= 2, column


def test_in_a_narrow_grid_the_gain_is_whole_and_heads_are_smaller() -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    row = Row("vase", "worst PSNR: +0.12 dB over Lanczos", (Cell(picture, (60, 60), (), ()),) * 3)

    def drawn(width: float, heads: tuple[str, ...]) -> dict[str, float]:
        with figure_style():
            figure = draw_grid(heads, [row], GridSettings(width=width))
        return {text.get_text(): float(text.get_fontsize()) for text in figure.texts}

    wide = drawn(8.0, ("HRRI", "LRGI", "Enlargement"))
    assert {"worst PSNR: +0.12 dB over Lanczos", "Enlargement"} <= set(wide)
    narrow = drawn(2.8, ("HRRI", "LRGI", "Enlargement"))
    assert {"HRRI", "Enlargement"} <= set(narrow)
    assert narrow["HRRI"] == narrow["Enlargement"] < wide["Enlargement"] == wide["HRRI"]
    assert not any("over" in text for text in narrow)
    tall = Row(row.label, row.reason, (Cell(np.zeros((90, 60, 3), np.uint8), (60, 90), (), ()),) * 3)
    with figure_style():
        texts = [text.get_text() for text in draw_grid(("a", "b", "c"), [tall], GridSettings(width=3.2)).texts]
    assert "worst PSNR: +0.12 dB" in texts


def test_without_a_truth_there_is_no_column_of_it(compared: Path, tmp_path: Path) -> None:
    wild = make_scenes(tmp_path / "wild", ("ant",), truth=False)
    selection = select(wild, Choice(methods=("soft",), evaluation=compared, ids="ant"))
    data = json.loads(make_grid(selection, [tmp_path / "g.png"], settings=SMALL).read_bytes())
    assert data["columns"] == ["HRRI", "LRGI", "soft"]


def test_names_with_a_dollar_or_a_line_break_are_drawn(scenes: Path, compared: Path, tmp_path: Path) -> None:
    shutil.copytree(compared / "pictures" / "soft", tmp_path / "r")
    selection = select(scenes, Choice(methods=(f"$x^{{\n$ \\frac={tmp_path / 'r'}",), ids="ant"))
    make_grid(selection, [tmp_path / "g.svg"], settings=SMALL)


def test_a_missing_result_is_told(scenes: Path, compared: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(compared, tmp_path / "copy"))
    (copy / "pictures" / "soft" / "bee.png").unlink()
    with pytest.raises(InputError, match=r"'soft' has no result for 'bee'; put 'bee\.png' into"):
        make_grid(select(scenes, Choice(evaluation=copy, ids="bee")), [tmp_path / "g.png"])
    assert not (tmp_path / "g.png").exists()


def test_two_results_of_one_scene_are_told(scenes: Path, compared: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(compared, tmp_path / "copy"))
    save_image(Image(np.zeros((128, 128, 3), np.uint8)), copy / "pictures" / "soft" / "bee.jpg")
    with pytest.raises(InputError, match="has 2 results for 'bee'"):
        make_grid(select(scenes, Choice(evaluation=copy, ids="bee")), [tmp_path / "g.png"])


def test_a_result_of_another_shape_is_told(scenes: Path, compared: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(compared, tmp_path / "copy"))
    save_image(Image(np.zeros((128, 96, 3), np.uint8)), copy / "pictures" / "soft" / "bee.png")
    with pytest.raises(InputError, match="'soft' for 'bee' cannot be shown: The result is 96x128"):
        make_grid(select(scenes, Choice(evaluation=copy, ids="bee")), [tmp_path / "g.png"])


@pytest.mark.parametrize(
    ("name", "settings", "part"),
    [
        ("g.bmp", SMALL, "end it in .pdf, .svg or .png"),
        ("g.png", GridSettings(windows=3), "3 windows cannot be drawn"),
        ("g.png", GridSettings(width=0.5), "0.5 inches cannot be drawn"),
        ("nowhere/g.png", SMALL, "folder"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    scenes: Path, compared: Path, tmp_path: Path, name: str, settings: GridSettings, part: str
) -> None:
    with pytest.raises(InputError) as told:
        make_grid(select(scenes, Choice(evaluation=compared, ids="ant")), [tmp_path / name], settings=settings)
    assert part in str(told.value)
