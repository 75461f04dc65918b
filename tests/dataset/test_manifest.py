"""The manifest: what its rows may hold, and what is said of those that hold something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from refgc.dataset.manifest import (
    CATEGORIES,
    PAIRS,
    Pair,
    Rejection,
    StoredFile,
    append_row,
    placed_rows,
    read_rows,
    row_at,
    write_rows,
)
from refgc.errors import InputError
from tests.support.tiny_dataset import add_pair, make_dataset

DIGEST = 64 * "a"


def stored(path: str) -> StoredFile:
    return StoredFile(path=path, sha256=DIGEST, width=1, height=1)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return add_pair(tmp_path / "made", "p1", "cup", seeds=(1, 2))


def test_rows_are_read_as_they_were_written(tmp_path, pair):
    file = tmp_path / PAIRS
    append_row(file, pair)
    append_row(file, pair.model_copy(update={"id": "p2", "split": "test"}))
    first, second = read_rows(file, Pair)
    assert first == pair
    assert (second.id, second.split) == ("p2", "test")


def test_a_row_is_found_again_at_its_place(tmp_path, pair):
    file = tmp_path / PAIRS
    file.write_bytes(b"\n")
    for name in ("p1", "p2", "p3"):
        append_row(file, pair.model_copy(update={"id": name, "object_name": "Bär"}))
    places = [(start, row.id) for start, row in placed_rows(file, Pair)]
    with file.open("rb") as opened:
        assert [row_at(opened, start, Pair).id for start, _ in reversed(places)] == ["p3", "p2", "p1"]


def test_rows_may_be_written_over_the_file_that_they_come_from(tmp_path, pair):
    file = tmp_path / PAIRS
    write_rows(file, [pair, pair])
    write_rows(file, (row.model_copy(update={"split": "train"}) for row in read_rows(file, Pair)))
    assert [row.split for row in read_rows(file, Pair)] == ["train", "train"]


def test_a_fault_while_rows_are_written_leaves_the_file_as_it_was(tmp_path, pair):
    file = tmp_path / PAIRS
    write_rows(file, [pair])
    before = file.read_bytes()
    file.write_bytes(before + b"nonsense\n")
    with pytest.raises(InputError, match="Line 2"):
        write_rows(file, read_rows(file, Pair))
    assert file.read_bytes() == before + b"nonsense\n"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [PAIRS]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../secret.png", "files/../../x", "files//x", "./x", "", "a\\b", "a\0b", "files/.", "files/"],
)
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(ValidationError):
        stored(path)


@given(st.text(max_size=30))
def test_no_path_that_is_taken_leads_out_of_the_folder(path):
    try:
        taken = stored(path).path
    except ValidationError:
        return
    root = Path("/data/set")
    assert (root / taken).is_relative_to(root)
    assert ".." not in Path(taken).parts


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "ä", 121 * "a", "a\n", "../a", "a%2f"])
def test_ids_that_are_no_safe_file_names_are_refused(pair, name):
    for field in ("id", "object_id"):
        with pytest.raises(ValidationError):
            Pair.model_validate({**pair.model_dump(), field: name})


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"version": 2}, "version 2 of the manifest.*newer refgc"),
        ({"version": "1; drop"}, "version '1; drop'"),
        ({"category": "gadget"}, "category"),
        ({"split": "holdout"}, "split"),
        ({"surprise": 1}, "surprise"),
        ({"change": {"matches": -1, "overlap": 0.5, "shift": 0.1}}, "change.matches"),
        ({"change": {"matches": 1, "overlap": 1.5, "shift": 0.1}}, "change.overlap"),
        ({"hrri": None}, "hrri"),
        ({"id": 7}, "id"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_with_line_and_field(tmp_path, pair, change, part):
    file = tmp_path / PAIRS
    append_row(file, pair)
    file.write_text(file.read_text() + "\n" + json.dumps({**pair.model_dump(mode="json"), **change}) + "\n")
    rows = read_rows(file, Pair)
    assert next(rows) == pair
    with pytest.raises(InputError, match=rf"(?s)^Line 3 .*{part}.*\.$"):
        next(rows)


def test_infinities_are_no_numbers_of_a_row(tmp_path, pair):
    file = tmp_path / PAIRS
    append_row(file, pair)
    file.write_text(file.read_text().replace('"shift":0.1', '"shift":Infinity'))
    with pytest.raises(InputError, match=r"change\.shift"):
        list(read_rows(file, Pair))


def test_lines_that_cannot_be_used_may_be_told_and_left_out(tmp_path, pair):
    file = tmp_path / PAIRS
    file.write_text("nonsense\n[]\n{}\n")
    append_row(file, pair)
    told: list[InputError] = []
    assert list(read_rows(file, Pair, told.append)) == [pair]
    assert [str(error).split(" of ")[0] for error in told] == ["Line 1", "Line 2", "Line 3"]


def test_a_row_of_another_kind_is_refused(tmp_path, pair):
    append_row(tmp_path / PAIRS, Rejection(step="frames", what="video", reason="It is blurred."))
    with pytest.raises(InputError, match="Line 1"):
        list(read_rows(tmp_path / PAIRS, Pair))


def test_a_deeply_nested_line_is_no_crash(tmp_path):
    (tmp_path / PAIRS).write_text(200_000 * "[" + "\n")
    with pytest.raises(InputError, match="Line 1"):
        list(read_rows(tmp_path / PAIRS, Pair))


def test_rows_cannot_be_changed(pair):
    with pytest.raises(ValidationError):
        pair.split = "test"


def test_there_are_twelve_categories_as_in_the_paper():
    assert len(set(CATEGORIES)) == 12


def test_the_same_dataset_has_the_same_bytes(tmp_path):
    one, two = make_dataset(tmp_path / "one"), make_dataset(tmp_path / "two")
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names
    assert [(one / name).read_bytes() for name in names] == [(two / name).read_bytes() for name in names]
