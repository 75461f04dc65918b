"""The client: what it makes of answers, of silence, and of replicas that end; the replica's own part of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from refgc import __version__
from refgc.engine import Progress, RefineResult, Viewer, no_progress
from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image
from refgc.refinement import choose
from refgc.request import RefineRequest, make_request
from refgc.serve import client as client_module
from refgc.serve.client import OverloadedError, ServeClient
from refgc.serve.wire import Writer, finished_bytes, working_bytes
from tests.serve.test_wire import image, same
from tests.support.reports import make_report, make_result
from tests.support.serving import hosted
from tests.support.synthetic import SyntheticPair


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat comes at once, and the common state may not be away for long."""
    monkeypatch.setattr(client_module, "REPEAT_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "AWAY_SECONDS", 0.2)


@pytest.fixture
def asked() -> RefineRequest:
    return make_request(image(64, 64), image(32, 32))


class Replica:
    """Answers one request after the other as it is told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests = 0

    async def __call__(self, request: Request) -> Response:
        await request.body()
        answer = self.answers[min(self.requests, len(self.answers) - 1)]
        self.requests += 1
        return answer if isinstance(answer, Response) else StreamingResponse(answer())


def whole() -> Iterator[bytes]:
    writer = Writer()
    yield from working_bytes(writer, "matching", 0.5)
    yield from finished_bytes(writer, make_result(make_report()))


def cut_off() -> Iterator[bytes]:
    content = b"".join(whole())
    yield content[: len(content) // 2]
    raise RuntimeError("the replica is gone")


def cut_off_quietly() -> Iterator[bytes]:
    content = b"".join(whole())
    yield content[: len(content) // 2]


def without_end() -> Iterator[bytes]:
    yield from working_bytes(Writer(), "matching", 0.5)


@pytest.mark.parametrize(
    "broken", [cut_off, cut_off_quietly, without_end, Response("Internal Server Error", 500), Response("", 502)]
)
def test_a_request_whose_replica_ends_is_repeated_once(asked: RefineRequest, broken: Any) -> None:
    replica = Replica(broken, whole)
    stages: list[tuple[str, float]] = []
    with hosted(correspondence=replica) as address:
        result = ServeClient(address).refine("correspondence", asked, lambda *stage: stages.append(stage))
    assert same(result, make_result(make_report()))
    assert replica.requests == 2
    assert set(stages) == {("matching", 0.5)}

    replica = Replica(broken)
    with hosted(correspondence=replica) as address, pytest.raises(EngineError, match="ended twice in the middle"):
        ServeClient(address).refine("correspondence", asked)
    assert replica.requests == 2


@pytest.mark.parametrize("status", [503, 429])
def test_what_is_refused_for_want_of_room_is_not_repeated(asked: RefineRequest, status: int) -> None:
    replica = Replica(Response("", status))
    with hosted(correspondence=replica) as address, pytest.raises(OverloadedError, match="try again in a minute"):
        ServeClient(address).refine("correspondence", asked)
    assert replica.requests == 1


def test_where_nobody_answers_one_sentence_says_so(asked: RefineRequest) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    client = ServeClient(address + "/")
    for ask in (client.engines, lambda: client.refine("correspondence", asked)):
        with pytest.raises(EngineError) as failure:
            ask()
        assert str(failure.value).startswith(f"Nobody answers at REFGC_SERVE, '{address}' (")
        assert str(failure.value).endswith("; start `refgc serve` there, or correct the address.")
    with pytest.raises(EngineError, match=r"The queue at REFGC_SERVE, .* does not answer"):
        client.enter("correspondence", 1.0, 1)
    client.leave("correspondence", "ticket")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Response("<html>"), "something else than RefGC is there"),
        (Response("not found", 404), "status 404"),
        (JSONResponse({"version": "0.0.0", "engines": {}}), f"are of RefGC 0.0.0 and this is {__version__}"),
    ],
)
def test_something_else_at_the_address_is_told(answer: Response, sentence: str) -> None:
    with hosted(state=Replica(answer)) as address, pytest.raises(EngineError, match=sentence):
        ServeClient(address).engines()


def test_what_is_no_address_is_told() -> None:
    with pytest.raises(InputError, match=r"REFGC_SERVE, 'http://::1:8000', is no address .*; give one such as"):
        ServeClient("http://::1:8000")


@pytest.mark.parametrize("answer", [JSONResponse({"detail": ""}, 413), Response("<html>", 413)])
def test_pictures_that_are_too_large_are_told_by_whoever_refuses_them(asked: RefineRequest, answer: Response) -> None:
    """A load balancer answers in HTML."""
    with hosted(correspondence=Replica(answer)) as address, pytest.raises(EngineError, match="make them smaller"):
        ServeClient(address).refine("correspondence", asked)


def test_an_engine_that_is_not_served_is_told(asked: RefineRequest) -> None:
    served = {"fingerprint": "", "slots": 2, "waiting": 0, "running": []}
    state = Replica(JSONResponse({"version": __version__, "engines": {"correspondence": served}}))
    told = pytest.raises(EngineError, match=r"diffusion is not served at .*; choose correspondence")
    with hosted(state=state, diffusion=Replica(Response("", 404))) as address, told:
        ServeClient(address).refine("diffusion", asked)


# --- the replica ----------------------------------------------------------------------------------------------------


class Engine:
    """Stands for the real ones: takes as long as it is told, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.at_once, self.most_at_once = 0, 0
        self.ended: list[str] = []
        self.goes_on = threading.Event()

    def prepare(self, progress: Progress = no_progress) -> None:
        pass

    def refine(self, _: RefineRequest, progress: Progress, __: Viewer | None = None) -> RefineResult:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        ending = "stopped"
        try:
            progress("matching", 0.25)
            while not self.goes_on.wait(0.02):
                progress("matching", 0.5)
            if self.error is not None:
                raise self.error
            ending = "done"
            return make_result(make_report())
        finally:
            self.at_once -= 1
            self.ended.append(ending)


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A replica of such an engine, without Ray."""
    pytest.importorskip("ray.serve")
    from refgc.serve import deployments

    monkeypatch.setattr(deployments, "choose", lambda name: Engine())
    monkeypatch.setattr(deployments, "HEARTBEAT_SECONDS", 0.05)
    return deployments.EngineReplica({"engine": "correspondence"})


@pytest.mark.parametrize("error", [InputError("Give a mask."), EngineError("No memory."), ZeroDivisionError("98")])
def test_what_the_engine_raises_reaches_the_client(replica: Any, asked: RefineRequest, error: Exception) -> None:
    replica._engine.error = error
    replica._engine.goes_on.set()
    with hosted(correspondence=replica) as address, pytest.raises((InputError, EngineError)) as failure:
        ServeClient(address).refine("correspondence", asked)
    assert type(failure.value) is (InputError if isinstance(error, InputError) else EngineError)
    assert str(error).rstrip(".") in str(failure.value)


def test_bytes_that_are_no_request_are_refused(replica: Any) -> None:
    import httpx

    with hosted(correspondence=replica) as address:
        answer = httpx.post(f"{address}/correspondence/", content=b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    assert b"failed" in answer.content
    assert replica._engine.ended == []


def test_a_page_that_vanishes_while_it_sends_does_not_hold_the_replica(
    replica: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refgc.serve import deployments

    monkeypatch.setattr(deployments, "BODY_SILENCE_SECONDS", 0.2)
    with hosted(correspondence=replica) as address, socket.create_connection(_host_and_port(address), 10) as page:
        page.sendall(b"POST /correspondence/ HTTP/1.1\r\nHost: page\r\nContent-Length: 1000\r\n\r\nbegun")
        assert page.recv(100).startswith(b"HTTP/1.1 408")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").partition(":")
    return host, int(port)


class LeftError(Exception):
    """The visitor has gone."""


def test_a_run_that_nobody_waits_for_ends_and_two_never_run_at_once(replica: Any, asked: RefineRequest) -> None:
    def leave(stage: str, fraction: float) -> None:
        if fraction == 0.5:
            raise LeftError

    with hosted(correspondence=replica) as address:
        client = ServeClient(address)
        with pytest.raises(LeftError):
            client.refine("correspondence", asked, leave)
        later = threading.Timer(0.3, replica._engine.goes_on.set)
        later.start()
        client.refine("correspondence", asked)
    assert replica._engine.ended == ["stopped", "done"]
    assert replica._engine.most_at_once == 1


def test_a_silent_engine_is_not_taken_for_a_dead_one(
    replica: Any, asked: RefineRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.5)
    silent = replica._engine

    def refine(*_: object) -> RefineResult:
        time.sleep(1.5)
        return make_result(make_report())

    monkeypatch.setattr(silent, "refine", refine)
    with hosted(correspondence=replica) as address:
        assert same(ServeClient(address).refine("correspondence", asked), make_result(make_report()))


def test_a_replica_in_which_a_run_does_not_end_is_not_healthy(replica: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.coroutines import completed

    completed(replica.check_health())
    replica._began = time.monotonic() - 3.0
    completed(replica.check_health())
    monkeypatch.setenv("REFGC_RUN_SECONDS", "1")
    with pytest.raises(RuntimeError, match="a run does not end"):
        completed(replica.check_health())


def test_the_real_engine_gives_the_same_bytes_over_the_wire(synthetic_pair: SyntheticPair) -> None:
    pytest.importorskip("ray.serve")
    from refgc.serve.deployments import EngineReplica

    asked = make_request(synthetic_pair.reference, synthetic_pair.generated)
    here: list[Any] = []
    there: list[Any] = []

    def looking(seen: list[Any]) -> Viewer:
        return lambda stage, picture: seen.append((stage, picture))

    direct = choose("correspondence").refine(asked, viewer=looking(here))
    with hosted(correspondence=EngineReplica({"engine": "correspondence"})) as address:
        served = ServeClient(address).refine("correspondence", asked, viewer=looking(there))
    assert direct.report.placed
    assert served.report.model_copy(update={"seconds": {}}) == direct.report.model_copy(update={"seconds": {}})
    assert same(served.image, direct.image)
    assert same(served.stages, direct.stages)
    assert same(served.trust, direct.trust)
    assert [stage for stage, _ in here] == [stage for stage, _ in there]
    assert all(same(one, other) for (_, one), (_, other) in zip(here, there, strict=True) if isinstance(one, Image))
