"""A watched folder: what counts as a picture in it, and when one is complete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refgc.errors import InputError
from refgc.watch.folder import Settling, State, pictures_in, state_of


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(folder: Path, *excluded: Path) -> list[str]:
    return [path.as_posix() for path in pictures_in(folder, frozenset(excluded))]


def test_hidden_unfinished_and_other_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "b.PNG", tmp_path / "a.jpg", tmp_path / "deep" / "er" / "c.webp")
    others = (
        ".a.png", ".a.png.Xy12", "~a.png", "a.png.part", "a.png.tmp", "a.png.crdownload", "a.txt", "a", ".hidden/a.png",
    )  # fmt: skip
    touch(*(tmp_path / name for name in others))
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to("nowhere")
    assert names(tmp_path) == ["a.jpg", "b.PNG", "deep/er/c.webp"]


def test_what_is_excluded_is_left_out_through_links_too(tmp_path: Path) -> None:
    place = tmp_path / "place"
    touch(place / "a.png", place / "out" / "a.png", place / "photo.jpg", tmp_path / "mask.png")
    (place / "link.jpg").symlink_to("photo.jpg")
    (place / "marks.png").symlink_to(tmp_path / "mask.png")
    link = tmp_path / "link"
    link.symlink_to(place)
    excluded = [path.resolve() for path in (place / "out", place / "photo.jpg", tmp_path / "mask.png")]
    assert names(link, *excluded) == ["a.png"]
    assert len(names(place)) == 5


def test_a_circle_of_links_between_folders_ends(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    (tmp_path / "again").symlink_to(tmp_path)
    assert names(tmp_path) == ["a.png"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        pictures_in(tmp_path / "none", frozenset())


def test_a_picture_is_complete_when_it_is_the_same_twice(tmp_path: Path) -> None:
    growing, there = tmp_path / "growing.png", tmp_path / "there.png"
    touch(growing, there)
    settling = Settling()

    def look() -> tuple[list[str], list[str]]:
        complete, waiting = settling.look(pictures_in(tmp_path, frozenset()))
        return [path.name for path in complete], [path.name for path in waiting]

    assert look() == ([], ["growing.png", "there.png"])
    growing.write_bytes(b"xx")
    assert look() == (["there.png"], ["growing.png"])
    os.utime(growing, (1, 1))
    assert look() == (["there.png"], ["growing.png"])
    there.rename(tmp_path / "renamed.png")
    assert look() == (["growing.png"], ["renamed.png"])
    assert look() == (["growing.png", "renamed.png"], [])


def test_the_state_tells_size_and_time(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", ns=(5, 7_000))
    assert state_of(tmp_path / "a.png") == State(1, 7_000)
    assert state_of(tmp_path) is None
    assert state_of(tmp_path / "none.png") is None
