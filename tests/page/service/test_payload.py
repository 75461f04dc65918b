"""Bodies of requests: what is too long, too large, too slow or too odd, tried over HTTP on the running page."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from starlette.types import Message, Receive

from benchmarks.http_walls import another_visitor, long_names, long_texts, many_values, slow_uploads
from refgc.page.service import payload
from refgc.page.service.guard import TOO_MANY_AT_ONCE
from refgc.page.service.runs import Service
from refgc.settings import Settings
from tests.support.coroutines import completed
from tests.support.running import Served, served

FORM = {"content-type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
MEGABYTE = 1_000_000
ADDRESS_UPLOADS, ADDRESS_CONNECTIONS = 20, 60


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page, which waits for no one as long as it would otherwise."""
    settings = Settings(
        body_seconds=1.5,
        header_seconds=1.5,
        address_uploads=ADDRESS_UPLOADS,
        address_connections=ADDRESS_CONNECTIONS,
    )
    with served(tmp_path_factory.mktemp("site") / "uploads", lambda: Service(settings)) as running:
        yield running


def stored(site: Served) -> list[str]:
    return sorted(str(path) for path in site.uploads.rglob("*") if path.is_file())


def connected(site: Served) -> socket.socket:
    address = urlsplit(site.address)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30)


def upload_head(site: Served, length: int) -> bytes:
    host = urlsplit(site.address).netloc
    return (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: {FORM['content-type']}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def closed_after(connection: socket.socket) -> float:
    """Seconds until the server has closed the connection, whatever it says before."""
    began = time.monotonic()
    with suppress(ConnectionError):
        while connection.recv(65_536):
            pass
    return time.monotonic() - began


def wait_until_stored(site: Served, expected: list[str]) -> None:
    ends_at = time.monotonic() + 20
    while stored(site) != expected:
        assert time.monotonic() < ends_at, stored(site)
        time.sleep(0.05)


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_a_large_upload_is_refused_before_it_is_taken(site: Served) -> None:
    connection = http.client.HTTPConnection(urlsplit(site.address).netloc, timeout=60)
    connection.putrequest("POST", "/gradio_api/upload")
    for name, value in {**FORM, "content-length": str(2 * payload.UPLOAD_BYTES)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    sentence = "This is more than 100 MB, which is the limit; make the picture smaller and send it again."
    assert json.loads(answer.read())["detail"] == sentence
    connection.close()


def form_of(files: int, megabytes: int) -> Iterator[bytes]:
    """An upload that does not tell its size."""
    for _ in range(files):
        yield PART
        for _ in range(megabytes):
            yield bytes(MEGABYTE)
        yield b"\r\n"
    yield b"--x--\r\n"


@pytest.mark.parametrize(("files", "megabytes"), [(1, 110), (11, 10)])
def test_an_upload_that_does_not_tell_its_size_is_cut_off(files: int, megabytes: int, site: Served) -> None:
    before = stored(site)
    answer = site.post("/gradio_api/upload", headers=FORM, content=form_of(files, megabytes))
    assert answer.status_code == 413
    assert stored(site) == before


def test_a_refused_upload_is_not_read_on(site: Served) -> None:
    with connected(site) as connection:
        connection.sendall(upload_head(site, 2 * payload.UPLOAD_BYTES))
        began = time.monotonic()
        sent = 0
        with suppress(ConnectionError):
            while time.monotonic() - began < 20:
                sent += connection.send(bytes(MEGABYTE))
        assert sent < 50 * MEGABYTE
        assert time.monotonic() - began < 10


def test_an_event_has_a_limit_of_its_own(site: Served) -> None:
    answer = site.post("/gradio_api/queue/join", json={"data": ["x" * payload.EVENT_BYTES], "session_hash": "s"})
    assert answer.status_code == 413
    assert answer.json()["detail"] == "This is more than 64 kB, which is the limit; upload pictures, and shorten texts."


NESTED = b'{"data": ' + b"[" * 40 + b"]" * 40 + b"}"


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 400, payload.NOT_READABLE),
        (b"\xff\xfe{", 400, payload.NOT_READABLE),
        (b'{"data": ["\\ud800"]}', 400, payload.NOT_READABLE),
        (b'{"data": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", 400, payload.NOT_READABLE),
        (NESTED, 413, payload.TOO_MANY_VALUES),
        (b'{"data": [' + b"0," * 2_500 + b"0]}", 413, payload.TOO_MANY_VALUES),
        (b'{"data": [' + b"0," * 30_000 + b"0]}", 413, payload.TOO_MANY_VALUES),
        (b'{"data": [' + b'{"path": "a"},' * 100 + b"0]}", 413, payload.TOO_MANY_VALUES),
        (b'{"data": ["' + b"x" * 4_097 + b'"]}', 413, payload.TOO_LONG_TEXT),
        (b'{"' + b"x" * 300 + b'": 0}', 413, payload.TOO_LONG_TEXT),
        (b'{"data": [], "session_hash": "' + b"s" * 65 + b'"}', 400, payload.BAD_SESSION),
        (b'{"data": [], "session_hash": "a/b"}', 400, payload.BAD_SESSION),
        (b'{"data": [], "session_hash": 5}', 400, payload.BAD_SESSION),
    ],
    ids=range(13),
)
def test_bodies_with_too_much_in_them_are_told(body: bytes, status: int, sentence: str, site: Served) -> None:
    answer = site.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (status, sentence)


@pytest.mark.parametrize("path", ["queue/data?session_hash=", "upload_progress?upload_id=", "heartbeat/"])
def test_long_names_in_an_address_are_refused(path: str, site: Served) -> None:
    assert site.get(f"/gradio_api/{path}{'s' * 2_000}").status_code in (404, 414)


def test_what_is_refused_is_not_kept_and_stops_nobody(site: Served) -> None:
    """A tenth of the attack in `benchmarks.http_walls`."""
    long_texts(site.client, site.address, 1)
    process = psutil.Process()
    before = process.memory_info().rss
    with another_visitor(site.address) as health:
        assert set(long_texts(site.client, site.address, 10)) == {413}
        assert set(long_names(site.client, site.address, 6)) == {413}
        assert set(long_names(site.client, site.address, 6, size=100)) == {400}
        assert set(many_values(site.client, site.address)) == {413}
    assert process.memory_info().rss - before < 40 * MEGABYTE
    assert max(health.waits) < 3


def test_bodies_share_the_memory_they_are_read_into() -> None:
    memory = payload.Memory(most=10)

    def body(size: int) -> Receive:
        async def receive() -> Message:
            return {"type": "http.request", "body": bytes(size), "more_body": False}

        return receive

    async def nested() -> Message:
        # The second body comes while the first is being read.
        return {"type": "http.request", "body": await memory.read(body(6)), "more_body": nested_once.pop()}

    nested_once = [False, True]
    assert completed(memory.read(body(10))) == bytes(10)
    assert completed(memory.read(body(10))) == bytes(10)
    with pytest.raises(payload.RefusedError) as refused:
        completed(memory.read(nested))
    assert refused.value.status == 503
    assert completed(memory.read(body(10))) == bytes(10)


# --- forms ----------------------------------------------------------------------------------------------------------

FIELD = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\ntext\r\n'
OTHER = b'--x\r\nContent-Disposition: form-data; name="other"; filename="a.png"\r\n\r\ntext\r\n'
WHOLE = PART + b"a picture\r\n"
END = b"--x--\r\n"


@pytest.mark.parametrize(
    "body",
    [FIELD + END, WHOLE + FIELD + END, OTHER + END, WHOLE, WHOLE + PART, b"", b"nothing", END, WHOLE * 100 + END],
    ids=range(9),
)
@pytest.mark.parametrize("query", ["", "?upload_id=x"])
def test_odd_forms_are_told_and_leave_nothing(body: bytes, query: str, site: Served) -> None:
    before = stored(site)
    answer = site.post(f"/gradio_api/upload{query}", content=body, headers=FORM)
    assert (answer.status_code, answer.json()["detail"]) == (400, payload.NOT_AN_UPLOAD)
    assert stored(site) == before


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="])
def test_what_is_no_form_is_told(kind: str, site: Served) -> None:
    answer = site.post("/gradio_api/upload", content=WHOLE + END, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["detail"]) == (400, payload.NOT_AN_UPLOAD)


def test_several_files_may_come_at_once(site: Served) -> None:
    files: list[Any] = [("files", (f"{number}.png", bytes([number]) * 9)) for number in range(3)]
    paths = site.post("/gradio_api/upload?upload_id=several", files=files).json()
    assert [path.rpartition("/")[2] for path in paths] == ["0.png", "1.png", "2.png"]


def test_a_broken_off_upload_leaves_nothing(site: Served) -> None:
    before = stored(site)
    with connected(site) as connection:
        connection.sendall(upload_head(site, 50 * MEGABYTE) + PART + bytes(3 * MEGABYTE))
        ends_at = time.monotonic() + 20
        while stored(site) == before:
            assert time.monotonic() < ends_at
            time.sleep(0.02)
    wait_until_stored(site, before)


# --- time -----------------------------------------------------------------------------------------------------------


def test_slow_uploads_are_given_up(site: Served) -> None:
    """A tenth of the attack in `benchmarks.http_walls`."""
    before = stored(site)
    with another_visitor(site.address) as health:
        statuses, seconds = slow_uploads(site.address, 2 * ADDRESS_UPLOADS, 20)
    assert statuses == {408: ADDRESS_UPLOADS, 429: ADDRESS_UPLOADS}
    assert seconds < 10
    assert max(health.waits) < 3
    wait_until_stored(site, before)


def test_a_slow_event_is_given_up(site: Served) -> None:
    with connected(site) as connection:
        host = urlsplit(site.address).netloc
        connection.sendall(
            f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n".encode()
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["detail"]) == (408, payload.TOO_SLOW)
        assert closed_after(connection) < 5


def test_a_steady_upload_may_take_longer(site: Served) -> None:
    def steady() -> Iterator[bytes]:
        yield PART
        for _ in range(12):
            yield bytes(100_000)
            time.sleep(0.25)
        yield b"\r\n" + END

    answer = site.post("/gradio_api/upload", headers=FORM, content=steady())
    assert answer.status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a", b"POST /gradio_api/upload HTTP/1.1\r\n"])
def test_a_connection_without_a_request_is_closed(sent: bytes, site: Served) -> None:
    with connected(site) as connection:
        connection.sendall(sent)
        assert 1 < closed_after(connection) < 10


def test_an_open_stream_is_not_closed(site: Served) -> None:
    with connected(site) as connection:
        connection.sendall(b"GET /gradio_api/heartbeat/a-session HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(3)
        assert b"data: ALIVE" in connection.recv(65_536)
        connection.settimeout(0.5)
        # It would end at once, with nothing, on a connection that has been closed.
        with pytest.raises(TimeoutError):
            connection.recv(65_536)


def test_one_address_has_a_limited_number_of_connections(site: Served) -> None:
    port = urlsplit(site.address).port
    connections = [connected(site) for _ in range(2 * ADDRESS_CONNECTIONS)]
    try:
        for connection in connections:
            # These are under way, and would stay.
            connection.sendall(b"GET /gradio_api/heartbeat/a-session HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ends_at = time.monotonic() + 20
        while len(_served_on(port)) > ADDRESS_CONNECTIONS + 1:
            assert time.monotonic() < ends_at
            time.sleep(0.1)
    finally:
        for connection in connections:
            connection.close()


def _served_on(port: int | None) -> list[Any]:
    every = psutil.Process().net_connections("tcp")
    return [one for one in every if one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED]


def test_many_uploads_at_once_are_told(site: Served) -> None:
    open_ones = [connected(site) for _ in range(ADDRESS_UPLOADS)]
    try:
        for connection in open_ones:
            connection.sendall(upload_head(site, 1_000) + PART)
        ends_at = time.monotonic() + 1
        answer = site.post("/gradio_api/upload", files={"files": ("a.png", b"a")})
        while answer.status_code != 429 and time.monotonic() < ends_at:
            answer = site.post("/gradio_api/upload", files={"files": ("a.png", b"a")})
        assert (answer.status_code, answer.json()["detail"]) == (429, TOO_MANY_AT_ONCE)
        assert answer.headers["retry-after"] == "60"
    finally:
        for connection in open_ones:
            connection.close()
