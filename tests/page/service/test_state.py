"""What pages have in common: two of them at one common state, without Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refgc.errors import EngineError
from refgc.page.marking.mask import Click, Marking
from refgc.page.pictures import ShownResult, write_result
from refgc.page.refine.code import Code
from refgc.page.refine.inputs import Submission
from refgc.page.refine.result import Entry, History
from refgc.page.refine.visits import KeptResults, sweep_histories
from refgc.page.service import state as state_module
from refgc.page.service.limits import BusyError, RunLimits
from refgc.page.service.queue import Entry as QueueEntry
from refgc.page.service.queue import Finished, run_in_turn
from refgc.page.service.runs import RefineJob, Service
from refgc.page.service.state import ServedQueue, SharedState, open_state
from refgc.serve import client as client_module
from refgc.serve.client import ServeClient
from refgc.settings import Settings
from tests.support.reports import make_report, make_result
from tests.support.serving import hosted

deployments = pytest.importorskip("refgc.serve.deployments", exc_type=ImportError)
SLOTS = 2


class CommonState:
    """The common state, which can be begun anew as after the end of its process."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        self.server = deployments.StateServer({"slots": {"correspondence": SLOTS}})

    async def __call__(self, request: Any) -> Any:
        return await self.server(request)


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CommonState, str]]:
    monkeypatch.setattr(state_module, "ASK_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "REPEAT_SECONDS", 0.05)
    state = CommonState()
    with hosted(state=state) as address:
        yield state, address


@pytest.fixture
def pages(common: tuple[CommonState, str]) -> list[SharedState]:
    """The states of two pages."""
    return [open_state(Settings(), ServeClient(common[1])) for _ in range(2)]


def queues_of(pages: list[SharedState]) -> list[ServedQueue]:
    queues = [page.queues["correspondence"] for page in pages]
    assert all(isinstance(queue, ServedQueue) for queue in queues)
    return queues  # type: ignore[return-value]


def until(fulfilled: Callable[[], object]) -> None:
    ends_at = time.monotonic() + 30
    while not fulfilled():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


class Run:
    """A run of a page that waits for its turn in a thread, as visitors' runs do."""

    def __init__(self, entry: QueueEntry) -> None:
        self.entry = entry
        self.turn: bool | None = None
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.turn = self.entry.wait()


def test_runs_of_two_pages_are_served_in_the_order_in_which_they_came(pages: list[SharedState]) -> None:
    first, second = queues_of(pages)
    runs = [Run(queue.enter(4)) for queue in (first, second, first, second)]
    until(lambda: runs[0].turn and runs[1].turn)
    until(lambda: runs[3].entry.expected_wait()[0] == 3)
    assert runs[2].entry.expected_wait()[0] == 2
    assert 0 < runs[2].entry.expected_wait()[1] < runs[3].entry.expected_wait()[1]
    assert (runs[2].turn, runs[3].turn) == (None, None)
    assert [(queue.waiting, queue.running_seconds is not None) for queue in (first, second)] == [(1, True)] * 2
    runs[1].entry.end()
    until(lambda: runs[2].turn)
    assert runs[3].turn is None
    runs[3].entry.cancel()
    until(lambda: runs[3].turn is False)
    for run in (runs[0], runs[2]):
        run.entry.end()
    assert [(queue.waiting, queue.running_seconds) for queue in (first, second)] == [(0, None)] * 2


def test_so_many_wait_over_all_pages_and_no_more(pages: list[SharedState]) -> None:
    first, second = queues_of(pages)
    entries = [queue.enter(1) for queue in (first, second, first)]
    for queue in (first, second):
        with pytest.raises(BusyError, match="its queue is full"):
            queue.enter(1)
    entries[0].cancel()
    second.enter(1)


def test_runs_of_an_address_are_counted_over_all_pages(pages: list[SharedState]) -> None:
    settings = Settings.model_validate({"address_jobs_per_hour": 2})
    first, second = (RunLimits(settings, of_addresses=page.counts) for page in pages)
    for number, limits in enumerate((first, second)):
        with limits.admit(f"visit {number}", "192.0.2.7") as count:
            count()
    for limits in (first, second):
        refused = limits.admit("visit 3", "192.0.2.7")
        with pytest.raises(BusyError, match=r"From your address 2 runs .* try again in 60 minutes"), refused:
            pass
        with limits.admit("visit 3", "192.0.2.8"):
            pass


def test_waiting_runs_outlive_the_end_of_the_common_state(
    pages: list[SharedState], common: tuple[CommonState, str]
) -> None:
    first, second = queues_of(pages)
    under_way = [Run(queue.enter(4)) for queue in (first, second)]
    until(lambda: all(run.turn for run in under_way))
    waiting = Run(second.enter(4))
    until(lambda: waiting.entry.expected_wait()[0] == 2)
    common[0].begin_anew()
    until(lambda: waiting.turn)
    for run in (*under_way, waiting):
        run.entry.end()


def test_a_run_that_is_under_way_keeps_its_place(
    pages: list[SharedState], monkeypatch: pytest.MonkeyPatch, common: tuple[CommonState, str]
) -> None:
    from refgc.serve import turns

    monkeypatch.setattr(turns, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(state_module, "HOLD_SECONDS", 0.1)
    (queue, _) = queues_of(pages)
    run = Run(queue.enter(4))
    until(lambda: run.turn)
    time.sleep(1.5)
    served = common[0].server._turns["correspondence"]
    assert len(served.running) == 1
    run.entry.end()
    until(lambda: served.running == [])


def test_a_state_that_is_away_for_long_is_told(
    common: tuple[CommonState, str], pages: list[SharedState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "AWAY_SECONDS", 0.2)
    (queue, _) = queues_of(pages)
    entry = queue.enter(4)
    monkeypatch.setattr(common[0], "server", None)

    def work(*_: object) -> Finished[str]:
        return pytest.fail("its turn never came")

    events = run_in_turn(work, entry, run_seconds=30, wait_seconds=30)
    with pytest.raises(EngineError, match=r"The queue at REFGC_SERVE, .* does not answer"):
        list(events)


def test_a_page_whose_engines_are_served_asks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with hosted(state=CommonState()) as address:
        monkeypatch.setenv("REFGC_SERVE", address)
        service = Service.from_environment()
        try:
            assert service.engine_for("auto") == "correspondence"
            assert service.chooses_engine is False
            # Previews are made on this machine, which has a queue of its own.
            assert set(service.every_queue()) == {
                "correspondence", "correspondence (previews)", "diffusion (previews)",
            }  # fmt: skip
            picture = tmp_path / "picture.png"
            with pytest.raises(EngineError, match="The engine diffusion is not served here; choose correspondence"):
                list(service.refine(RefineJob(picture, picture, engine="diffusion"), "visit"))
        finally:
            service.decoder.close()


# --- results of visits ----------------------------------------------------------------------------------------------


def entry_of(uploads: Path, name: str) -> Entry:
    """A result, whose files are in a page's folder of uploads."""
    picture = uploads / ("0" * 64) / 'rätsel "1".png'
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(b"a picture")
    result = make_result(make_report(message=name))
    shown = write_result(result, result.image, uploads / "refined" / name)
    submission = Submission(
        Marking(picture, marks=(Click(kind="object", points=(0.5, 0.5)),)), Marking(picture), name, seed=2**60
    )
    return Entry(submission, shown, Code("python", "command", "client", "curl", "hint", ()))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Makes this process that page; its folder of uploads."""

    def become(name: str) -> Path:
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / name))
        return tmp_path / name

    return become


def test_a_browser_finds_its_results_at_another_page(tmp_path: Path, page: Callable[[str], Path]) -> None:
    folder = tmp_path / "visits"
    folder.mkdir()
    uploads = page("one")
    first = KeptResults(folder)
    token, _ = first.open("session", "")
    made = History().with_entry(entry_of(uploads, "a")).with_entry(entry_of(uploads, "b"))
    first.keep("session", made)
    assert token not in "".join(path.name for path in folder.rglob("*")), "whoever sees the folder has no token"

    other = page("two")
    token, found = KeptResults(folder).open("another session", token)
    assert [entry.title for entry in found.entries] == ["b", "a"]
    assert found.current == found.entries[0]
    assert isinstance(found.entries[0].shown, ShownResult)
    for here, there in zip(found.entries, made.entries, strict=True):
        assert here.is_there
        assert isinstance(here.shown, ShownResult)
        assert isinstance(there.shown, ShownResult)
        assert here.shown.download.is_relative_to(other)
        assert here.shown.download.read_bytes() == there.shown.download.read_bytes()
        assert here.submission.reference.marks == there.submission.reference.marks
        assert here.submission.seed == 2**60
        assert here.submission.reference.source.read_bytes() == b"a picture"
    assert KeptResults(folder).open("session", "f" * 32)[1] == History()


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"entries": [], "current": 7}', b'{"entries": ["uploads://../../etc/passwd"]}']
)
def test_a_damaged_history_is_none(tmp_path: Path, page: Callable[[str], Path], content: bytes) -> None:
    page("one")
    kept = KeptResults(tmp_path)
    token, _ = kept.open("session", "")
    kept.keep("session", History())
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(content)
    assert kept.open("session", token)[1] == History()


def test_results_of_visits_are_deleted_by_age(tmp_path: Path, page: Callable[[str], Path]) -> None:
    folder = tmp_path / "visits"
    folder.mkdir()
    uploads = page("one")
    kept = KeptResults(folder)
    token, _ = kept.open("session", "")
    kept.keep("session", History().with_entry(entry_of(uploads, "a")))
    sweep_histories(folder, time.time() - 60)
    assert len(kept.open("session", token)[1].entries) == 1
    sweep_histories(folder, time.time() + 60)
    assert list(folder.iterdir()) == []
    assert kept.open("session", token)[1] == History()


def test_a_shared_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"REFGC_SHARED, .*; give a folder that all pages can write to"):
        open_state(Settings.model_validate({"shared": str(tmp_path / "file")}), None)
