"""The files of a result, and the window around its object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgc.page.pictures import LONGEST_SIDE, MARGIN, object_window, write_picture, write_result
from tests.support.reports import make_report, make_result


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
