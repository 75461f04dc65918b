"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

import pytest

from refgc.errors import InputError
from refgc.imaging.files import real_path, write_files, write_whole
from tests.support.pictures import names_in, refusal

resource = pytest.importorskip("resource", reason="limits of this process need Unix")


def test_a_new_file(tmp_path):
    write_whole(tmp_path / "new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content"
    assert names_in(tmp_path) == ["new"]


def test_an_old_file_is_replaced(tmp_path):
    (tmp_path / "old").write_bytes(b"x" * 1000)
    write_whole(str(tmp_path / "old"), b"content")
    assert (tmp_path / "old").read_bytes() == b"content"
    assert names_in(tmp_path) == ["old"]


def test_a_name_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content"


def test_a_name_of_the_greatest_length(tmp_path):
    name = "x" * 255
    write_whole(tmp_path / name, b"content")
    assert names_in(tmp_path) == [name]
    assert "too long" in refusal(lambda: write_whole(tmp_path / (name + "x"), b"content"))
    assert names_in(tmp_path) == [name]


def test_a_name_is_too_long_also_in_a_folder_that_is_not_there_yet(tmp_path):
    first, place = tmp_path / "first", tmp_path / "new" / ("x" * 256)
    with pytest.raises(InputError, match="too long"):
        real_path(place)
    with pytest.raises(InputError, match="too long"):
        write_files({first: lambda: b"one", place: lambda: b"two"})
    assert names_in(tmp_path) == []


def test_a_place_that_is_taken_meanwhile_is_named_and_not_its_draft(tmp_path):
    place = tmp_path / "place"

    def content() -> bytes:
        place.mkdir()
        return b"content"

    with pytest.raises(OSError, match="directory") as told:
        write_files({place: content})
    assert told.value.filename == str(place)


def test_a_name_that_no_file_can_have(tmp_path):
    assert "no file can have" in refusal(lambda: write_whole(tmp_path / "a\0b", b"content"))


def test_a_circle_of_links(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    for path in (tmp_path / "one", tmp_path / "one" / "file"):
        assert "circle of symbolic links" in refusal(lambda: write_whole(path, b"content"))  # noqa: B023
        assert "circle of symbolic links" in refusal(lambda: real_path(path))  # noqa: B023
    assert names_in(tmp_path) == ["one", "two"]


def test_a_path_leads_through_links(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert real_path(tmp_path / "link" / "absent") == (tmp_path / "folder" / "absent").resolve()


def test_several_files_appear_in_order_with_their_folders(tmp_path):
    places = [tmp_path / "new" / "folder" / "a", tmp_path / "new" / "b"]
    seen = []

    def content(place: Path) -> bytes:
        seen.append(place)
        assert not any(other.exists() for other in places)
        return place.name.encode()

    write_files({place: partial(content, place) for place in places})
    assert seen == places
    assert [place.read_bytes() for place in places] == [b"a", b"b"]
    assert names_in(tmp_path / "new") == ["b", "folder"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError(), KeyboardInterrupt()])
def test_of_several_files_none_is_written_when_one_fails(tmp_path, failure):
    def fail() -> bytes:
        raise failure

    (tmp_path / "old").write_bytes(b"old")
    files = {tmp_path / "old": lambda: b"new", tmp_path / "folder" / "a": lambda: b"a", tmp_path / "b": fail}
    with pytest.raises(type(failure)):
        write_files(files)
    assert names_in(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_a_new_file(umask, tmp_path):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "new", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_whole(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_disk_that_fills_up_leaves_everything_as_it_was(old, tmp_path):
    """The system refuses to let a file of this process grow, as it does when the disk is full."""
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InputError) as caught:
            write_whole(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == f"{str(path)!r} cannot be written (File too large); choose another place."
    assert names_in(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_interrupted_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "new", b"content")
    assert names_in(tmp_path) == []


def test_a_missing_folder(tmp_path):
    path = tmp_path / "nowhere" / "file"
    sentence = refusal(lambda: write_whole(path, b"content"))
    assert sentence == f"The folder of {str(path)!r} does not exist; make it first or choose another."


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert "does not exist; make it first" in refusal(lambda: write_whole(tmp_path / "file" / "new", b"content"))


def test_a_folder_in_its_place(tmp_path):
    assert "is a folder; give the name of a file" in refusal(lambda: write_whole(tmp_path, b"content"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc, where nobody may write")
def test_an_unwritable_folder():
    assert "choose another place" in refusal(lambda: write_whole("/proc/new.png", b"content"))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everything")
def test_write_protected(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o444)
    assert "is write-protected" in refusal(lambda: write_whole(tmp_path / "file", b"content"))
    (tmp_path / "closed").mkdir(mode=0o555)
    assert "choose another place" in refusal(lambda: write_whole(tmp_path / "closed" / "new", b"content"))
