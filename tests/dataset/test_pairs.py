"""Stage 1 as a whole: its rows and files, and that a run which was ended leaves the same as one that was not."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from refgc.correspondence.learned import are_there
from refgc.dataset import pairs as stage
from refgc.dataset.language_model import LanguageModel
from refgc.dataset.lock import only_run
from refgc.dataset.manifest import PAIRS, REJECTIONS, Pair, Rejection, read_rows, write_rows
from refgc.dataset.pairs import PROGRESS, ObjectOutcome, PairsSummary, run_pairs
from refgc.dataset.settings import PairSettings
from refgc.dataset.store import load_image, load_mask
from refgc.errors import InputError
from tests.dataset.support import write_object, write_photo
from tests.support.command import ENVIRONMENT

SETTINGS = PairSettings(side=256, collection="cards", licence="CC0", pairs_per_object=2, no_vlm=True, workers=1)

pytestmark = pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not on this machine")


def quiet(line: str) -> None:
    """Says nothing."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cards with prints, a plain one, and a folder whose photos are none."""
    folder = tmp_path_factory.mktemp("cards")
    write_object(folder / "map", (0.0, 10.0), seed=1)
    write_object(folder / "poster", (0.0, 12.0), seed=2)
    write_object(folder / "plain", (0.0, 10.0), seed=3, paint=lambda _: np.full((256, 256, 3), 150, np.uint8))
    (folder / "broken").mkdir()
    for name in ("0.png", "1.png"):
        (folder / "broken" / name).write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PairsSummary, list[str]]:
    """The dataset of an undisturbed run, how it ended, and what it said."""
    output = tmp_path_factory.mktemp("out") / "set"
    said: list[str] = []
    summary = run_pairs(source, output, SETTINGS, tell=said.append)
    return output, summary, said


def manifest(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in (PAIRS, REJECTIONS)}


def files(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in (output / "files").rglob("*") if path.is_file()}


def test_rows_hold_what_the_pictures_show(finished: tuple[Path, PairsSummary, list[str]]) -> None:
    output, summary, said = finished
    rows = list(read_rows(output / PAIRS, Pair))
    assert {row.object_name for row in rows} == {"map", "poster"}
    assert summary.pairs == len(rows) == 2
    assert summary.objects == 4
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    for row in rows:
        assert (row.source.name, row.source.licence, row.source.kind) == ("cards", "CC0", "photos")
        assert (row.category, row.caption, row.filtered_by) == ("other", None, None)
        assert row.hrri.frame != row.hrgt.frame
        assert row.change.overlap >= SETTINGS.least_overlap
        for view in (row.hrri, row.hrgt):
            assert load_image(output, view.picture).size == (256, 256)
            mask = load_mask(output, view.mask)
            assert (mask.values > 0.5).mean() == pytest.approx(view.object_share, abs=0.01)
            assert view.mask_maker == "source"
            assert view.object_share > 0.05
    assert "MB are free" in said[0]


def test_each_rejection_has_its_reason(finished: tuple[Path, PairsSummary, list[str]]) -> None:
    output, summary, _ = finished
    rejections = list(read_rows(output / REJECTIONS, Rejection))
    assert sum(summary.reasons.values()) == len(rejections)
    steps = {(rejection.step, rejection.what) for rejection in rejections}
    assert ("decode", "broken/0.png") in steps
    assert ("object", "broken") in steps
    assert ("object", "plain") in steps


def test_a_finished_run_does_nothing_and_keeps_what_later_steps_wrote(
    source: Path, finished: tuple[Path, PairsSummary, list[str]], tmp_path: Path
) -> None:
    output = tmp_path / "set"
    shutil.copytree(finished[0], output)
    split = [row.model_copy(update={"split": "test"}) for row in read_rows(output / PAIRS, Pair)]
    write_rows(output / PAIRS, split)
    before = manifest(output)
    summary = run_pairs(source, output, SETTINGS, tell=quiet)
    assert (summary.skipped, summary.pairs) == (4, 2)
    assert manifest(output) == before


def test_a_manifest_that_was_cut_off_gets_its_last_row_back(
    source: Path, finished: tuple[Path, PairsSummary, list[str]], tmp_path: Path
) -> None:
    output = tmp_path / "set"
    shutil.copytree(finished[0], output)
    first, last = (row.model_copy(update={"split": "test"}) for row in read_rows(output / PAIRS, Pair))
    write_rows(output / PAIRS, [first, last])
    (output / PAIRS).write_bytes((output / PAIRS).read_bytes()[:-20])
    run_pairs(source, output, SETTINGS, tell=quiet)
    assert list(read_rows(output / PAIRS, Pair)) == [first, last.model_copy(update={"split": None})]


def test_a_run_goes_on_after_the_last_whole_object(
    source: Path, finished: tuple[Path, PairsSummary, list[str]], tmp_path: Path
) -> None:
    output = tmp_path / "set"
    lines = (finished[0] / PROGRESS).read_bytes().splitlines(keepends=True)
    output.mkdir()
    (output / stage.RUN).write_bytes((finished[0] / stage.RUN).read_bytes())
    # Two whole objects, and a third whose line was cut off.
    (output / PROGRESS).write_bytes(lines[0] + lines[1] + lines[2][:50])
    summary = run_pairs(source, output, SETTINGS, tell=quiet)
    assert summary.skipped == 2
    assert manifest(output) == manifest(finished[0])
    assert (output / PROGRESS).read_bytes() == b"".join(lines)


def test_another_run_does_not_mix_with_the_first(
    source: Path, finished: tuple[Path, PairsSummary, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"begun with other settings \(side\)"):
        run_pairs(source, finished[0], SETTINGS.model_copy(update={"side": 512}), tell=quiet)
    (tmp_path / PAIRS).write_text("")
    with pytest.raises(InputError, match="not made here"):
        run_pairs(source, tmp_path, SETTINGS, tell=quiet)
    with pytest.raises(InputError, match="inside the source"):
        run_pairs(source, source / "set", SETTINGS, tell=quiet)


@pytest.mark.parametrize("content", ["[]", "{", "null"])
def test_a_damaged_file_of_the_run_is_told(source: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / stage.RUN).write_text(content)
    with pytest.raises(InputError, match="cannot be read; delete it or choose another folder"):
        run_pairs(source, tmp_path, SETTINGS, tell=quiet)
    # Deleting it would not help here.
    (tmp_path / PAIRS).touch()
    with pytest.raises(InputError, match="cannot be read; choose another folder"):
        run_pairs(source, tmp_path, SETTINGS, tell=quiet)


def test_two_runs_in_one_folder_do_not_meet(
    source: Path, finished: tuple[Path, PairsSummary, list[str]], tmp_path: Path
) -> None:
    with only_run(finished[0]), pytest.raises(InputError, match="Another run writes into"):
        run_pairs(source, finished[0], SETTINGS, tell=quiet)

    def begin_another(stage: str, fraction: float) -> None:
        with pytest.raises(InputError, match="Another run writes into"):
            run_pairs(source, tmp_path / "set", SETTINGS, tell=quiet)

    run_pairs(source, tmp_path / "set", SETTINGS, tell=quiet, progress=begin_another)
    assert manifest(tmp_path / "set") == manifest(finished[0])


def test_a_disk_that_takes_no_more_ends_the_run_and_what_is_done_stays(source: Path, tmp_path: Path) -> None:
    # Workers inherit the limit: a picture is larger, a line of the manifest is not.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            run_pairs(source, tmp_path / "set", SETTINGS, tell=quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "set" / PAIRS).exists()
    done = [outcome.object for outcome in read_rows(tmp_path / "set" / PROGRESS, ObjectOutcome)]
    # The object without a readable photo came first, and needed no disk.
    assert [name.rpartition("-")[0] for name in done] == ["broken"]


COMMAND = """
import sys
from pathlib import Path
from refgc.dataset.pairs import run_pairs
from tests.dataset.test_pairs import SETTINGS
if __name__ == "__main__":
    settings = SETTINGS.model_copy(update={"workers": int(sys.argv[3]), "runner": sys.argv[4]})
    run_pairs(Path(sys.argv[1]), Path(sys.argv[2]), settings)
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    file = tmp_path / "run.py"
    file.write_text(COMMAND)
    return file


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_leaves_the_same_bytes(
    source: Path, finished: tuple[Path, PairsSummary, list[str]], tmp_path: Path, run_file: Path
) -> None:
    output, chance = tmp_path / "set", random.Random(4)
    command = [sys.executable, str(run_file), str(source), str(output)]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**ENVIRONMENT, "PYTHONPATH": root}
    kills = 0
    while kills < 3:
        with subprocess.Popen(
            [*command, "1", "local"], env=environment, cwd=root, stdout=subprocess.DEVNULL
        ) as process:
            # Counted from the first sign of work, so that a slow start is not all that is ended.
            while process.poll() is None and not (output / stage.RUN).exists():
                time.sleep(0.05)
            time.sleep(chance.uniform(0.2, 6.0))
            process.send_signal(signal.SIGKILL)
            kills += 1
    subprocess.run([*command, "1", "local"], env=environment, cwd=root, check=True, stdout=subprocess.DEVNULL)
    assert manifest(output) == manifest(finished[0])
    assert files(output) >= files(finished[0])


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "ray"])
def test_several_workers_leave_the_same_bytes(
    source: Path, finished: tuple[Path, PairsSummary, list[str]], tmp_path: Path, run_file: Path, runner: str
) -> None:
    if runner == "ray":
        pytest.importorskip("ray")
    output, root = tmp_path / "set", str(Path(__file__).resolve().parents[2])
    environment = {**ENVIRONMENT, "PYTHONPATH": root, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(run_file), str(source), str(output), "2", runner]
    subprocess.run(command, env=environment, cwd=root, check=True, stdout=subprocess.DEVNULL)
    assert manifest(output) == manifest(finished[0])
    assert files(output) == files(finished[0])


class EndsItsWorker:
    """A multimodal model whose process is killed, at first or each time, and that else keeps nothing."""

    name = "killer"

    def __init__(self, folder: Path, *, always: bool) -> None:
        self._folder, self._always = folder, always

    def open(self) -> LanguageModel:
        return LanguageModel(self, self._folder / "answers")

    def complete(self, *_: object) -> str:
        note = self._folder / "note"
        if self._always or not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        said = {"object_name": "poster", "category": "other", "caption": "A poster.", "keep": False}
        return json.dumps({**said, "reason": "It shows no object."})


@pytest.mark.parametrize(
    ("always", "reason"), [(False, "It shows no object."), (True, "ended 3 times at this item (killed by SIGKILL)")]
)
def test_a_killed_worker_costs_its_object_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool, reason: str
) -> None:
    write_object(tmp_path / "cards" / "poster", (0.0, 12.0), seed=2)
    source = EndsItsWorker(tmp_path, always=always)
    monkeypatch.setattr(stage, "find_language_model", lambda *_, **__: source)
    settings = SETTINGS.model_copy(update={"no_vlm": False, "model": "killer"})
    run_pairs(tmp_path / "cards", tmp_path / "set", settings, tell=quiet)
    assert (tmp_path / "note").exists()
    rejections = list(read_rows(tmp_path / "set" / REJECTIONS, Rejection))
    assert any(reason in rejection.reason for rejection in rejections)


def test_what_is_wrong_with_one_object_stops_no_other(tmp_path: Path) -> None:
    write_photo(tmp_path / "cards" / "one" / "0.png")
    write_photo(tmp_path / "cards" / "two" / "0.png")
    summary = run_pairs(tmp_path / "cards", tmp_path / "set", SETTINGS, tell=quiet)
    assert (summary.objects, summary.pairs) == (2, 0)
    assert (tmp_path / "set" / PAIRS).read_bytes() == b""
