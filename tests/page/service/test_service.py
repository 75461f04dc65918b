"""What stands between visitors and the engines: limits of a visit, settings, notes, files and their end."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refgc.engine import Report
from refgc.errors import InputError
from refgc.page.app import build_demo
from refgc.page.service import limits as visits
from refgc.page.service import runs as service
from refgc.page.service.limits import Visits
from refgc.page.service.logs import JsonLines, logger
from refgc.page.service.queue import BusyError, Finished, Line
from refgc.page.service.runs import Job, served
from refgc.page.service.storage import NoRoomError, new_folder, start_janitor, sweep
from refgc.settings import Settings
from tests.page.test_app import make_report

DEMO = Path(service.__file__).parent
JOB = Job("refine", "correspondence", 4, {"reference": (640, 480), "generated": (64, 48)})


class Made:
    def __init__(self, report: Report) -> None:
        self.report = report


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> Iterator[io.StringIO]:
    """What the server would write."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, logger.name)
    yield written
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lines, visits and folders that no other test knows."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(service, "LINES", {"correspondence": Line(), "diffusion": Line()})
    monkeypatch.setattr(service, "VISITS", Visits())
    monkeypatch.setattr(service, "results", lambda: None)
    limit(monkeypatch)


def limit(monkeypatch: pytest.MonkeyPatch, **values: float) -> None:
    chosen = Settings.model_validate({"spare_megabytes": 0, **values})
    monkeypatch.setattr(service, "settings", lambda: chosen)


def noted(notes: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in notes.getvalue().splitlines()]


# --- limits of a visit ----------------------------------------------------------------------------------------------


def test_visit_may_have_so_many_runs_under_way():
    known = Visits()
    with known.job("a", most=1, per_hour=10):
        with (
            pytest.raises(BusyError, match="You have one run under way; wait until it has ended or cancel it"),
            known.job("a", most=1, per_hour=10),
        ):
            pass
        with known.job("b", most=1, per_hour=10):
            pass
    with known.job("a", most=1, per_hour=10):
        pass


def test_run_that_found_no_place_is_not_counted():
    known = Visits()
    line = Line()
    line.join(0)
    for _ in range(3):
        with pytest.raises(BusyError, match="queue is full"), known.job("a", most=1, per_hour=1):
            line.join(0)
    with known.job("a", most=1, per_hour=1):
        pass


def test_visit_may_start_so_many_runs_in_an_hour(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(visits, "monotonic", lambda: now)
    known = Visits()
    for _ in range(3):
        with known.job("a", most=1, per_hour=3):
            pass
        now += 600
    with (
        pytest.raises(BusyError, match="started 3 runs within an hour, as many as one visit may; try again in 30 min"),
        known.job("a", most=1, per_hour=3),
    ):
        pass
    now += 1801
    with known.job("a", most=1, per_hour=3):
        pass


def test_visits_are_numbered_in_the_order_they_come_and_forgotten_when_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(visits, "MOST_VISITS", 2)
    known = Visits()
    assert [known.number(visit) for visit in ("a", "b", "a", "c", "a", "b")] == [1, 2, 1, 3, 1, 4]
    assert len(known._visits) == 2


# --- one run, noted -------------------------------------------------------------------------------------------------


def test_run_is_noted_with_its_figures(notes: io.StringIO):
    report = make_report(seconds={"matching": 0.75, "fusing": 0.5})
    finished = list(served(JOB, "session-of-somebody", lambda progress, viewer: Made(report)))[-1]
    assert isinstance(finished, Finished)
    (entry,) = noted(notes)
    assert entry["event"] == "refine"
    assert entry["outcome"] == "done"
    assert entry["visit"] == 1
    assert entry["engine"] == "correspondence"
    assert entry["scale"] == 4
    assert entry["reference"] == [640, 480]
    assert entry["seconds"] == {"matching": 0.75, "fusing": 0.5}
    assert 0 <= entry["waited"] <= 5
    assert 0 <= entry["ran"] <= 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(entry["time"]))
    assert "session-of-somebody" not in notes.getvalue()


def test_result_that_placed_nothing_is_noted_as_such(notes: io.StringIO):
    made = Made(make_report(placed=False, object_box=None))
    list(served(JOB, "a", lambda progress, viewer: made))
    assert [entry["outcome"] for entry in noted(notes)] == ["unplaced"]


def test_failure_is_noted_without_its_words(notes: io.StringIO):
    def work(progress, viewer):
        raise ValueError("/tmp/gradio/my-holiday.jpg cannot be read")

    with pytest.raises(ValueError, match="holiday"):
        list(served(JOB, "a", work))
    logger.error("handled", exc_info=ValueError("my-holiday.jpg"))
    first, second = noted(notes)
    assert (first["outcome"], first["error"]) == ("failed", "ValueError")
    assert "test_service.py" in str(first["passed"])
    assert second["error"] == "ValueError"
    assert "holiday" not in notes.getvalue()
    assert service.LINES["correspondence"].running_seconds is None


def test_what_the_visitor_has_to_change_is_noted_as_refused(notes: io.StringIO):
    def work(progress, viewer):
        raise InputError("my-holiday.jpg is no picture")

    with pytest.raises(InputError):
        list(served(JOB, "a", work))
    assert [entry["outcome"] for entry in noted(notes)] == ["refused"]
    assert "holiday" not in notes.getvalue()


def test_cancelled_run_is_noted_and_the_line_is_free(notes: io.StringIO):
    def work(progress, viewer):
        while True:
            progress("forever", 0.5)
            time.sleep(0.01)

    running = served(JOB, "a", work)
    next(running)
    running.close()
    assert [entry["outcome"] for entry in noted(notes)] == ["cancelled"]
    made = Made(make_report())
    assert isinstance(list(served(JOB, "b", lambda progress, viewer: made))[-1], Finished)


def test_too_long_and_too_many_are_noted(notes: io.StringIO, monkeypatch: pytest.MonkeyPatch):
    limit(monkeypatch, run_seconds=0.2, max_waiting=0)
    let_go = threading.Event()

    def work(progress, viewer):
        progress("begun", 0.0)
        let_go.wait(30)
        return Made(make_report())

    running = served(JOB, "a", work)
    next(running)
    with pytest.raises(BusyError, match="queue is full"):
        next(served(JOB, "b", work))
    with pytest.raises(Exception, match="took longer than 5 seconds"):
        list(running)
    let_go.set()
    assert [(entry["outcome"], entry["visit"]) for entry in noted(notes)] == [("busy", 2), ("timeout", 1)]


def test_engines_do_not_wait_for_each_other():
    let_go = threading.Event()

    def work(progress, viewer):
        progress("begun", 0.0)
        assert let_go.wait(30)
        return Made(make_report())

    running = served(JOB, "a", work)
    next(running)
    made = Made(make_report())
    other = Job("refine", "diffusion", 4, {})
    assert isinstance(list(served(other, "b", lambda progress, viewer: made))[-1], Finished)
    let_go.set()
    list(running)


# --- room -----------------------------------------------------------------------------------------------------------


def test_nothing_is_run_without_room(notes: io.StringIO, monkeypatch: pytest.MonkeyPatch):
    limit(monkeypatch, spare_megabytes=1e12)
    with pytest.raises(NoRoomError, match="no room left for new pictures; please try again in a few minutes"):
        next(served(JOB, "a", lambda progress, viewer: pytest.fail("was run")))
    assert [entry["outcome"] for entry in noted(notes)] == ["failed"]


def make(folder: Path, *, age: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "picture.webp").write_bytes(b"picture")
    return folder


def test_sweep_deletes_what_is_old_and_ours(tmp_path: Path):
    old = [make(tmp_path / kind / ("0" * 32)) for kind in ("refined", "marked")]
    left_behind = make(tmp_path / ("a" * 64))
    stranger = make(tmp_path / "somebody-elses" / "pictures")
    (tmp_path / "notes.txt").write_text("kept")
    time.sleep(0.05)
    middle = time.time()
    time.sleep(0.05)
    young = [make(tmp_path / kind / ("1" * 32)) for kind in ("refined", "marked")]
    own = make(tmp_path / ("b" * 64))
    assert sweep(tmp_path, older_than=middle, started=middle) == len(old) + 1
    assert not any(folder.exists() for folder in [*old, left_behind])
    assert all(folder.exists() for folder in [*young, own, stranger, tmp_path / "notes.txt"])
    assert sweep(tmp_path, older_than=time.time() + 10, started=middle) == len(young)
    assert own.exists()


def test_sweep_follows_no_link(tmp_path: Path):
    outside = make(tmp_path / "outside" / ("0" * 32))
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / "refined").symlink_to(tmp_path / "outside", target_is_directory=True)
    (uploads / "preview").mkdir()
    (uploads / "preview" / ("1" * 32)).symlink_to(outside, target_is_directory=True)
    (uploads / ("c" * 64)).symlink_to(outside, target_is_directory=True)
    inner = make(uploads / "marked" / ("2" * 32))
    (inner / "link").symlink_to(outside, target_is_directory=True)
    sweep(uploads, older_than=time.time() + 10, started=time.time() + 10)
    assert not inner.exists()
    assert (outside / "picture.webp").read_bytes() == b"picture"


def test_janitor_sweeps_at_once_and_again_until_it_is_stopped(tmp_path: Path):
    kept = new_folder("refined")
    make(kept)
    rounds: list[int] = []
    broken = [OSError("once")]

    def chore() -> None:
        rounds.append(len(rounds))
        if broken:
            raise broken.pop()

    stop = start_janitor(0.3, [chore])
    ends_at = time.monotonic() + 20
    while kept.exists() or len(rounds) < 3:
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    stop()
    time.sleep(0.2)
    before = len(rounds)
    time.sleep(0.3)
    assert len(rounds) == before


def test_pictures_that_the_page_shows_from_its_start_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    demo = build_demo()
    shown = [Path(path) for block in demo.blocks.values() for path in getattr(block, "keep_in_cache", ())]
    shown = [path for path in shown if path.is_relative_to(tmp_path)]
    assert len(shown) >= 10
    rounds: list[int] = []
    stop = start_janitor(0.06, [lambda: rounds.append(len(rounds))])
    ends_at = time.monotonic() + 20
    while len(rounds) < 5:
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    stop()
    assert all(path.is_file() for path in shown)


def test_folders_of_results_cannot_be_guessed():
    first, second = new_folder("refined"), new_folder("refined")
    assert first.parent == second.parent == Path(os.environ["GRADIO_TEMP_DIR"]) / "refined"
    assert first != second
    assert re.fullmatch(r"[0-9a-f]{32}", first.name)
