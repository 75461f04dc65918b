"""Comparisons: each run once, what fails is told and counted, and a killed one gives the tables of one that was not."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.dataset.lock import only_run
from refgc.errors import EngineError, InputError
from refgc.evaluation import runs
from refgc.evaluation.evaluate import evaluate
from refgc.evaluation.items import read_items
from refgc.evaluation.method_list import parse_method
from refgc.evaluation.results import Comparison, read_results
from refgc.evaluation.runs import JOURNAL, MetricChoice, run_key
from refgc.evaluation.table_files import write_tables
from refgc.imaging.image import Image, open_image
from refgc.metrics.fidelity import Psnr, Ssim
from refgc.metrics.registry import select
from refgc.metrics.sample import Sample
from refgc.surroundings.weights import are_weights_here
from tests.evaluation.support import copying, evaluated_set, runs_of
from tests.support.tiny_dataset import drawn

PSNR = MetricChoice(("psnr",))
BOTH = MetricChoice(("psnr", "ssim"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return evaluated_set(tmp_path / "set")


def compared(root: Path, output: Path, *methods: str, metrics: MetricChoice = BOTH, **options: int) -> Comparison:
    named = [parse_method(text) for text in methods]
    return evaluate(root, output, named, metrics, unreviewed=True, workers=options.get("workers", 1))


def content(folder: Path) -> dict[str, bytes]:
    """All files but the journal, which holds times."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_scores_are_those_of_the_metrics_on_the_kept_results(root, tmp_path):
    found = compared(root, tmp_path / "out", "lanczos", "oracle")
    assert (found.head.items, found.head.objects, found.head.with_truth) == (6, 3, 6)
    assert read_results(tmp_path / "out") == found
    lanczos = [one for one in found.results if one.method == "Lanczos"]
    assert [one.id for one in lanczos] == ["t0.0", "t0.1", "t1.0", "t1.1", "t2.0", "t2.1"]
    kept = open_image(tmp_path / "out" / str(lanczos[0].picture), name="result")
    (psnr,) = select(["psnr"]).metrics
    truth = drawn(1)
    assert psnr(Sample(Image(kept.pixels), truth))["psnr"] == pytest.approx(lanczos[0].scores["psnr"], abs=1e-6)
    assert {"psnr", "psnr_inside", "psnr_outside", "ssim"} <= set(lanczos[0].scores)
    assert all(one.scores == {} for one in found.results if one.method != "Lanczos")


def test_nothing_is_run_twice(root, tmp_path):
    method = copying(tmp_path)
    first = compared(root, tmp_path / "out", method, metrics=PSNR)
    assert runs_of(tmp_path) == 6
    before = content(tmp_path / "out")
    assert compared(root, tmp_path / "out", method, metrics=PSNR) == first
    assert (runs_of(tmp_path), content(tmp_path / "out")) == (6, before)
    # Another metric needs no further run, nor does another list of methods.
    found = compared(root, tmp_path / "out", "lanczos", method, metrics=BOTH)
    assert runs_of(tmp_path) == 6
    assert all("ssim" in one.scores for one in found.results)


def test_what_changed_is_run_again(root, tmp_path):
    method = copying(tmp_path)
    compared(root, tmp_path / "out", method, metrics=PSNR)
    place = tmp_path / "out" / "pictures" / "copy" / "t0.0.png"
    PILImage.fromarray(drawn(99).pixels).save(place)
    compared(root, tmp_path / "out", method, metrics=PSNR)
    assert runs_of(tmp_path) == 7
    place.unlink()
    compared(root, tmp_path / "out", method, metrics=PSNR)
    assert runs_of(tmp_path) == 8
    script = tmp_path / "copy.py"
    script.write_text(script.read_text() + "\n# another version")
    compared(root, tmp_path / "out", method, metrics=PSNR)
    assert runs_of(tmp_path) == 14


def test_a_metric_whose_protocol_changed_is_computed_again(root, tmp_path, monkeypatch):
    method = copying(tmp_path)
    before = compared(root, tmp_path / "out", method)
    monkeypatch.setattr(Ssim, "protocol", property(lambda self: "another window"))
    monkeypatch.setattr(Ssim, "__call__", lambda self, sample: {"ssim": 0.25})
    monkeypatch.setattr(Psnr, "__call__", lambda self, sample: {"psnr": 0.25})
    found = compared(root, tmp_path / "out", method)
    assert runs_of(tmp_path) == 6
    assert [one.scores["ssim"] for one in found.results] == [0.25] * 6
    assert [one.scores["psnr"] for one in found.results] == [one.scores["psnr"] for one in before.results]


def test_a_result_depends_on_the_words_and_pictures_of_its_entry(root):
    item, method = read_items(root, unreviewed=True).items[0], parse_method("lanczos")
    key = run_key(item, method)
    assert run_key(replace(item), parse_method("Other=lanczos")) == key
    for changed in (replace(item, object_name="spoon"), replace(item, hrri_mask=None), replace(item, hrgt=item.lrgi)):
        assert run_key(changed, method) != key


def test_a_full_disk_ends_a_comparison_and_another_fault_does_not(root, tmp_path, monkeypatch):
    def refuse(number, files):
        raise OSError(number, os.strerror(number), "some file")

    monkeypatch.setattr(runs, "write_files", partial(refuse, errno.EACCES))
    found = compared(root, tmp_path / "out", "lanczos", metrics=PSNR)
    assert all(one.status == "failed" and "Permission denied" in str(one.fault) for one in found.results)
    monkeypatch.setattr(runs, "write_files", partial(refuse, errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        compared(root, tmp_path / "out", "lanczos", metrics=PSNR)
    monkeypatch.undo()
    found = compared(root, tmp_path / "out", "lanczos", metrics=PSNR)
    assert all(one.status == "done" for one in found.results)


def test_failures_are_told_counted_and_tried_again(root, tmp_path):
    found = compared(root, tmp_path / "out", "lanczos", copying(tmp_path, fails=3), metrics=PSNR)
    failed = [one for one in found.results if one.status == "failed"]
    assert len(failed) == 2
    assert {one.fault for one in failed} == {"The method ended with status 1 (out of luck)."}
    table = write_tables(tmp_path / "out", found)
    assert [row.failed for row in table.rows] == [0, 2]
    assert (table.columns[0].items, table.columns[0].left_out) == (4, 2)
    assert "copy has no result for 2 of 6 entries" in (tmp_path / "out" / "table.md").read_text()
    # The next call runs the two that failed, of which one fails again: runs 7 and 8 do not, 9 would.
    again = compared(root, tmp_path / "out", "lanczos", copying(tmp_path, fails=3), metrics=PSNR)
    assert runs_of(tmp_path) == 8
    assert all(one.status == "done" for one in again.results)


def test_a_missing_result_is_told_and_counted(root, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for name in ("t0.0", "t0.1", "t1.0", "t1.1", "t2.0"):
        PILImage.fromarray(drawn(7).pixels).save(folder / f"{name}.png")
    found = compared(root, tmp_path / "out", f"folder:{folder}", metrics=PSNR)
    (failed,) = [one for one in found.results if one.status == "failed"]
    assert (failed.id, failed.picture) == ("t2.1", None)
    assert str(failed.fault).endswith("has no result called t2.1.")


def test_a_damaged_picture_leaves_its_entry_out_of_all_methods(root, tmp_path):
    picture = next((root / "files").rglob("*.png"))
    picture.write_bytes(picture.read_bytes()[:-1])
    found = compared(root, tmp_path / "out", "lanczos", "bicubic", metrics=PSNR)
    assert found.head.items < 6
    assert found.head.items + len(found.head.bad) == 6
    assert "is damaged" in found.head.bad[0].reason
    assert len(found.results) == 2 * found.head.items
    assert "could not be read" in " ".join(write_tables(tmp_path / "out", found).warnings)


def test_a_damaged_result_is_told(root, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for name in ("t0.0", "t0.1", "t1.0", "t1.1", "t2.0", "t2.1"):
        PILImage.fromarray(drawn(7).pixels).save(folder / f"{name}.png")
    (folder / "t1.1.png").write_bytes(b"no picture")
    found = compared(root, tmp_path / "out", f"folder:{folder}", metrics=PSNR)
    (failed,) = [one for one in found.results if one.status == "failed"]
    assert failed.id == "t1.1"
    assert "result" in str(failed.fault)


def test_results_of_another_size_are_told(root, tmp_path):
    found = compared(root, tmp_path / "out", copying(tmp_path, side=32), metrics=PSNR)
    assert all(one.resized for one in found.results)
    kept = open_image(tmp_path / "out" / str(found.results[0].picture), name="result")
    assert kept.size == (64, 64)


@pytest.mark.parametrize(
    ("figure", "fault"), [(RuntimeError("out of memory"), "out of memory"), (float("inf"), "no finite number")]
)
def test_a_metric_that_fails_takes_no_result_away(root, tmp_path, monkeypatch, figure, fault):
    def measure(self: Ssim, sample: Sample) -> dict[str, float]:
        if isinstance(figure, Exception):
            raise figure
        return {"ssim": figure}

    monkeypatch.setattr(Ssim, "__call__", measure)
    method = copying(tmp_path)
    found = compared(root, tmp_path / "out", method)
    assert all(one.status == "done" and "psnr" in one.scores for one in found.results)
    assert all(fault in one.faults["ssim"] for one in found.results)
    monkeypatch.undo()
    again = compared(root, tmp_path / "out", method)
    assert runs_of(tmp_path) == 6
    assert all("ssim" in one.scores and not one.faults for one in again.results)


def test_pairs_in_the_wild_get_metrics_that_need_no_truth(tmp_path):
    PILImage.fromarray(drawn(1).pixels).save(tmp_path / "hrri.png")
    PILImage.fromarray(drawn(2, 16).pixels).save(tmp_path / "lrgi.png")
    (tmp_path / "list.csv").write_text("reference,generated\nhrri.png,lrgi.png\n")
    methods = [parse_method("lanczos")]
    found = evaluate(tmp_path / "list.csv", tmp_path / "out", methods, PSNR, workers=1)
    assert (found.results[0].status, found.results[0].scores) == ("done", {})
    assert "none with a truth" in write_tables(tmp_path / "out", found).head[0]
    with pytest.raises(InputError, match="no oracle"):
        evaluate(tmp_path / "list.csv", tmp_path / "out", [parse_method("oracle")], PSNR, workers=1)


def test_a_folder_is_written_by_one_run_at_a_time(root, tmp_path):
    (tmp_path / "out").mkdir()
    with only_run(tmp_path / "out"), pytest.raises(InputError, match="Another run"):
        compared(root, tmp_path / "out", "lanczos")


def test_a_journal_that_is_none_is_told(root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / JOURNAL).write_text('{"key": 1}\n')
    with pytest.raises(InputError, match=r"Line 1 of .*journal\.jsonl"):
        compared(root, tmp_path / "out", "lanczos")


def test_a_metric_that_is_not_there_is_told(root, tmp_path):
    with pytest.raises(InputError, match="no metric 'beauty'"):
        compared(root, tmp_path / "out", "lanczos", metrics=MetricChoice(("beauty",)))
    with pytest.raises(InputError, match="No metric is named; choose from psnr, ssim"):
        compared(root, tmp_path / "out", "lanczos", metrics=MetricChoice(()))


def test_a_model_that_cannot_be_loaded_fails_at_each_item_and_is_loaded_once(root, tmp_path, monkeypatch):
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    from refgc.evaluation import methods

    opened = []

    def refuse(self: methods.Diffusion) -> methods.Maker:
        opened.append(self)
        raise EngineError("There is no room.")

    monkeypatch.setattr(methods.Diffusion, "open", refuse)
    monkeypatch.setattr(methods.Diffusion, "check", lambda self: None)
    monkeypatch.setattr(methods.Diffusion, "identity", lambda self, item: {})
    found = compared(root, tmp_path / "out", "diffusion", "lanczos", metrics=PSNR)
    assert len(opened) == 1
    assert [one.fault for one in found.results if one.method != "Lanczos"] == ["There is no room."] * 6
    assert all(one.status == "done" for one in found.results if one.method == "Lanczos")


@pytest.mark.slow
def test_a_tiny_diffusion_model_is_a_method(tmp_path, monkeypatch):
    from refgc.model import engine
    from refgc.model.settings import DenoisingSettings
    from tests.support.tiny_klein import save_tiny_klein

    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    # One step at the truth's size: without a GPU the engine's own settings take minutes.
    few = partial(DenoisingSettings, width=64, height=64, num_inference_steps=1)
    monkeypatch.setattr(engine, "DenoisingSettings", few)
    root, base = evaluated_set(tmp_path / "set", objects=1), tmp_path / "base"
    save_tiny_klein(base)
    found = compared(root, tmp_path / "out", f"diffusion:base={base}", metrics=PSNR)
    assert [one.fault for one in found.results] == [None] * 2
    assert all("psnr" in one.scores for one in found.results)


@pytest.mark.slow
def test_several_processes_give_the_same(root, tmp_path):
    one = compared(root, tmp_path / "one", "lanczos", "correspondence", workers=1)
    two = compared(root, tmp_path / "two", "lanczos", "correspondence", workers=2)
    assert one == two
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.slow
def test_a_comparison_that_is_killed_goes_on_and_gives_the_same_tables(root, tmp_path):
    method = copying(tmp_path)
    arguments = ["evaluate", str(root), "--unreviewed", "--metrics", "psnr,ssim", "--methods", "lanczos,bicubic"]
    arguments += ["--methods", method, "--workers", "2", "--quiet"]

    def start(output: Path) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "refgc", *arguments, "--output", str(output)]
        return subprocess.Popen(words, start_new_session=True)

    assert start(tmp_path / "whole").wait() == 0
    chance, kills = random.Random(1), 0
    journal = tmp_path / "killed" / JOURNAL

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    while True:
        before = lines()
        process = start(tmp_path / "killed")
        # Wait until something of this start is on the disk, then kill everything at a random moment.
        while process.poll() is None and (lines() <= before or kills >= 4):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0
    assert kills >= 2
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.tmp"))


def test_surroundings_are_an_option_of_the_engine(root, tmp_path):
    if not are_weights_here("fast"):
        pytest.skip("the weights of the surroundings are not here")
    found = compared(root, tmp_path / "out", "correspondence:surroundings=fast", "correspondence", metrics=PSNR)
    pictures = [open_image(tmp_path / "out" / str(one.picture), name="result").pixels for one in found.results[:2]]
    assert not np.array_equal(pictures[0], pictures[1])
