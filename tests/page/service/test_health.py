"""The health check by itself: what it says, and when it says that nothing can be served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from refgc import __version__
from refgc.page.service import server as health
from refgc.page.service.queue import Line
from refgc.page.service.server import health_route
from refgc.settings import Settings


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Line]:
    fresh = {"correspondence": Line(), "diffusion": Line()}
    monkeypatch.setattr(health, "LINES", fresh)
    return fresh


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: dict[str, Line]) -> Iterator[TestClient]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    limit(monkeypatch)
    with TestClient(Starlette(routes=[health_route()])) as client:
        yield client


def limit(monkeypatch: pytest.MonkeyPatch, **values: float) -> None:
    chosen = Settings.model_validate({"spare_megabytes": 0, **values})
    monkeypatch.setattr(health, "settings", lambda: chosen)


def test_idle_server_is_well(client: TestClient):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    state = answer.json()
    assert state.pop("free_bytes") > 0
    assert state == {"status": "ok", "version": __version__, "engine": "correspondence", "running": 0, "waiting": 0}
    assert answer.headers["cache-control"] == "no-store"
    assert client.post("/healthz").status_code == 405


def test_who_runs_and_who_waits_is_counted_over_all_engines(client: TestClient, lines: dict[str, Line]):
    for line in lines.values():
        assert line.join(16).wait()
    lines["diffusion"].join(16)
    state = client.get("/healthz").json()
    assert (state["running"], state["waiting"]) == (2, 1)


def test_run_that_does_not_end_is_told_long_after_its_time_out(
    client: TestClient, lines: dict[str, Line], monkeypatch: pytest.MonkeyPatch
):
    limit(monkeypatch, run_seconds=0.2)
    ticket = lines["correspondence"].join(16)
    assert ticket.wait()
    assert client.get("/healthz").status_code == 200
    time.sleep(0.5)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert answer.json()["reason"].startswith("a run of the engine correspondence does not end")
    ticket.end()
    assert client.get("/healthz").status_code == 200


def test_full_disk_is_told(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    limit(monkeypatch, spare_megabytes=1e12)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["reason"] == "the disk with the folder for uploads is full"
    assert answer.json()["free_bytes"] > 0


def test_disk_that_does_not_answer_holds_nobody_up(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    answered = threading.Event()
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(health, "free_bytes", lambda: answered.wait(60) and 1)
    for _ in range(3):
        answer = client.get("/healthz")
        assert answer.status_code == 503
        assert answer.json()["reason"] == "the folder for uploads does not answer"
    answered.set()


def test_check_leaves_nothing_behind(client: TestClient, tmp_path: Path):
    for _ in range(3):
        client.get("/healthz")
    assert list((tmp_path / "uploads").iterdir()) == []
