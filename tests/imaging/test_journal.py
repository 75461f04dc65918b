"""Files of JSON lines: whole lines only, whatever interrupts the writing."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from refgc.errors import InputError
from refgc.imaging.journal import append_line, line_of, read_lines


def test_lines_are_read_as_they_were_added(tmp_path):
    file = tmp_path / "folder" / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"name": "a"}, {"name": "ä\n", "values": [1, 2.5, None]}, {}]
    for row in rows:
        append_line(file, row)
    assert list(read_lines(file)) == rows
    assert file.read_bytes() == b"".join(map(line_of, rows))


def test_no_file_has_no_lines(tmp_path):
    assert list(read_lines(tmp_path / "rows.jsonl")) == []


@pytest.mark.parametrize("cut", [1, 5, 70_000])
def test_line_that_was_cut_off_is_left_out_and_then_replaced(tmp_path, cut):
    file = tmp_path / "rows.jsonl"
    append_line(file, {"number": 1})
    whole = file.read_bytes()
    file.write_bytes(whole + (b'{"text":"' + b"x" * 80_000)[:cut])
    assert list(read_lines(file)) == [{"number": 1}]
    append_line(file, {"number": 2})
    assert file.read_bytes() == whole + line_of({"number": 2})


def test_file_that_is_one_cut_line_starts_anew(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"num')
    append_line(file, {"number": 1})
    assert list(read_lines(file)) == [{"number": 1}]


@pytest.mark.parametrize("line", [b"{]\n", b"[1]\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_damaged_whole_line_is_told_with_its_number(tmp_path, line):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"{}\n" + line)
    with pytest.raises(InputError, match=r"^Line 2 of .*rows.jsonl"):
        list(read_lines(file))


def test_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "rows.jsonl"
    append_line(file, {"number": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_line(file, {"number": 2})
    assert list(read_lines(file)) == [{"number": 1}]
