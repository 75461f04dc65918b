"""Full and write-protected disks, and processes that are killed while they write: nothing is kept by halves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refgc.errors import InputError
from refgc.imaging import files
from refgc.runner import Finished
from refgc.training import cache_files, checkpoint
from refgc.training.cache import fill_cache, open_cache
from refgc.training.refiner import run_refiner
from refgc.training.settings import RefinerRun
from tests.support.command import ENVIRONMENT, assert_one_sentence, run_inside
from tests.support.disks import BALLAST, Disk, mounted
from tests.support.training_run import write_run
from tests.training.test_refiner import changed, lines_of

# Of `cached`: 6 prompts, the empty one, and 6 samples.
FILES = 13


def here(build: Callable[[], Callable[[Any], Any]], items: Iterable[Any], **_: object) -> Iterator[Finished[Any, Any]]:
    """Stands where workers would be started, each of which loads torch."""
    work = build()
    for item in items:
        try:
            yield Finished(item, work(item))
        except Exception as error:
            yield Finished(item, error=error)


@pytest.fixture
def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_files, "run", here)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of two megabytes."""
    with mounted(tmp_path / "disk") as found:
        yield found


def with_cache(settings: RefinerRun, folder: Path) -> RefinerRun:
    """The same run with an empty cache of its own."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"cache": str(folder)})})


def file_of(settings: RefinerRun, folder: Path) -> Path:
    return write_run(folder / "run.toml", settings.model_dump(mode="json", exclude_none=True))


def contents(folder: Path | str) -> dict[str, bytes]:
    """All files of a cache but drafts."""
    root = Path(folder)
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*.safetensors")}


def fill_and_die(settings: RefinerRun, writes: int, share: float) -> None:
    """Fills the cache, and ends as by `kill -9` when a part of a file is written."""
    write, done = files._write, 0

    def written(draft: Path, content: bytes | Iterable[bytes]) -> None:
        nonlocal done
        done += 1
        assert isinstance(content, bytes)
        write(draft, content[: round(len(content) * share)] if done == writes else content)
        if done == writes:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "_write", written)
        patched.setattr(cache_files, "run", here)
        fill_cache(settings)


@pytest.mark.parametrize(("writes", "share"), [(1, 0.5), (7, 0.0), (8, 0.9), (13, 1.0)])
def test_a_cache_that_is_killed_while_it_writes_goes_on_to_the_same_bytes(
    cached: RefinerRun, tmp_path: Path, without_workers: None, writes: int, share: float
) -> None:
    """Within the first prompt, the last and the first sample, and between writing the last and moving it."""
    settings = with_cache(cached, tmp_path / "cache")
    # A fork has torch in memory already.
    process = multiprocessing.get_context("fork").Process(target=fill_and_die, args=(settings, writes, share))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    whole = contents(cached.data.cache)
    kept = contents(settings.data.cache)
    assert len(kept) == writes - 1
    assert kept.items() <= whole.items()
    with pytest.raises(InputError, match=rf"(none of the|{FILES + 1 - writes} of) {FILES} files"):
        open_cache(settings)
    count = fill_cache(settings)
    assert (count.made, count.earlier) == (FILES + 1 - writes, writes - 1)
    assert contents(settings.data.cache) == whole


@pytest.mark.slow
@pytest.mark.parametrize("made", [0, 3, 9])
def test_the_command_and_its_workers_are_killed_and_it_goes_on(cached: RefinerRun, tmp_path: Path, made: int) -> None:
    """While the networks are loaded, among the prompts and among the samples."""
    settings = with_cache(cached, tmp_path / "cache")
    command = [sys.executable, "-m", "refgc", "train", "cache", str(file_of(settings, tmp_path))]
    environment = {**ENVIRONMENT, "REFGC_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    while not Path(settings.data.cache).is_dir() or len(contents(settings.data.cache)) < made:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert contents(settings.data.cache).items() <= contents(cached.data.cache).items()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert contents(settings.data.cache) == contents(cached.data.cache)


def test_a_cache_on_a_full_disk_is_one_sentence_and_goes_on(
    cached: RefinerRun, disk: Disk, tmp_path: Path, without_workers: None
) -> None:
    settings = with_cache(cached, disk.folder / "cache")
    file = file_of(settings, tmp_path)
    disk.fill(leaving=100_000)
    done = run_inside("train", "cache", file, REFGC_DEVICE="cpu")
    assert_one_sentence(done, 1, "(No space left on device); free space or choose another place")
    whole = contents(cached.data.cache)
    kept = contents(settings.data.cache)
    assert 0 < len(kept) < FILES
    assert kept.items() <= whole.items()
    assert not list(disk.folder.rglob("*.tmp"))
    disk.empty()
    assert fill_cache(settings).earlier == len(kept)
    assert contents(settings.data.cache) == whole


@pytest.mark.parametrize("there", [False, True], ids=["none", "an empty one"])
def test_a_cache_that_may_not_be_written_is_one_sentence_before_any_network_is_loaded(
    cached: RefinerRun, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(cache_files, "run", None)
    settings = with_cache(cached, disk.folder / "cache")
    if there:
        (disk.folder / "cache").mkdir()
    disk.protect()
    done = run_inside("train", "cache", file_of(settings, tmp_path), REFGC_DEVICE="cpu")
    assert_one_sentence(done, 2, "is write-protected; choose" if there else "(Read-only file system); choose another")


def test_a_run_whose_folder_may_not_be_written_is_one_sentence_before_anything_is_loaded(
    cached: RefinerRun, disk: Disk, tmp_path: Path
) -> None:
    file = file_of(changed(cached, disk.folder, data={"cache": str(tmp_path / "none")}), tmp_path)
    disk.protect()
    assert_one_sentence(run_inside("train", "refiner", file, REFGC_DEVICE="cpu"), 2, "is write-protected; choose")


@pytest.mark.parametrize("name", ["adapter", "lora"])
def test_an_export_that_may_not_be_written_is_one_sentence_and_comes_when_it_may(
    cached: RefinerRun, tmp_path: Path, name: str
) -> None:
    settings = changed(cached, tmp_path / "run", validation={"every": 0})
    file = file_of(settings, tmp_path)
    with mounted(tmp_path / "run" / name) as disk:
        disk.protect()
        done = run_inside("train", "refiner", file, "--max-steps", "2", "--quiet", REFGC_DEVICE="cpu")
        assert_one_sentence(done, 2, f"run/{name}")
        assert [one.name for one in checkpoint.checkpoints(tmp_path / "run")] == ["step_00000002"]
    assert run_refiner(settings, max_steps=2) == tmp_path / "run" / "adapter"
    assert len(lines_of(settings)) == 2


def test_a_run_on_a_full_disk_is_one_sentence_and_goes_on_exactly(cached: RefinerRun, tmp_path: Path) -> None:
    how: dict[str, Any] = {"validation": {"every": 0}, "run": {"steps": 4}}
    whole = changed(cached, tmp_path / "whole", **how)
    run_refiner(whole)
    with mounted(tmp_path / "disk", "8m") as disk:
        settings = changed(cached, disk.folder / "run", **how)
        run_refiner(settings, max_steps=2)
        taken = sum(one.stat().st_size for one in checkpoint.checkpoints(disk.folder / "run")[0].rglob("*"))
        (disk.folder / BALLAST).touch()
        disk.fill(leaving=taken // 2)
        done = run_inside("train", "refiner", file_of(settings, tmp_path), "--quiet", REFGC_DEVICE="cpu")
        assert_one_sentence(done, 1, "free space or choose another place")
        assert [one.name for one in checkpoint.checkpoints(disk.folder / "run")] == ["step_00000002"]
        assert not list((disk.folder / "run" / "checkpoints").glob(".draft*"))
        disk.empty()
        run_refiner(settings)
        assert [line["loss"] for line in lines_of(settings)] == [line["loss"] for line in lines_of(whole)]
