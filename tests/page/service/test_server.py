"""What runs beside the page: the health check, compression, memory pools, the client's address behind a proxy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from refgc import __version__
from refgc.page.service.runs import Service
from refgc.page.service.server import health_route, server_middleware
from refgc.settings import Settings
from tests.page.service.test_runs import Clock, LocalDecoder

# --- health ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


def service_with(clock: Clock | None = None, **values: object) -> Service:
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
    with asking(service_with(spare_megabytes=1e12)) as client:
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


def server(**values: object) -> TestClient:
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
