"""What runs beside the page: the health check, compression, memory pools, the client's address behind a proxy."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gradio as gr
import pytest
from gradio.queueing import Event
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from refgc import __version__
from refgc.page.refine.result import History
from refgc.page.service.runs import Service
from refgc.page.service.server import MAX_SESSIONS, drop_unread_messages, health_route, server_middleware
from refgc.settings import Settings
from tests.page.service.test_runs import Clock, LocalDecoder
from tests.support.coroutines import completed
from tests.support.running import served

# --- health ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


def service_with(clock: Clock | None = None, **values: Any) -> Service:
    settings = Settings.model_validate({"spare_megabytes": 0, **values})
    return Service(settings, decoder=LocalDecoder(), clock=clock or Clock())


@pytest.fixture
def service() -> Service:
    return service_with()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with asking(service) as client:
        yield client


def asking(service: Service) -> TestClient:
    return TestClient(Starlette(routes=[health_route(service)]))


def test_idle_server_is_well(client: TestClient):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    state = answer.json()
    assert state.pop("free_bytes") > 0
    assert state == {"status": "ok", "version": __version__, "engine": "correspondence", "running": 0, "waiting": 0}
    assert answer.headers["cache-control"] == "no-store"
    assert client.post("/healthz").status_code == 405


def test_runs_are_counted_over_all_engines(client: TestClient, service: Service):
    for queue in service.queues.values():
        assert queue.enter(16).wait()
    service.queues["diffusion"].enter(16)
    state = client.get("/healthz").json()
    assert (state["running"], state["waiting"]) == (2, 1)


def test_run_that_does_not_end_is_told_long_after_its_time_limit():
    clock = Clock()
    service = service_with(clock, run_seconds=10)
    entry = service.queues["correspondence"].enter(16)
    assert entry.wait()
    with asking(service) as client:
        clock.now += 19
        assert client.get("/healthz").status_code == 200
        clock.now += 2
        answer = client.get("/healthz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "unavailable"
        assert answer.json()["reason"] == "a run of the engine correspondence does not end: 21 seconds"
        entry.end()
        assert client.get("/healthz").status_code == 200


def test_full_disk_is_told():
    with asking(service_with(spare_megabytes=1e9)) as client:
        answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["reason"] == "the disk with the folder for uploads is full"
    assert answer.json()["free_bytes"] > 0


def test_disk_that_does_not_answer_holds_nobody_up(service: Service):
    answered = threading.Event()
    route = health_route(service, free_bytes=lambda: int(answered.wait(60)), disk_seconds=0.2)
    with TestClient(Starlette(routes=[route])) as client:
        for _ in range(3):
            answer = client.get("/healthz")
            assert answer.status_code == 503
            assert answer.json()["reason"] == "the folder for uploads does not answer"
        answered.set()


def test_check_leaves_nothing_behind(client: TestClient, uploads: Path):
    for _ in range(3):
        client.get("/healthz")
    assert list(uploads.iterdir()) == []


# --- compression and proxies ----------------------------------------------------------------------------------------

TEXT = "the page and all its components " * 1000


def server(**values: Any) -> TestClient:
    def page(_: Request) -> Response:
        return PlainTextResponse(TEXT)

    def events(_: Request) -> Response:
        return PlainTextResponse(TEXT, media_type="text/event-stream")

    def picture(_: Request) -> Response:
        return Response(TEXT.encode(), media_type="image/png")

    def address(request: Request) -> Response:
        return PlainTextResponse(request.client.host if request.client else "")

    routes = [Route("/", page), Route("/events", events), Route("/picture", picture), Route("/address", address)]
    return TestClient(
        Starlette(routes=routes, middleware=server_middleware(service_with(**values))), client=("10.0.0.9", 50_000)
    )


def test_page_goes_compressed_to_those_who_can_read_it():
    client = server()
    compressed = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert int(compressed.headers["Content-Length"]) < len(TEXT) / 10
    assert compressed.text == TEXT
    assert "Content-Encoding" not in client.get("/", headers={"Accept-Encoding": "identity"}).headers


@pytest.mark.parametrize("path", ["/events", "/picture"])
def test_events_and_pictures_are_left_as_they_are(path: str):
    answer = server().get(path, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers
    assert answer.text == TEXT


@pytest.mark.parametrize(
    ("trusted", "address"),
    [("", "10.0.0.9"), ("10.0.0.0/8", "192.0.2.7"), ("10.0.0.9,192.0.2.7", "192.0.2.1"), ("10.1.0.0/16", "10.0.0.9")],
)
def test_only_a_trusted_proxy_is_believed(trusted: str, address: str):
    answer = server(trusted_proxies=trusted).get("/address", headers={"X-Forwarded-For": "192.0.2.1, 192.0.2.7"})
    assert answer.text == address


# --- memory ---------------------------------------------------------------------------------------------------------

# Counts the pools that glibc made for threads which all hold memory at the same time.
COUNT = """
import ctypes, sys, threading

if sys.argv[1] == "shared":
    from refgc.page.service.server import share_arenas
    share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(8)

def hold():
    libc.malloc(ctypes.c_size_t(1000))
    barrier.wait()

threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such pools")
def test_threads_share_a_few_pools():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def pools(how: str) -> int:
        command = [sys.executable, "-c", COUNT, how]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
        return told.count("Arena ")

    assert pools("shared") <= 2 < pools("each its own")


# --- what Gradio keeps for each session -----------------------------------------------------------------------------


def test_messages_that_nobody_reads_are_dropped():
    queue = gr.Blocks().queue()._queue
    for session, event in (("left", "ended"), ("at work", "going on")):
        queue.pending_messages_per_session[session] = asyncio.Queue()
        queue.pending_event_ids_session[session] = {event}
    queue.event_ids_to_events["going on"] = cast(Event, object())

    async def wait() -> list[set[str]]:
        dropping = asyncio.create_task(drop_unread_messages(queue, unread_seconds=0.5))
        seen = []
        for seconds in (0.3, 1.0):
            await asyncio.sleep(seconds)
            seen.append(set(queue.pending_messages_per_session))
        dropping.cancel()
        return seen

    assert completed(wait()) == [{"left", "at work"}, {"at work"}]
    assert set(queue.pending_event_ids_session) == {"at work"}


def test_state_of_so_many_sessions_is_kept(uploads: Path):
    with served(uploads, service_with) as page:
        config = page.get("/config").json()
        number = next(entry["id"] for entry in config["dependencies"] if entry["api_name"] == "examples")
        names = [f"session{count}" for count in range(MAX_SESSIONS + 5)]
        for name in names:
            body = {"data": [], "fn_index": number, "session_hash": name}
            assert page.post("/gradio_api/queue/join", json=body).status_code == 200
        sessions = page.demo.state_holder.session_data
        ends_at = time.monotonic() + 30
        while names[-1] not in sessions or names[0] in sessions:
            assert time.monotonic() < ends_at
            time.sleep(0.05)
        assert len(sessions) == MAX_SESSIONS


def test_settings_that_gradio_copies_for_each_session_are_dropped(uploads: Path):
    with served(uploads, service_with) as page:
        number = next(number for number, function in page.demo.fns.items() if function.name == "open_page")

        def open_page() -> dict[str, Any]:
            body = {"data": ["0" * 32], "fn_index": number, "session_hash": "visitor"}
            assert page.post("/gradio_api/queue/join", json=body).status_code == 200
            stream = page.get("/gradio_api/queue/data?session_hash=visitor").text
            messages = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line]
            return next(message for message in messages if message["msg"] == "process_completed")

        first = open_page()
        assert first["success"]
        session = page.demo.state_holder["visitor"]
        ends_at = time.monotonic() + 30
        while session.config_values:
            assert time.monotonic() < ends_at
            time.sleep(0.05)
        # What the visitor has done is still known, and the page still answers.
        (history,) = (value for value in session.state_data.values() if isinstance(value, History))
        assert history.current is not None
        assert open_page()["output"]["data"] == first["output"]["data"]
