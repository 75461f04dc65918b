"""Results given again: whose they are, when they are the same, and everything that can happen to their files."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from refgc.imaging.image import Image, Mask
from refgc.page.pictures import ShownResult, write_result
from refgc.page.service.cache import ResultCache, made_by
from refgc.request import RefineRequest
from tests.page.test_app import make_report, make_result


def picture(seed: int, size: tuple[int, int] = (40, 50)) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def mask(value: float) -> Mask:
    values = np.zeros((40, 50), np.float32)
    values[10:20] = value
    return Mask(values)


REQUEST = RefineRequest(picture(1), picture(2))


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return open_cache(tmp_path)


def open_cache(tmp_path: Path, *, most_bytes: float = 1e9, longest_seconds: float = 3600) -> ResultCache:
    return ResultCache(tmp_path / "results", most_bytes=most_bytes, longest_seconds=longest_seconds)


@pytest.fixture
def made(tmp_path: Path) -> tuple[ShownResult, Path]:
    return make(tmp_path, "made")


def make(tmp_path: Path, name: str) -> tuple[ShownResult, Path]:
    folder = tmp_path / "uploads" / name
    return write_result(make_result(make_report(message=f"This is {name}.")), folder), folder


def entry_of(tmp_path: Path, key: str) -> Path:
    return tmp_path / "results" / "entries" / key


# --- what is the same -----------------------------------------------------------------------------------------------


def test_same_content_has_the_same_name(cache: ResultCache):
    again = RefineRequest(Image(REQUEST.reference.pixels.copy()), Image(REQUEST.generated.pixels.copy()))
    assert cache.key(REQUEST, "engine") == cache.key(again, "engine")


@pytest.mark.parametrize(
    "change",
    [
        {"reference": picture(3)},
        {"generated": picture(3)},
        {"reference": picture(2), "generated": picture(1)},
        {"reference": Image(REQUEST.reference.pixels.reshape(50, 40, 3))},
        {"reference": Image(REQUEST.reference.pixels, mask(1))},
        {"reference_mask": mask(1)},
        {"generated_mask": mask(1)},
        {"generated_mask": mask(0.5)},
        {"scale": 2},
        {"object_name": "teapot"},
        {"seed": 1},
        {"strength": 0.5},
    ],
    ids=lambda change: " ".join(change),
)
def test_whatever_decides_the_result_changes_the_name(cache: ResultCache, change: dict[str, Any]):
    assert cache.key(dataclasses.replace(REQUEST, **change), "engine") != cache.key(REQUEST, "engine")


def test_every_part_of_a_request_is_tried_above():
    assert {field.name for field in dataclasses.fields(RefineRequest)} == {
        *("reference", "generated", "scale", "reference_mask", "generated_mask", "object_name", "seed", "strength")
    }


def test_names_differ_by_engine_and_by_installation(cache: ResultCache, tmp_path: Path):
    name = cache.key(REQUEST, "engine")
    assert cache.key(REQUEST, "other engine") != name
    assert open_cache(tmp_path).key(REQUEST, "engine") == name
    assert open_cache(tmp_path / "elsewhere").key(REQUEST, "engine") != name


def test_engine_is_named_with_its_code_and_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert made_by("correspondence") == made_by("correspondence") != made_by("diffusion")
    before = made_by("diffusion")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("config.json", "freqmole.safetensors"):
        (adapter / name).write_text("{}")
    monkeypatch.setenv("REFGC_ADAPTER", str(adapter))
    with_adapter = made_by("diffusion")
    (adapter / "freqmole.safetensors").write_text("{ }")
    assert len({before, with_adapter, made_by("diffusion")}) == 3


# --- given again ----------------------------------------------------------------------------------------------------


def test_result_is_given_again_in_files_of_its_own(cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path):
    shown, folder = made
    cache.keep("key", shown, folder)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    given = cache.give("key", tmp_path / "uploads" / "given")
    assert given is not None
    assert {path.name: path.read_bytes() for path in (tmp_path / "uploads" / "given").iterdir()} == kept
    assert given.report == shown.report
    assert [caption for _, caption in given.stages] == [caption for _, caption in shown.stages]
    assert given.download == tmp_path / "uploads" / "given" / shown.download.name
    assert all(path.is_file() for path in (*given.whole, *(given.close_up or ()), given.download))
    shutil.rmtree(tmp_path / "uploads" / "given")
    assert cache.give("key", tmp_path / "uploads" / "given") == given


def test_without_a_result_nothing_is_made(cache: ResultCache, tmp_path: Path):
    assert cache.give("nothing", tmp_path / "given") is None
    assert not (tmp_path / "given").exists()


def test_nobody_else_on_the_machine_can_read_it(cache: ResultCache, tmp_path: Path):
    assert stat.S_IMODE((tmp_path / "results").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "results" / "secret").stat().st_mode) == 0o600


def test_folder_behind_a_link_is_not_taken(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        open_cache(tmp_path)


def remove_a_picture(entry: Path) -> None:
    next(entry.glob("*.webp")).unlink()


def remove_the_manifest(entry: Path) -> None:
    (entry / "manifest.json").unlink()


def cut_the_manifest(entry: Path) -> None:
    path = entry / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def change_one_byte(entry: Path) -> None:
    path = next(entry.glob("refined-*.png"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_the_shape(entry: Path) -> None:
    path = entry / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["result"]["download"]
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage", [remove_a_picture, remove_the_manifest, cut_the_manifest, change_one_byte, change_the_shape]
)
def test_damaged_result_is_forgotten_and_made_anew(
    cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path, damage: Callable[[Path], None]
):
    shown, folder = made
    cache.keep("key", shown, folder)
    for path in folder.iterdir():  # the links' other ends, which a visitor may still be looking at
        path.unlink()
    damage(entry_of(tmp_path, "key"))
    assert cache.give("key", tmp_path / "given") is None
    assert not (tmp_path / "given").exists()
    assert not entry_of(tmp_path, "key").exists()
    again, again_folder = make(tmp_path, "again")
    cache.keep("key", again, again_folder)
    assert cache.give("key", tmp_path / "given") is not None


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_what_was_asked_for_longest_ago_goes_first(tmp_path: Path):
    shown, folder = make(tmp_path, "one")
    size = sum(path.stat().st_size for path in folder.iterdir())
    cache = open_cache(tmp_path, most_bytes=3.5 * size)
    for number, key in enumerate(("a", "b", "c")):
        cache.keep(key, shown, folder)
        os.utime(entry_of(tmp_path, key), (time.time() - 100 + number,) * 2)
    assert cache.give("a", tmp_path / "given") is not None
    cache.keep("d", shown, folder)
    assert {key for key in "abcd" if entry_of(tmp_path, key).exists()} == set("acd")
    assert cache.give("a", tmp_path / "given again") is not None
    cache.trim(0)
    assert not any(entry_of(tmp_path, key).exists() for key in "abcd")
    assert shown.download.is_file()


def test_old_results_go_however_often_they_are_asked_for(tmp_path: Path, made: tuple[ShownResult, Path]):
    cache = open_cache(tmp_path, longest_seconds=60)
    shown, folder = made
    cache.keep("key", shown, folder)
    manifest = entry_of(tmp_path, "key") / "manifest.json"
    os.utime(manifest, (time.time() - 61,) * 2)
    assert cache.give("key", tmp_path / "given") is None
    cache.trim()
    assert not manifest.exists()


def test_what_was_left_unfinished_goes(tmp_path: Path, cache: ResultCache):
    left, young = (tmp_path / "results" / "unfinished" / name for name in ("left", "young"))
    for folder in (left, young):
        folder.mkdir()
    os.utime(left, (time.time() - 4000,) * 2)
    cache.trim()
    assert not left.exists()
    assert young.exists()


# --- many at once, and killed ---------------------------------------------------------------------------------------


def test_disk_that_fills_up_while_keeping_leaves_nothing(
    cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_room(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", no_room)
    monkeypatch.setattr(shutil, "copyfile", no_room)
    cache.keep("key", *made)
    assert list((tmp_path / "results" / "unfinished").iterdir()) == []
    assert cache.give("key", tmp_path / "given") is None


def test_other_file_system_is_copied_to(
    cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def cross_device(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", cross_device)
    cache.keep("key", *made)
    given = cache.give("key", tmp_path / "given")
    assert given is not None
    assert given.download.read_bytes() == made[0].download.read_bytes()


def work_on(tmp_path: Path, number: int, rounds: int, ready: Path | None = None) -> None:
    """Keeps, gets and forgets results under a few names, and makes sure that each is whole and the right one."""
    cache = open_cache(tmp_path, most_bytes=40_000)
    for turn in range(rounds):
        key = f"key-{turn % 3}"
        shown, folder = make(tmp_path, f"{key}-{number}-{turn}")
        cache.keep(key, shown, folder)
        shutil.rmtree(folder)
        given_folder = tmp_path / "uploads" / f"given-{number}-{turn}"
        given = cache.give(key, given_folder)
        if given is not None:
            assert f"{key}-" in given.report.message
            for path in (*given.whole, given.download):
                PIL.Image.open(path).load()
            shutil.rmtree(given_folder)
        if ready is not None:
            ready.touch()


def test_processes_share_it(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work_on, args=(tmp_path, number, 25)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_process_killed_at_any_moment_leaves_nothing_that_is_given_damaged(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    for number in range(4):
        ready = tmp_path / f"ready-{number}"
        worker = context.Process(target=work_on, args=(tmp_path, number, 10_000, ready))
        worker.start()
        ends_at = time.monotonic() + 60
        while not ready.exists():
            assert time.monotonic() < ends_at
            time.sleep(0.005)
        time.sleep(0.013 * number)
        worker.kill()
        worker.join(30)
    cache = open_cache(tmp_path)
    for turn in range(3):
        given = cache.give(f"key-{turn}", tmp_path / "given" / str(turn))
        if given is not None:
            assert f"key-{turn}-" in given.report.message
            for path in (*given.whole, given.download):
                PIL.Image.open(path).load()
        key = f"key-{turn}"
        cache.keep(key, *make(tmp_path, f"{key}-afterwards"))
        assert cache.give(key, tmp_path / "given again" / str(turn)) is not None


def test_folder_that_somebody_deleted_is_made_again(cache: ResultCache, made: tuple[ShownResult, Path], tmp_path: Path):
    shutil.rmtree(tmp_path / "results")
    cache.trim()
    cache.keep("key", *made)
    assert cache.give("key", tmp_path / "given") is not None
