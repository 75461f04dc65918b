"""The record of a watched folder: what it keeps, and which names results get."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refgc.errors import InputError
from refgc.watch.folder import State
from refgc.watch.record import RECORD, Record

STATE = State(10, 20)


def test_rows_are_there_after_a_restart_and_the_last_one_counts(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add(Path("sub/a.png"), State(1, 2), Path("sub/a.png"), "It is damaged.")
    record.add(Path("sub/a.png"), STATE, Path("sub/a.png"))
    row = Record(tmp_path).find(Path("sub/a.png"))
    assert row is not None
    assert (row.state, row.error) == (STATE, None)
    assert Record(tmp_path).find(Path("a.png")) is None


def test_a_row_that_was_being_written_when_the_process_ended_is_as_good_as_none(tmp_path: Path) -> None:
    Record(tmp_path).add(Path("a.png"), STATE, Path("a.png"))
    with (tmp_path / RECORD).open("ab") as file:
        file.write(b'{"picture":"b.png","si')
    record = Record(tmp_path)
    assert record.find(Path("b.png")) is None
    record.add(Path("c.png"), STATE, Path("c.png"))
    assert Record(tmp_path).find(Path("c.png")) is not None


@pytest.mark.parametrize("line", ["{]\n", '{"picture": "a.png", "size": "big", "modified": 1, "output": "a.png"}\n'])
def test_a_record_that_is_none_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / RECORD).write_text(line)
    with pytest.raises(InputError, match="Line 1"):
        Record(tmp_path)


def test_pictures_of_one_name_get_results_of_different_names_that_stay(tmp_path: Path) -> None:
    record = Record(tmp_path)
    results = []
    for name in ("a.jpg", "a.png", "A.webp", "sub/a.png", "a_png.webp"):
        results.append(record.output_of(Path(name), ".png"))
        record.add(Path(name), STATE, results[-1])
    assert [str(path) for path in results] == ["a.png", "a_png.png", "A_webp.png", "sub/a.png", "a_png_webp.png"]
    again = Record(tmp_path)
    assert again.output_of(Path("a.png"), ".png") == Path("a_png.png")
    assert again.output_of(Path("a.jpg"), ".png") == Path("a.png")
    assert again.output_of(Path("a.png"), ".webp") == Path("a.webp")


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    picture = Path(os.fsdecode(b"caf\xe9.png"))
    Record(tmp_path).add(picture, STATE, picture)
    record = Record(tmp_path)
    assert record.find(picture) is not None
    assert record.output_of(picture, ".png") == picture
