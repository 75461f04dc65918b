"""Real Ray Serve with two replicas on this machine: same bytes, killed replicas, two pages, and the command itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from benchmarks.load import Tally, encoded, picture_of, reference_of, visit
from benchmarks.page_client import PageServer, RefusedError, Visitor
from refgc.engine import RefineResult
from refgc.refinement import choose
from refgc.request import RefineRequest, make_request
from refgc.serve.client import ServeClient
from refgc.serve.start import ServedEngines, ServeOptions, start
from tests.serve.test_wire import same
from tests.support.running import free_port
from tests.support.synthetic import make_synthetic_pair

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]
REPLICA = "ServeReplica:refgc-correspondence"
VISITORS, REQUESTS = 50, 300
# Fewer than the visitors, so that some are told to come again; each of these sends its pictures anew.
MAX_WAITING = 32
PATIENCE_SECONDS = 1500.0
# Ray gives its workers the lowest priority but four, so that on a busy machine these tests would take very long.
OF_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@pytest.fixture(scope="module")
def served() -> Iterator[ServedEngines]:
    """Two replicas of the engine, on a Ray of this machine."""
    pytest.importorskip("ray.serve", exc_type=ImportError)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        for name, value in OF_RAY.items():
            environment.setenv(name, value)
        engines = start(ServeOptions(engines=("correspondence",), replicas=2, port=free_port()))
        yield engines
        engines.close()


@pytest.fixture
def client(served: ServedEngines) -> Iterator[ServeClient]:
    asking = ServeClient(served.address)
    yield asking
    asking.close()


@pytest.fixture(scope="module")
def asked() -> list[RefineRequest]:
    """Refinements of small pictures, in which the reference is placed."""
    pair = make_synthetic_pair()
    return [make_request(pair.reference, pair.generated, scale=scale, seed=seed) for scale in (2, 4) for seed in (0, 1)]


@pytest.fixture(scope="module")
def direct(asked: list[RefineRequest]) -> list[RefineResult]:
    """What this process makes of them."""
    engine = choose("correspondence")
    results = [engine.refine(request) for request in asked]
    assert all(result.report.placed for result in results)
    return results


def replicas() -> list[psutil.Process]:
    """The processes of the engine's replicas."""
    return [one for one in psutil.process_iter(["cmdline"]) if REPLICA in " ".join(one.info["cmdline"] or ())]


def assert_same(served: RefineResult, direct: RefineResult) -> None:
    assert same(served.image, direct.image)
    assert same(served.stages, direct.stages)
    assert same(served.trust, direct.trust)
    assert served.report.model_copy(update={"seconds": {}}) == direct.report.model_copy(update={"seconds": {}})


def test_results_are_the_same_bytes_as_of_one_machine(
    client: ServeClient, asked: list[RefineRequest], direct: list[RefineResult]
) -> None:
    stages: list[str] = []

    def refined(request: RefineRequest) -> RefineResult:
        return client.refine("correspondence", request, lambda stage, _: stages.append(stage))

    with ThreadPoolExecutor(len(asked)) as visitors:
        results = list(visitors.map(refined, asked))
    for result, expected in zip(results, direct, strict=True):
        assert_same(result, expected)
    # The progress of each was told while it ran.
    assert len(stages) >= 4 * len(asked)


def test_a_killed_replica_loses_no_request(
    client: ServeClient, asked: list[RefineRequest], direct: list[RefineResult]
) -> None:
    begun, lock = [0] * len(asked), threading.Lock()
    killed: list[int] = []

    def refined(number: int) -> RefineResult:
        last = 1.0

        def progress(stage: str, fraction: float) -> None:
            nonlocal last
            with lock:
                # A run that is repeated begins anew.
                begun[number] += fraction < last
                last = fraction
                if fraction > 0.2 and not killed:
                    # Both replicas are busy: this one's or the other's run is lost.
                    killed.append(before[0].pid)
                    os.kill(killed[0], signal.SIGKILL)

        return client.refine("correspondence", asked[number], progress)

    before = replicas()
    assert len(before) == 2
    with ThreadPoolExecutor(len(asked)) as visitors:
        results = list(visitors.map(refined, range(len(asked))))
    for result, expected in zip(results, direct, strict=True):
        assert_same(result, expected)
    assert len(killed) == 1
    assert sorted(begun)[-1] == 2, "a run was lost with the replica, and repeated"
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while len([one for one in replicas() if one.pid not in killed]) < 2:
        assert time.monotonic() < ends_at, "another one takes its place"
        time.sleep(0.5)


def test_fifty_visitors_of_two_pages_get_their_results_and_limits_hold(
    served: ServedEngines, client: ServeClient, tmp_path: Path
) -> None:
    each = REQUESTS // VISITORS - 1
    pictures = np.stack([picture_of(number) for number in range(VISITORS * each)]).astype(np.float32)
    tally, ended = Tally(), threading.Event()
    most: dict[str, int] = {"waiting": 0, "running": 0}

    def sample() -> None:
        while not ended.wait(0.1):
            engine = client.engines()["correspondence"]
            most["waiting"] = max(most["waiting"], engine.waiting)
            most["running"] = max(most["running"], len(engine.running))

    settings: dict[str, Any] = {
        "REFGC_SERVE": served.address,
        "REFGC_SHARED": tmp_path / "shared",
        "REFGC_MAX_WAITING": MAX_WAITING,
        # One more than all visitors together ask for.
        "REFGC_ADDRESS_JOBS_PER_HOUR": REQUESTS + 1,
    }
    ends_at = time.monotonic() + PATIENCE_SECONDS
    watching = threading.Thread(target=sample)
    with PageServer(tmp_path / "one", **settings) as one, PageServer(tmp_path / "two", **settings) as two:
        watching.start()
        try:
            with ThreadPoolExecutor(VISITORS) as visitors:
                # Without the reference's detail a run is short, so that the way there is tested and not the engine.
                visits = [
                    visitors.submit(
                        visit,
                        (one, two)[number % 2].address,
                        list(range(number * each, (number + 1) * each)),
                        pictures,
                        tally,
                        ends_at,
                        strength=0.0,
                    )
                    for number in range(VISITORS)
                ]
            for ended_visit in visits:
                ended_visit.result()
        finally:
            ended.set()
            watching.join()
        assert tally.problems == []
        assert tally.served == REQUESTS
        assert tally.busy > 0, "so many visitors fill the queue"
        assert 0 < most["waiting"] <= MAX_WAITING
        assert 2 <= most["running"] <= 4
        notes = [note for page in (one, two) for note in page.notes() if note.get("event") == "refine"]
        assert sum(note["outcome"] != "busy" for note in notes) == REQUESTS
        # What a visitor of one page has had made is there at once at the other.
        another = Visitor(two.address)
        files = [another.upload("a.png", encoded(pixels)) for pixels in (reference_of(0), picture_of(0))]
        another.refine(*files, scale=4, strength=0.0)
        assert [note for note in two.notes() if note.get("event") == "refine"][-1]["cached"]
        for page in (one, two):
            visitor = Visitor(page.address)
            files = [visitor.upload("a.png", encoded(pixels)) for pixels in (reference_of(1), picture_of(1))]
            with pytest.raises(RefusedError, match=f"From your address {REQUESTS + 1} runs were started"):
                visitor.refine(*files, scale=4)


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", exc_type=ImportError)
    port = free_port()
    environment = {**os.environ, **OF_RAY, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path[1:]])}
    environment.pop("RAY_ADDRESS", None)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "refgc", "serve", "--engine", "correspondence", "--port", str(port)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log,
            # Where tests run in the background, SIGINT is ignored, and would be there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        try:
            told = f"Start a page there with REFGC_SERVE=http://127.0.0.1:{port} refgc page"
            ends_at = time.monotonic() + PATIENCE_SECONDS
            while told not in (tmp_path / "log").read_text():
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < ends_at
                time.sleep(0.2)
            description = httpx.get(f"http://127.0.0.1:{port}/state", timeout=60, follow_redirects=True).json()
            assert list(description["engines"]) == ["correspondence"]
            assert description["engines"]["correspondence"]["slots"] == 2
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/state")
