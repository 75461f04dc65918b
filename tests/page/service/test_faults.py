"""The page's server when something breaks: it is killed, its disk is full, the work fails, a visitor leaves."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from benchmarks.page_client import PageServer, RefusedError, Visitor
from refgc.page.service.gpu import refine_with
from refgc.page.service.runs import Service
from refgc.page.words import OUR_FAULT
from tests.support.running import served
from tests.support.synthetic import make_synthetic_pair

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0
# The server in a user's name space of its own, with a small disk of its own where its uploads are.
ON_A_SMALL_DISK = 'mkdir -p "$0" && mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"'


def encoded(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    PIL.Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def small() -> tuple[bytes, bytes]:
    """A pair whose refinement takes a second."""
    pair = make_synthetic_pair(reference_side=320, generated_side=96)
    return encoded(pair.reference), encoded(pair.generated)


@pytest.fixture(scope="module")
def large() -> tuple[bytes, bytes]:
    """A pair whose refinement takes many seconds."""
    pair = make_synthetic_pair(reference_side=1600, generated_side=768)
    return encoded(pair.reference), encoded(pair.generated)


def uploaded(visitor: Visitor, pair: tuple[bytes, bytes]) -> tuple[str, str]:
    return visitor.upload("reference.png", pair[0]), visitor.upload("generated.png", pair[1])


def refined(visitor: Visitor, pair: tuple[bytes, bytes], **options: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Report and pixels of a result, which is whole."""
    report = visitor.refine(*uploaded(visitor, pair), **options)
    with PIL.Image.open(io.BytesIO(visitor.download(report["url"]))) as picture:
        assert list(picture.size) == report["output_size"]
        return report, np.asarray(picture)


def until(fulfilled: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not fulfilled():
        assert time.monotonic() < ends_at
        time.sleep(0.1)


def begun(told: Iterator[list[Any]]) -> None:
    """Reads on until the work has begun; the first pictures of the engine take a while to come."""
    for _, progress in told:
        if progress["fraction"] > 0 and not progress["stage"].startswith("waiting"):
            return
    pytest.fail("it ended")


def outcomes(server: PageServer) -> list[str]:
    return [entry["outcome"] for entry in server.notes() if "outcome" in entry]


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_server_serves_again_on_the_same_port_and_nothing_damaged(
    tmp_path: Path, small: tuple[bytes, bytes], large: tuple[bytes, bytes]
):
    with PageServer(tmp_path) as server:
        visitor = Visitor(server.address)
        report, pixels = refined(visitor, small)
        told = visitor.told(*uploaded(visitor, large))
        begun(told)
        server.kill()
        with pytest.raises(httpx.TransportError):
            list(told)
        with pytest.raises(httpx.TransportError):
            server.health()
    with PageServer(tmp_path, port=server.port) as again:
        assert again.health().json()["running"] == 0
        newcomer = Visitor(again.address)
        again_report, again_pixels = refined(newcomer, small)
        assert again_report["seconds"] == report["seconds"]
        assert np.array_equal(again_pixels, pixels)
        assert again.notes()[-1]["cached"] is True
        whole, _ = refined(newcomer, large, scale=1)
        assert whole["output_size"] == [768, 768]


# --- disk full ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """What runs a command with 24 MB of disk at the folder "server" below `tmp_path`."""
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, str(tmp_path / "server")]
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a process mount a disk of its own")
    return before


def fill(folder: Path, *, leave: int) -> Path:
    filler = folder / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * (shutil.disk_usage(folder).free - leave))
    return filler


@pytest.mark.slow
@pytest.mark.parametrize("spare", [0, 4])
def test_full_disk_is_told_and_with_room_the_next_is_served(
    tmp_path: Path, small_disk: list[str], small: tuple[bytes, bytes], spare: int
):
    log = tmp_path / "log"
    with PageServer(
        log, before=small_disk, GRADIO_TEMP_DIR=tmp_path / "server" / "uploads", REFGC_SPARE_MEGABYTES=spare
    ) as server:
        inside = Path(f"/proc/{server.process.pid}/root{tmp_path}/server")
        visitor = Visitor(server.address)
        given = uploaded(visitor, small)
        refined_before, _ = refined(visitor, small)
        filler = fill(inside, leave=20_000)
        with pytest.raises(RefusedError, match="no room left for new pictures; please try again in a few minutes"):
            visitor.refine(*given, seed=1)
        if spare:
            assert server.health().status_code == 503
            assert server.health().json()["reason"] == "the disk with the folder for uploads is full"
        filler.unlink()
        assert server.health().status_code == 200
        report = visitor.refine(*given, seed=1)
        assert report["output_size"] == refined_before["output_size"]
        with PIL.Image.open(io.BytesIO(visitor.download(report["url"]))) as picture:
            picture.load()
        left = {entry.name for entry in (inside / "uploads" / "refined").iterdir()}
        assert len(left) == 2
    assert outcomes(server) == ["done", "failed", "done"]
    assert [entry["error"] for entry in server.notes() if entry.get("outcome") == "failed"] == ["NoRoomError"]


def test_folder_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with PageServer(tmp_path, GRADIO_TEMP_DIR=tmp_path / "uploads") as server:
        assert server.health().status_code == 200
        shutil.rmtree(tmp_path / "uploads", ignore_errors=True)
        (tmp_path / "uploads").write_text("in the way")
        answer = server.health()
        assert answer.status_code == 503
        assert answer.json()["reason"].startswith("the folder for uploads cannot be written to")


# --- the work fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), MemoryError()], ids=["mistake", "memory"])
def test_failed_work_is_told_without_its_details_and_the_next_is_served(
    tmp_path: Path, small: tuple[bytes, bytes], error: Exception
):
    def broken(engine, request, progress, viewer=None):
        if request.seed == 13:
            progress("about to fail", 0.1)
            raise error
        return refine_with(engine, request, progress, viewer)

    with served(tmp_path / "uploads", lambda: Service(refine_with=broken)) as page:
        visitor = Visitor(page.address)
        with pytest.raises(RefusedError) as refused:
            refined(visitor, small, seed=13)
        assert str(refused.value) == OUR_FAULT
        report, _ = refined(visitor, small, seed=1)
        assert report["output_size"] == [384, 384]
        assert len(list((tmp_path / "uploads" / "refined").iterdir())) == 1


# --- visitors leave -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_visitor_who_leaves_frees_the_engine_and_the_place_in_the_queue(
    tmp_path: Path, small: tuple[bytes, bytes], large: tuple[bytes, bytes]
):
    with PageServer(tmp_path) as server:
        first, second, third = (Visitor(server.address) for _ in range(3))
        running = first.told(*uploaded(first, large))
        begun(running)
        waiting = second.told(*uploaded(second, large), seed=1)
        stages = (progress["stage"] for _, progress in waiting)
        assert next(stages).startswith("waiting for your turn, you are next")
        state = server.health().json()
        assert (state["running"], state["waiting"]) == (1, 1)
        waiting.close()
        second.close()
        until(lambda: server.health().json()["waiting"] == 0)
        running.close()
        first.close()
        until(lambda: server.health().json()["running"] == 0)
        refined(third, small)
    assert outcomes(server) == ["cancelled", "cancelled", "done"]
    ran = [entry.get("ran") for entry in server.notes() if "outcome" in entry]
    assert ran[0] is None
    assert not list((tmp_path / "uploads" / "refined").glob("*/refined-4x-3072x3072.png"))


@pytest.mark.slow
def test_limits_are_told_to_scripts(tmp_path: Path, large: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, content in zip(("reference.png", "generated.png"), large, strict=True):
        (tmp_path / name).write_bytes(content)
    pictures = {name: handle_file(tmp_path / f"{name}.png") for name in ("reference", "generated")}
    with PageServer(tmp_path, REFGC_MAX_WAITING=1, REFGC_VISIT_JOBS=1) as server:
        scripts = [Client(server.address, verbose=False) for _ in range(3)]
        running = scripts[0].submit(**pictures, api_name="/refine")
        until(lambda: server.health().json()["running"] == 1)
        with pytest.raises(AppError, match="You have one run under way; wait until it has ended or cancel it"):
            scripts[0].predict(**pictures, seed=1, api_name="/refine")
        waiting = scripts[1].submit(**pictures, seed=2, api_name="/refine")
        until(lambda: server.health().json()["waiting"] == 1)
        with pytest.raises(AppError, match="busy and its queue is full; please try again in a minute"):
            scripts[2].predict(**pictures, seed=3, api_name="/refine")
        assert waiting.cancel()
        until(lambda: server.health().json()["waiting"] == 0)
        assert running.cancel()
        until(lambda: server.health().json()["running"] == 0)
    assert sorted(outcomes(server)) == ["busy", "busy", "cancelled", "cancelled"]


def ask_amiss(address: str, value: Any) -> None:
    """Sends events with too few values and with values that no component can take, and reads what they are told."""
    with httpx.Client(base_url=f"{address}/gradio_api", timeout=PATIENCE_SECONDS) as http:
        events = {event["api_name"]: event for event in http.get(f"{address}/config").json()["dependencies"]}
        for name in ("refine", "submit", "follow"):
            for values in ([value], [value] * len(events[name]["inputs"])):
                asked = {"fn_index": events[name]["id"], "data": values, "session_hash": "amiss"}
                http.post("/queue/join", json=asked).raise_for_status()
                told = http.get("/queue/data", params={"session_hash": "amiss"}).text
                assert '"success":false' in told


def test_nothing_of_a_visitor_is_logged(tmp_path: Path, small: tuple[bytes, bytes]):
    with PageServer(tmp_path) as server:
        visitor = Visitor(server.address)
        reference = visitor.upload("my-holiday-in-rome.png", small[0])
        generated = visitor.upload("birthday.png", small[1])
        visitor.refine(reference, generated, object_name="grandmother’s teapot")
        with pytest.raises(RefusedError):
            visitor.refine(reference, generated, object_name="grandmother’s teapot", strength=7)
        ask_amiss(server.address, {"path": reference, "size": "grandmother’s teapot"})
    log = server.log.read_text(encoding="utf-8")
    assert outcomes(server) == ["done"]
    for secret in ("holiday", "birthday", "grandmother", "teapot", visitor.session, Path(reference).parent.name, "png"):
        assert secret not in log
    assert "127.0.0.1" not in "".join(line for line in log.splitlines() if line.startswith("{"))
    assert os.fspath(tmp_path) not in log
    assert "Traceback" not in log
