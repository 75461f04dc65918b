"""Cached results: when they are the same, whose the files are, and everything that can happen to the files."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import PIL.Image
import pytest

from refgc.page.pictures import ShownResult, write_result
from refgc.page.service.cache import ResultCache
from refgc.page.service.index import FolderIndex, SqliteIndex
from tests.support.reports import make_report, make_result

OPTIONS = {"scale": 4, "strength": 1.0, "seed": 0, "object name": "object", "engine": "correspondence"}


IndexType: TypeAlias = type[SqliteIndex] | type[FolderIndex]
# Every test is done with the index of one machine and with that of several; the fixture changes it.
index_type: IndexType = SqliteIndex


@pytest.fixture(autouse=True, params=[SqliteIndex, FolderIndex])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> IndexType:
    """The index of the test's caches."""
    monkeypatch.setattr(sys.modules[__name__], "index_type", request.param)
    chosen: IndexType = request.param
    return chosen


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return open_cache(tmp_path)


def open_cache(
    tmp_path: Path,
    *,
    max_bytes: float = 1e9,
    clock: Callable[[], float] = time.time,
    index: IndexType | None = None,
) -> ResultCache:
    return ResultCache(
        tmp_path / "results", max_bytes=max_bytes, max_seconds=3600, clock=clock, index=index or index_type
    )


@pytest.fixture
def made(tmp_path: Path) -> tuple[ShownResult, Path]:
    return make(tmp_path, "made")


def make(tmp_path: Path, name: str) -> tuple[ShownResult, Path]:
    folder = tmp_path / "uploads" / name
    result = make_result(make_report(message=f"This is {name}."))
    return write_result(result, result.image, folder), folder


def entries(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "results" / "entries").iterdir())


# --- the key --------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path | None]:
    for name in ("reference", "generated", "copy", "mask"):
        (tmp_path / name).write_bytes(b"reference" if name == "copy" else name.encode())
    return {"reference": tmp_path / "reference", "generated": tmp_path / "generated", "reference mask": None}


def test_same_bytes_and_options_have_the_same_key(cache: ResultCache, files: dict[str, Path | None], tmp_path: Path):
    key = cache.key(files, OPTIONS)
    assert cache.key({**files, "reference": tmp_path / "copy"}, dict(reversed(OPTIONS.items()))) == key
    assert open_cache(tmp_path).key(files, OPTIONS) == key
    assert open_cache(tmp_path / "elsewhere").key(files, OPTIONS) != key


@pytest.mark.parametrize(
    "change",
    [
        {"reference": "generated", "generated": "reference"},
        {"reference": "mask"},
        {"reference mask": "mask"},
        {"generated mask": "mask"},
        {"reference": None},
    ],
    ids=str,
)
def test_each_file_changes_the_key(
    cache: ResultCache, files: dict[str, Path | None], tmp_path: Path, change: dict[str, str | None]
):
    changed = {name: None if file is None else tmp_path / file for name, file in change.items()}
    assert cache.key({**files, **changed}, OPTIONS) != cache.key(files, OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_the_key(cache: ResultCache, files: dict[str, Path | None], option: str):
    assert cache.key(files, {**OPTIONS, option: "another"}) != cache.key(files, OPTIONS)


# --- entries --------------------------------------------------------------------------------------------------------


def test_cached_result_comes_in_files_of_its_own(cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path):
    shown, folder = made
    cache.put("key", shown, folder)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    target = tmp_path / "uploads" / "given"
    given = open_cache(tmp_path).get("key", target)  # as after a restart
    assert given is not None
    assert {path.name: path.read_bytes() for path in target.iterdir()} == kept
    assert given.report == shown.report
    assert [caption for _, caption in given.stages] == [caption for _, caption in shown.stages]
    assert given.download == target / shown.download.name
    assert all(path.is_file() for path in (*given.whole, given.reference, given.download))
    shutil.rmtree(target)
    assert cache.get("key", target) == given


def test_without_a_result_nothing_is_made(cache: ResultCache, tmp_path: Path):
    assert cache.get("nothing", tmp_path / "given") is None
    assert not (tmp_path / "given").exists()


def test_nobody_else_on_the_machine_can_read_it(cache: ResultCache, tmp_path: Path):
    assert stat.S_IMODE((tmp_path / "results").stat().st_mode) == 0o700


def test_folder_behind_a_link_is_not_taken(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        open_cache(tmp_path)


def remove_a_picture(entry: Path) -> None:
    next(entry.glob("*.webp")).unlink()


def remove_the_result(entry: Path) -> None:
    (entry / "result.json").unlink()


def remove_everything(entry: Path) -> None:
    shutil.rmtree(entry)


def cut_the_result(entry: Path) -> None:
    path = entry / "result.json"
    path.write_bytes(path.read_bytes()[:100])


def change_one_byte(entry: Path) -> None:
    path = next(entry.glob("refined-*.png"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [remove_a_picture, remove_the_result, remove_everything, cut_the_result, change_one_byte]
)
def test_damaged_result_is_deleted_and_made_anew(
    cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path, damage: Callable[[Path], None]
):
    shown, folder = made
    cache.put("key", shown, folder)
    shutil.rmtree(folder)  # the other ends of the links
    damage(entries(tmp_path)[0])
    assert cache.get("key", tmp_path / "given") is None
    assert not (tmp_path / "given").exists()
    assert entries(tmp_path) == []
    cache.put("key", *make(tmp_path, "again"))
    assert cache.get("key", tmp_path / "given") is not None


def index_files(tmp_path: Path) -> list[Path]:
    """What the index keeps, whichever it is."""
    folder = tmp_path / "results"
    return [*folder.glob("index.sqlite*"), *folder.glob("index/*")]


def test_damaged_index_is_made_anew(cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path):
    cache.put("key", *made)
    for file in index_files(tmp_path):
        file.write_bytes(b"no index" * 1000)
    assert cache.get("key", tmp_path / "given") is None
    cache.put("key", *made)
    assert cache.get("key", tmp_path / "given") is not None


def test_index_with_a_damaged_page_is_made_anew_at_the_next_start(tmp_path: Path, made: tuple[ShownResult, Path]):
    cache = open_cache(tmp_path, index=SqliteIndex)
    cache.put("key", *made)
    file = tmp_path / "results" / "index.sqlite"
    content = file.read_bytes()
    page = 4096  # the first one has the names of the tables and stays
    file.write_bytes(content[:page] + b"\xff" * (len(content) - page))
    again = open_cache(tmp_path, index=SqliteIndex)
    assert again.get("key", tmp_path / "given") is None
    again.put("key", *made)
    assert again.get("key", tmp_path / "given") is not None


def test_locked_index_is_a_miss(cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path):
    cache.put("key", *made)
    for file in index_files(tmp_path):
        file.unlink()
        file.mkdir()
    assert cache.get("key", tmp_path / "given") is None
    cache.put("key", *made)
    cache.trim()


def test_folder_that_somebody_deleted_is_made_again(cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path):
    shutil.rmtree(tmp_path / "results")
    cache.trim()
    cache.put("key", *made)
    assert cache.get("key", tmp_path / "given") is not None


def test_result_that_cannot_be_kept_leaves_nothing(cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path):
    shown, folder = made
    (folder / "nowhere").symlink_to(tmp_path / "missing")
    cache.put("key", shown, folder)
    assert cache.get("key", tmp_path / "given") is None
    assert entries(tmp_path) == []


def test_other_file_system_is_copied_to(
    cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def cross_device(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", cross_device)
    cache.put("key", *made)
    given = cache.get("key", tmp_path / "given")
    assert given is not None
    assert given.download.read_bytes() == made[0].download.read_bytes()


# --- bounds ---------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def kept(cache: ResultCache, tmp_path: Path) -> str:
    found = []
    for key in "abcd":
        if cache.get(key, tmp_path / "looking") is not None:
            found.append(key)
            shutil.rmtree(tmp_path / "looking")
    return "".join(found)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path):
    shown, folder = make(tmp_path, "one")
    size = sum(path.stat().st_size for path in folder.iterdir())
    cache = open_cache(tmp_path, max_bytes=3.5 * size, clock=Clock())
    for key in "abc":
        cache.put(key, shown, folder)
    assert cache.get("a", tmp_path / "given") is not None
    cache.put("d", shown, folder)
    assert kept(cache, tmp_path) == "acd"
    assert len(entries(tmp_path)) == 3
    cache.trim(0)
    assert kept(cache, tmp_path) == ""
    assert entries(tmp_path) == []
    assert shown.download.is_file()


def test_old_results_go_however_often_they_are_used(tmp_path: Path, made: tuple[ShownResult, Path]):
    clock = Clock()
    cache = open_cache(tmp_path, clock=clock)
    cache.put("a", *made)
    clock.now += 3000
    assert kept(cache, tmp_path) == "a"
    clock.now += 601
    assert kept(cache, tmp_path) == ""
    cache.trim()
    assert entries(tmp_path) == []


def test_folders_that_are_not_in_the_index_go(tmp_path: Path, cache: ResultCache):
    left, young = (tmp_path / "results" / "entries" / name for name in ("left", "young"))
    for folder in (left, young):
        folder.mkdir()
    os.utime(left, (time.time() - 4000,) * 2)
    cache.trim()
    assert entries(tmp_path) == [young]


# --- several processes ----------------------------------------------------------------------------------------------


def work_on(tmp_path: Path, index: IndexType, number: int, rounds: int, ready: Path | None = None) -> None:
    """Keeps, gets and deletes results under a few keys, and makes sure that each is whole and the right one."""
    cache = open_cache(tmp_path, max_bytes=100_000, index=index)
    for turn in range(rounds):
        key = f"key-{turn % 3}"
        shown, folder = make(tmp_path, f"{key}-{number}-{turn}")
        cache.put(key, shown, folder)
        shutil.rmtree(folder)
        target = tmp_path / "uploads" / f"given-{number}-{turn}"
        given = cache.get(key, target)
        if given is not None:
            check(given, key)
            shutil.rmtree(target)
        if ready is not None:
            ready.touch()


def check(given: ShownResult, key: str) -> None:
    assert f"{key}-" in given.report.message
    for path in (*given.whole, given.download):
        PIL.Image.open(path).load()


@pytest.mark.slow
def test_processes_share_it_though_one_is_killed(tmp_path: Path, index: IndexType):
    context = multiprocessing.get_context("spawn")
    ready = tmp_path / "ready"
    killed = context.Process(target=work_on, args=(tmp_path, index, 1, 10_000, ready))
    other = context.Process(target=work_on, args=(tmp_path, index, 2, 12))
    killed.start()
    other.start()
    ends_at = time.monotonic() + 120
    while not ready.exists():
        assert time.monotonic() < ends_at
        time.sleep(0.005)
    time.sleep(0.05)
    killed.kill()
    killed.join(30)
    other.join(120)
    assert other.exitcode == 0
    cache = open_cache(tmp_path)
    for turn in range(3):
        key, target = f"key-{turn}", tmp_path / "given" / str(turn)
        given = cache.get(key, target)
        if given is not None:
            check(given, key)
            shutil.rmtree(target)
        cache.put(key, *make(tmp_path, f"{key}-afterwards"))
        assert cache.get(key, target) is not None
