"""Runs for visitors: admission, the turn, cached results, what is decoded when, and the log line at the end."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from refgc.engine import DRAWING, EngineName, Progress, RefineResult, Viewer
from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image, Mask, open_image, open_mask
from refgc.page.pictures import ShownResult
from refgc.page.service.cache import ResultCache
from refgc.page.service.decoding import Decoder, StoppedError
from refgc.page.service.limits import BusyError
from refgc.page.service.logs import logger, logs_to
from refgc.page.service.queue import Finished, Seen, TooLongError, Working, rough_time, rounded_time
from refgc.page.service.rates import RunSize
from refgc.page.service.runs import RefineJob, Service
from refgc.page.service.storage import NoRoomError
from refgc.request import RefineRequest
from refgc.settings import Settings
from tests.support.ncnn_files import write_weights
from tests.support.reports import make_report, make_result


class Clock:
    """Time that goes on only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class LocalDecoder:
    """Decodes in this process, and remembers what."""

    def __init__(self) -> None:
        self.decoded: list[str] = []
        self.known: dict[Path, tuple[int, int]] = {}

    def image(self, path: Path, *, name: str, **_: object) -> Image:
        self.decoded.append(name)
        return open_image(path, name=name)

    def mask(self, path: Path, *, size: tuple[int, int], name: str, **_: object) -> Mask:
        self.decoded.append(name)
        return open_mask(path, size=size, name=name)

    def known_size(self, path: Path) -> tuple[int, int] | None:
        return self.known.get(path)

    def close(self) -> None:
        pass


class Engine:
    """Stands for the real ones: counts its runs, and does what a test wants it to."""

    def __init__(self, work: Callable[[Progress], object] = lambda progress: None, **report: object) -> None:
        self.runs: list[RefineRequest] = []
        self._work = work
        self._report = make_report(**report)

    def __call__(self, _: EngineName, request: RefineRequest, progress: Progress, __: Viewer) -> RefineResult:
        self.runs.append(request)
        self._work(progress)
        return make_result(self._report)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server would write."""
    written = io.StringIO()
    with logs_to(written):
        yield written


LIBRARY_LOGS = """
import logging
from refgc.page.service.logs import logger, logs_to
with logs_to():
    logging.warning("sent by a visitor")
    logging.getLogger("library.part").warning("sent by a visitor")
    logging.getLogger("library.part").error("sent by a visitor: %s", "x")
    logger.info("ours")
"""


def test_what_libraries_log_neither_tells_what_was_sent_nor_doubles_our_lines() -> None:
    ended = subprocess.run([sys.executable, "-c", LIBRARY_LOGS], capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines()] == ["error in library.part", "ours"]
    assert "visitor" not in ended.stderr


def logged(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def outcomes(log: io.StringIO) -> list[str]:
    return [entry["outcome"] for entry in logged(log) if "outcome" in entry]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RefineJob:
    """A refinement of files that are there."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    random = np.random.default_rng(0)
    for name, side in (("holiday", 96), ("birthday", 64)):
        PIL.Image.fromarray(random.integers(0, 255, (side, side, 3), np.uint8)).save(tmp_path / f"{name}.png")
    return RefineJob(tmp_path / "holiday.png", tmp_path / "birthday.png")


def service_with(engine: Engine, cache: ResultCache | None = None, **values: object) -> Service:
    settings = Settings.model_validate({"spare_megabytes": 0, **values})
    return Service(settings, cache=cache, decoder=LocalDecoder(), refine_with=engine)


def decoded(service: Service) -> list[str]:
    assert isinstance(service.decoder, LocalDecoder)
    return service.decoder.decoded


def end_of(events: Iterator[object]) -> Finished[Any]:
    last = list(events)[-1]
    assert isinstance(last, Finished)
    return last


def test_surroundings_without_weights_take_no_turn(job: RefineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    engine = Engine()
    with pytest.raises(EngineError, match="refgc setup"):
        end_of(service_with(engine).refine(replace(job, surroundings="fast"), "a"))
    assert not engine.runs


# --- the log line ---------------------------------------------------------------------------------------------------


def test_run_is_logged_with_its_figures(job: RefineJob, log: io.StringIO):
    service = service_with(Engine(seconds={"matching": 0.75, "fusing": 0.5}))
    end_of(service.refine(job, "session-of-somebody", "192.0.2.77"))
    (entry,) = logged(log)
    assert (entry["event"], entry["outcome"], entry["engine"]) == ("refine", "done", "correspondence")
    assert (entry["scale"], entry["reference"], entry["generated"]) == (4, [96, 96], [64, 64])
    assert entry["seconds"].pop("saving") > 0
    assert entry["seconds"] == {"matching": 0.75, "fusing": 0.5}
    assert 0 <= entry["waited"] <= 10
    assert 0 <= entry["ran"] <= 10
    assert entry["level"] == "info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", entry["time"])
    for secret in ("session-of-somebody", "192.0.2.77", "holiday", "birthday"):
        assert secret not in log.getvalue()


def test_result_that_placed_nothing_is_logged_as_such(job: RefineJob, log: io.StringIO):
    end_of(service_with(Engine(placed=False, object_box=None)).refine(job, "a"))
    assert outcomes(log) == ["unplaced"]


def test_failure_is_logged_without_its_words_and_the_queue_is_free(job: RefineJob, log: io.StringIO):
    def fail(progress: Progress) -> None:
        raise ValueError("/tmp/gradio/my-holiday.jpg cannot be read")

    service = service_with(Engine(fail))
    with pytest.raises(ValueError, match="holiday"):
        list(service.refine(job, "a"))
    logger.error("handled", exc_info=ValueError("my-holiday.jpg"))
    first, second = logged(log)
    assert (first["outcome"], first["error"]) == ("failed", "ValueError")
    assert "test_runs.py" in str(first["passed"])
    assert second["error"] == "ValueError"
    assert "holiday" not in log.getvalue()
    assert service.queues["correspondence"].running_seconds is None


def test_what_the_visitor_has_to_change_is_logged_as_refused(job: RefineJob, log: io.StringIO, tmp_path: Path):
    (tmp_path / "holiday.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="reference"):
        list(service_with(Engine()).refine(job, "a"))
    assert outcomes(log) == ["refused"]
    assert "holiday" not in log.getvalue()


def test_cancelled_run_is_logged_and_the_queue_is_free(job: RefineJob, log: io.StringIO, tmp_path: Path):
    def go_on_for_ever(progress: Progress) -> None:
        while True:
            progress("for ever", 0.5)
            time.sleep(0.01)

    engine = Engine(go_on_for_ever)
    service = service_with(engine)
    running = service.refine(job, "a")
    next(event for event in running if isinstance(event, Working) and event.stage == "for ever")
    running.close()
    assert outcomes(log) == ["cancelled"]
    engine._work = lambda progress: None
    end_of(service.refine(job, "b"))
    assert len(list((tmp_path / "uploads" / "refined").iterdir())) == 1


def test_too_long_and_too_many_are_logged(job: RefineJob, log: io.StringIO):
    let_go = threading.Event()
    service = service_with(Engine(lambda progress: let_go.wait(30)), run_seconds=1, max_waiting=0)
    running = service.refine(job, "a")
    next(running)
    with pytest.raises(BusyError, match="queue is full"):
        next(service.refine(job, "b"))
    with pytest.raises(TooLongError, match="took longer than 5 seconds"):
        list(running)
    let_go.set()
    busy, late = logged(log)
    assert (busy["outcome"], late["outcome"]) == ("busy", "timeout")
    assert busy["visit"] != late["visit"]


# --- admission ------------------------------------------------------------------------------------------------------


def test_engines_do_not_wait_for_each_other(job: RefineJob):
    let_go = threading.Event()
    engine = Engine(lambda progress: let_go.wait(30))
    service = service_with(engine)
    running = service.refine(job, "a")
    while not engine.runs:
        next(running)
    engine._work = lambda progress: None
    other = RefineJob(job.reference, job.generated, engine="diffusion")
    end_of(service.refine(other, "b"))
    let_go.set()
    list(running)


def test_nothing_is_decoded_before_the_turn_has_come(job: RefineJob):
    let_go = threading.Event()
    engine = Engine(lambda progress: let_go.wait(30))
    service = service_with(engine, max_waiting=1, visit_jobs=1)
    running = service.refine(job, "a")
    while not engine.runs:
        next(running)
    before = len(decoded(service))
    assert before == 2
    waiting = service.refine(job, "b")
    expected = rough_time(service.queues["correspondence"].rates.expected(RunSize()))
    assert next(waiting) == Working(f"waiting for your turn, you are next, {expected}", 0.0)
    with pytest.raises(BusyError, match="one run under way"):
        next(service.refine(job, "a"))
    with pytest.raises(BusyError, match="queue is full"):
        next(service.refine(job, "c"))
    assert len(decoded(service)) == before
    let_go.set()
    list(running)
    end_of(waiting)
    assert len(decoded(service)) == 2 * before


def test_nothing_is_run_without_room(job: RefineJob, log: io.StringIO):
    engine = Engine()
    service = service_with(engine, spare_megabytes=1e9)
    with pytest.raises(NoRoomError, match="no room left for new pictures; please try again in a few minutes"):
        next(service.refine(job, "a"))
    assert outcomes(log) == ["failed"]
    assert engine.runs == []
    assert decoded(service) == []


def test_ended_runs_say_how_long_the_next_ones_take(job: RefineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFGC_WEIGHTS", str(write_weights(tmp_path / "weights")))
    clock = Clock()
    engine = Engine(lambda progress: setattr(clock, "now", clock.now + 50.0), seconds={DRAWING: 30.0})
    service = Service(
        Settings.model_validate({"spare_megabytes": 0}), decoder=LocalDecoder(), refine_with=engine, clock=clock
    )
    end_of(service.refine(replace(job, surroundings="fast"), "a"))
    rates, megapixels = service.queues["correspondence"].rates, (64 * 4) ** 2 / 1e6
    assert rates.expected_part("fast", megapixels) == pytest.approx(30.0)
    assert rates.expected(RunSize("refine", megapixels)) == pytest.approx(20.0)
    assert rates.expected(RunSize("refine", megapixels, "fast")) == pytest.approx(50.0)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_plain_result_is_told_where_it_is_wanted_in_files_of_its_own(
    job: RefineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
):
    monkeypatch.setenv("REFGC_WEIGHTS", str(write_weights(tmp_path / "weights")))

    def engine(_: EngineName, request: RefineRequest, __: Progress, viewer: Viewer) -> RefineResult:
        viewer("upscaled", Image(np.zeros((4, 4, 3), np.uint8)))
        viewer(DRAWING, make_result(make_report(surroundings="plain")))
        return make_result(make_report(surroundings=request.surroundings))

    service = Service(Settings.model_validate({"spare_megabytes": 0}), decoder=LocalDecoder(), refine_with=engine)
    asked = replace(job, surroundings="fast", plain_first=wanted)
    events = list(service.refine(asked, "a"))
    plain = [event.picture for event in events if isinstance(event, Seen) and isinstance(event.picture, ShownResult)]
    assert len(plain) == wanted
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.made.report.surroundings == "fast"
    for result in plain:
        assert result.report.surroundings == "plain"
        assert result.download.is_file()
        assert result.download.parent != last.made.download.parent


def test_failed_runs_say_nothing_of_how_long_runs_take(job: RefineJob, tmp_path: Path):
    clock = Clock()

    def fail(_: Progress) -> None:
        clock.now += 50.0
        raise EngineError("broken")

    service = Service(
        Settings.model_validate({"spare_megabytes": 0}), decoder=LocalDecoder(), refine_with=Engine(fail), clock=clock
    )
    before = service.queues["correspondence"].rates.expected(RunSize())
    with pytest.raises(EngineError):
        list(service.refine(job, "a"))
    assert service.queues["correspondence"].rates.expected(RunSize()) == before


def test_who_waits_is_told_by_the_size_of_what_is_in_front(job: RefineJob):
    let_go = threading.Event()
    service = service_with(Engine(lambda progress: let_go.wait(30)), visit_jobs=5)
    assert isinstance(service.decoder, LocalDecoder)
    # Said by the upload of the picture; a file that a script names was never opened before.
    service.decoder.known[job.generated] = (1024, 1024)
    running = service.refine(job, "a")
    next(running)
    waiting = service.refine(replace(job, seed=1), "b"), service.refine(replace(job, seed=2), "c")
    told = [next(events) for events in waiting]
    rates = service.queues["correspondence"].rates
    small, large = (rates.expected(RunSize("refine", megapixels)) for megapixels in (0.0, 4096**2 / 1e6))
    assert isinstance(told[1], Working)
    assert large > 1.5 * small
    assert rounded_time(large + small) in told[1].stage or rounded_time(large) in told[1].stage
    let_go.set()
    for events in (running, *waiting):
        events.close()


def test_pictures_of_a_run_are_not_kept(job: RefineJob, tmp_path: Path):
    marked = tmp_path / "marked.png"
    PIL.Image.new("RGB", (64, 64), "red").save(marked)
    time.sleep(0.06)
    # There is room for one of them.
    decoder = Decoder(cache_bytes=96 * 96 * 3)
    service = Service(Settings.model_validate({"spare_megabytes": 0}), decoder=decoder, refine_with=Engine())
    try:
        kept = decoder.image(marked, name="reference")
        end_of(service.refine(job, "a"))
        assert decoder.image(marked, name="reference") is kept
    finally:
        decoder.close()


@pytest.mark.parametrize("cancel", [True, False], ids=["cancelled", "too long"])
def test_decoding_ends_with_the_run(job: RefineJob, cancel: bool):
    begun, ended = threading.Event(), threading.Event()

    class SlowDecoder(LocalDecoder):
        def image(self, path: Path, *, name: str, stop: object = None, **_: object) -> Image:  # noqa: ARG002
            begun.set()
            assert isinstance(stop, threading.Event)
            assert stop.wait(30)
            ended.set()
            raise StoppedError

    settings = Settings.model_validate({"spare_megabytes": 0, "run_seconds": 30 if cancel else 0.5})
    service = Service(settings, decoder=SlowDecoder(), refine_with=Engine())
    running = service.refine(job, "a")
    next(running)
    assert begun.wait(10)
    if cancel:
        running.close()
    else:
        with pytest.raises(TooLongError):
            list(running)
    assert ended.wait(10)


def test_limits_of_the_address_are_kept(job: RefineJob):
    service = service_with(Engine(), address_jobs_per_hour=1)
    end_of(service.refine(job, "a", "10.0.0.1"))
    with pytest.raises(BusyError, match="From your address"):
        next(service.refine(job, "b", "10.0.0.1"))


def test_marks_are_admitted_by_the_settings():
    service = service_with(Engine(), marking_seconds=0.1, visit_marks_per_minute=1)
    with service.marking("a") as over:
        assert over.wait(5)
    with pytest.raises(BusyError), service.marking("a"):
        pass


# --- cached results -------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "results", max_bytes=1e9, max_seconds=3600)


def test_cached_result_needs_no_decoding_and_no_turn(job: RefineJob, cache: ResultCache, log: io.StringIO):
    engine = Engine()
    service = service_with(engine, cache, max_waiting=0)
    first = end_of(service.refine(job, "a"))
    count = len(decoded(service))
    let_go = threading.Event()
    engine._work = lambda progress: let_go.wait(30)
    running = service.refine(RefineJob(job.reference, job.generated, seed=1), "b")
    while len(engine.runs) < 2:
        next(running)
    again = end_of(service.refine(job, "c"))
    assert again.cached
    assert not first.cached
    assert again.made.report == first.made.report
    assert again.made.download != first.made.download
    assert len(decoded(service)) == 2 * count
    let_go.set()
    list(running)
    assert [entry.get("cached") for entry in logged(log)] == [None, True, None]
    assert "seconds" not in logged(log)[1]


def test_cached_result_is_counted_for_the_hour(job: RefineJob, cache: ResultCache):
    service = service_with(Engine(), cache, visit_jobs_per_hour=2)
    assert [end_of(service.refine(job, "a")).cached for _ in range(2)] == [False, True]
    with pytest.raises(BusyError, match="2 runs within an hour"):
        next(service.refine(job, "a"))


def test_other_options_or_files_are_made_anew(
    job: RefineJob, cache: ResultCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REFGC_WEIGHTS", str(write_weights(tmp_path / "weights")))
    mask = tmp_path / "mask.png"
    PIL.Image.new("L", (96, 96), 255).save(mask)
    small = tmp_path / "small.png"
    PIL.Image.new("L", (64, 64), 255).save(small)
    other = tmp_path / "other.png"
    PIL.Image.new("RGB", (64, 64), "teal").save(other)
    another = tmp_path / "another.png"
    PIL.Image.new("RGB", (64, 64), "olive").save(another)
    changes: list[dict[str, Any]] = [
        {},
        {"scale": 2},
        {"strength": 0.5},
        {"surroundings": "fast"},
        {"seed": 1},
        {"object_name": "teapot"},
        {"engine": "diffusion"},
        {"reference_mask": mask},
        {"generated_mask": small},
        {"generated": other},
        {"reference": job.generated, "generated": job.reference},
        {"further_references": (other,)},
        {"further_references": (another,)},
        {"further_references": (other, another)},
        {"further_references": (another, other)},
    ]
    engine = Engine()
    service = service_with(engine, cache)
    for _ in range(2):
        for change in changes:
            given = {"reference": job.reference, "generated": job.generated, **change}
            end_of(service.refine(RefineJob(**given), "a"))
    assert len(engine.runs) == len(changes)


def test_further_references_are_decoded_as_the_first_one_is(job: RefineJob, log: io.StringIO, tmp_path: Path):
    side = tmp_path / "side.png"
    PIL.Image.new("RGB", (70, 80), "teal").save(side)
    engine = Engine()
    service = service_with(engine)
    end_of(service.refine(replace(job, further_references=(job.reference, side)), "a"))
    assert isinstance(service.decoder, LocalDecoder)
    assert service.decoder.decoded == ["reference", "generated picture", "reference 2", "reference 3"]
    assert [one.picture.size for one in engine.runs[0].further_references] == [engine.runs[0].reference.size, (70, 80)]
    assert logged(log)[-1]["reference 3"] == [70, 80]
    side.write_bytes(b"no picture")
    with pytest.raises(InputError, match="reference 2"):
        end_of(service.refine(replace(job, further_references=(side,)), "a"))
    with pytest.raises(InputError, match="There are 5 references"):
        next(service.refine(replace(job, further_references=(side,) * 4), "a"))
    assert len(engine.runs) == 1


def test_room_is_made_from_the_cache_first(job: RefineJob, cache: ResultCache, tmp_path: Path):
    end_of(service_with(Engine(), cache).refine(job, "a"))
    assert len(list((tmp_path / "results" / "entries").iterdir())) == 1
    with pytest.raises(NoRoomError):
        service_with(Engine(), cache, spare_megabytes=1e9).check_room()
    assert list((tmp_path / "results" / "entries").iterdir()) == []


def test_the_bar_is_not_full_before_the_files_are_written(job: RefineJob) -> None:
    def work(progress: Progress) -> None:
        progress("fusing", 0.5)
        progress("done", 1.0)

    events = list(service_with(Engine(work)).refine(job, "visit"))
    stages = [(event.stage, event.fraction) for event in events if isinstance(event, Working)]
    fractions = [fraction for _, fraction in stages]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1
    assert ("fusing", 0.44) in [(stage, round(fraction, 2)) for stage, fraction in stages]
    assert stages[-1][0] == "saving the pictures"
    assert "done" not in dict(stages)
