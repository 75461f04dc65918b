"""The files of a result, and the viewer that shows them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgc.imaging.image import Image
from refgc.page.examples import EXAMPLES_FOLDER
from refgc.page.pictures import LONGEST_SIDE, named_download, refined_name, stem_of, write_picture, write_result
from tests.support.reports import make_report, make_result

REFERENCE = Image(np.full((90, 120, 3), 200, np.uint8))


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


def test_result_files_are_exact_and_complete(tmp_path: Path) -> None:
    report = make_report()
    result = make_result(report)
    shown = write_result(result, REFERENCE, tmp_path / "new")
    with PIL.Image.open(shown.download) as picture:
        assert np.array_equal(np.asarray(picture), result.image.pixels)
        assert json.loads(picture.info["refgc-report"]) == report.model_dump(mode="json", exclude={"seconds"})
    assert shown.download.name == "refined-4x-200x160.png"
    for path in shown.whole:
        with PIL.Image.open(path) as picture:
            assert (picture.format, picture.size) == ("WEBP", (200, 160))
    assert shown.full is None
    with PIL.Image.open(shown.reference) as picture:
        assert picture.size == REFERENCE.size
    assert [caption for _, caption in shown.stages] == ["The picture, only enlarged", "Object mask"]


def test_before_and_after_are_not_exchanged(tmp_path: Path) -> None:
    result = make_result(make_report())
    shown = write_result(result, REFERENCE, tmp_path)
    for path, pixels in zip(shown.whole, (255 - result.image.pixels, result.image.pixels), strict=True):
        with PIL.Image.open(path) as picture:
            assert np.corrcoef(np.asarray(picture).ravel(), pixels.ravel())[0, 1] > 0.5


def test_viewer_names_the_files_and_the_object(tmp_path: Path) -> None:
    shown = write_result(make_result(make_report()), REFERENCE, tmp_path / "refined")
    markup = shown.viewer('<b>"my" picture')
    assert re.findall(r'<img class="viewer-(\w+)" src="(.*?)"', markup) == [
        ("before", "folder:refined/before.webp"),
        ("after", "folder:refined/after.webp"),
        ("photo", "folder:refined/reference.webp"),
    ]
    assert 'data-size="200 160" data-box="40 40 120 100"' in markup
    assert "data-placement" not in markup
    placed = write_result(
        make_result(make_report(placement=(0.5, 0, 3, 0, 0.5, 4, 0, 0, 1))), REFERENCE, tmp_path / "it"
    )
    assert 'data-placement="0.5 0.0 3.0 0.0 0.5 4.0 0.0 0.0 1.0"' in placed.viewer("Cup")
    assert "<b>" not in markup
    assert 'alt="&lt;b&gt;&quot;my&quot; picture, Before"' in markup


def test_viewer_of_a_result_that_placed_nothing_says_so(tmp_path: Path) -> None:
    markup = write_result(make_result(make_report(placed=False, object_box=None)), REFERENCE, tmp_path).viewer("Cup")
    assert "data-box" not in markup
    assert 'data-do="object"' not in markup
    assert '<span class="viewer-label right">After</span>' in markup


def test_large_result_has_light_pictures_and_those_with_every_pixel(tmp_path: Path) -> None:
    large = Image(np.random.default_rng(0).integers(0, 256, (64, 2064, 3), np.uint8))
    result = replace(make_result(make_report(output_size=(2064, 64))), image=large, stages={"upscaled": large})
    shown = write_result(result, REFERENCE, tmp_path)
    assert shown.full is not None
    for light, full in zip(shown.whole, shown.full, strict=True):
        assert PIL.Image.open(light).width == 2048
        assert PIL.Image.open(full).size == (2064, 64)
    assert 'data-full="folder:after-full.jpg"' in shown.viewer("Cup")


def test_large_picture_is_shown_smaller(tmp_path: Path) -> None:
    path = write_picture(PIL.Image.new("RGB", (4096, 1024), "teal"), tmp_path / "large.webp", LONGEST_SIDE)
    with PIL.Image.open(path) as picture:
        assert picture.size == (2048, 512)


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        (Path("/up/1/dog.png"), "dog"),
        (Path("/up/1/Über uns (2).tar.jpeg"), "Uber-uns-2-tar"),
        (Path("/up/1/-rf ~.png"), "rf"),
        (Path("/up/1/狗.png"), "picture"),
        (Path('/up/1/"; rm -rf $HOME #.png'), "rm-rf-HOME"),
        (Path("/up/1/..."), "picture"),
        (Path("/up/1") / ("x" * 200), "x" * 60),
        (EXAMPLES_FOLDER / "camera" / "lrgi.png", "camera"),
    ],
)
def test_a_download_is_named_by_the_generated_picture(file: Path, stem: str) -> None:
    assert stem_of(file) == stem
    assert refined_name(file) == f"{stem}-refined.png"


@given(st.text(min_size=1, max_size=120).filter(lambda name: "/" not in name and "\0" not in name))
def test_no_name_leads_a_download_astray(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}", stem_of(Path("/up/1") / name)), name


def test_a_download_has_the_same_pixels_in_every_format(tmp_path: Path) -> None:
    result = make_result(make_report())
    shown = write_result(result, REFERENCE, tmp_path / "new")
    png = named_download(shown, "dog-refined.png")
    assert png.read_bytes() == shown.download.read_bytes()
    assert named_download(shown, "dog-refined.png") == png
    for name, kind in (("dog-refined.jpg", "JPEG"), ("dog-refined.webp", "WEBP")):
        path = named_download(shown, name)
        assert (path.name, path.parent) == (name, shown.download.parent)
        with PIL.Image.open(path) as picture:
            assert (picture.format, picture.size) == (kind, result.image.size)
            pixels = np.asarray(picture.convert("L"))
        expected = np.asarray(PIL.Image.fromarray(result.image.pixels).convert("L"))
        assert np.corrcoef(pixels.ravel(), expected.ravel())[0, 1] > 0.8
