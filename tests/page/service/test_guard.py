"""What a visitor may not do, tried over HTTP on the running page."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import logging
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import gradio as gr
import httpx
import PIL.Image
import pytest
from gradio.processing_utils import PUBLIC_HOSTNAME_WHITELIST

from refgc.errors import InputError
from refgc.page.app import ASSETS
from refgc.page.examples import EXAMPLES_FOLDER
from refgc.page.service.guard import NO_SUCH_EVENT, NOT_FITTING
from refgc.page.service.payload import NOT_FETCHED, NOT_UPLOADED
from refgc.page.service.routes import BAD_HOST, NOT_A_RANGE, NOTHING_HERE, read_hosts
from refgc.page.service.runs import Service
from refgc.settings import Settings
from tests.support.running import Served, free_port, served

ROOT = EXAMPLES_FOLDER.parent
FILE = "/gradio_api/file="
FORM = {"content-type": "multipart/form-data; boundary=x"}
META = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("site") / "uploads") as running:
        yield running


@pytest.fixture(scope="module")
def png() -> bytes:
    return encoded(PIL.Image.effect_noise((64, 64), 60).convert("RGB"), "PNG")


def encoded(picture: PIL.Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secret(site: Served) -> Path:
    """A file beside the upload folder."""
    path = site.uploads.parent / "secret.txt"
    path.write_text("top secret")
    return path


def test_an_upload_and_an_example_can_be_read(site: Served, png: bytes) -> None:
    path = site.upload("fern.png", png)
    assert site.get(FILE + path).content == png
    example = EXAMPLES_FOLDER / "mug" / "hrri.jpg"
    assert site.get(f"{FILE}{example}").content == example.read_bytes()


def ways_to(secret: Path, uploads: Path, inside: str) -> list[str]:
    """Paths on the server that lead to `secret`, each written in another way."""
    up = "../" * len(uploads.parts)
    relative = f"{uploads}/../{secret.name}"
    from_inside = f"{Path(inside).parent}/../../{secret.name}"
    plain = [str(secret), relative, from_inside, f"{uploads}/{up}{str(secret).lstrip('/')}", f"{up}{secret}"]
    dotted = [path.replace("../", "..%2f") for path in plain] + [path.replace("..", "%2e%2e") for path in plain]
    doubled = [path.replace("%", "%25") for path in dotted]
    slashed = [path.replace("/", "\\") for path in plain] + [path.replace("../", "..%5c") for path in plain]
    dressed = [f"/{path}" for path in plain] + [f"{path}/." for path in plain] + [f"{path}%00.png" for path in plain]
    more = [f"{path}%0a" for path in plain] + [path.replace("../", "....//") for path in plain]
    return [*plain, *(quote(path, safe="") for path in plain), *dotted, *doubled, *slashed, *dressed, *more]


ROUTES = (
    FILE,
    "/gradio_api/file/",
    "/file=",
    "/file/",
    "/static/",
    "/assets/",
    "/gradio_api/proxy=",
    "/gradio_api/proxy=file://",
    "/gradio_api/file=file://",
    "/theme.css/",
    "/theme",
    "/svelte/",
    "/gradio_api/custom_component/file/client/component/",
    "/",
)


@pytest.mark.parametrize("route", ROUTES)
def test_no_way_leads_out_of_the_upload_folder(route: str, site: Served, secret: Path, png: bytes) -> None:
    inside = site.upload("fern.png", png)
    for way in ways_to(secret, site.uploads, inside):
        answer = site.get(f"{route}{way}")
        assert answer.status_code in (400, 403, 404), way
        assert b"top secret" not in answer.content, way


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cwd/pyproject.toml",
        f"{ROOT}/pyproject.toml",
        f"{ROOT}/app.py",
        f"{ROOT}/refgc/demo/page.py",
        f"{ROOT}/.git/config",
        f"{ROOT}/examples/make/scene.py",
        f"{ROOT}/examples/mug/../README.md",
        f"{ASSETS}/page.css",
        "pyproject.toml",
        ".env",
        gr.__file__,
        "/root",
        str(ROOT),
        str(EXAMPLES_FOLDER),
    ],
)
def test_nothing_else_on_the_machine_can_be_read(path: str, site: Served) -> None:
    assert site.get(FILE + path).status_code == 403


def test_the_upload_folder_cannot_be_listed(site: Served, png: bytes) -> None:
    folder = Path(site.upload("fern.png", png)).parent
    for path in (site.uploads, folder, f"{folder}/"):
        assert site.get(f"{FILE}{path}").status_code == 403


def test_links_in_the_upload_folder_lead_nowhere(site: Served, secret: Path) -> None:
    file, folder = site.uploads / "link.png", site.uploads / "folder"
    file.symlink_to(secret)
    folder.symlink_to(secret.parent)
    try:
        for path in (file, folder / secret.name):
            assert path.read_text() == "top secret"
            assert site.get(f"{FILE}{path}").status_code == 403
            assert refused(site, {"path": str(path), **META}) == NOT_UPLOADED
    finally:
        file.unlink()
        folder.unlink()


def test_links_among_the_examples_lead_nowhere(site: Served, secret: Path) -> None:
    link = EXAMPLES_FOLDER / "mug" / "link.png"
    link.symlink_to(secret)
    try:
        assert site.get(f"{FILE}{link}").status_code == 403
        assert refused(site, {"path": str(link), **META}) == NOT_UPLOADED
    finally:
        link.unlink()


def test_addresses_of_files_cannot_be_guessed(site: Served, png: bytes) -> None:
    first = Path(site.upload("fern.png", png))
    other = Path(site.upload("fern.png", png + b"!"))
    assert first.parent != other.parent
    plain = hashlib.sha256(png).hexdigest()
    assert first.parent.name != plain
    assert len(first.parent.name) == len(plain)


# --- what an event names --------------------------------------------------------------------------------------------


def events(site: Served) -> list[int]:
    """Every event that takes a file."""
    return [number for number, event in site.demo.fns.items() if any(isinstance(one, gr.File) for one in event.inputs)]


def send(site: Served, number: int, value: Any) -> list[httpx.Response]:
    """The event with `value` for each of its files, in every way in which an event is sent."""
    event = site.demo.fns[number]
    data = [value if isinstance(one, gr.File) else None for one in event.inputs]
    body = {"data": data, "fn_index": number, "session_hash": "a-session", "event_data": None, "trigger_id": 1}
    return [
        site.post("/gradio_api/queue/join", json=body),
        site.post(f"/gradio_api/run/{event.api_name}", json=body),
        site.post(f"/gradio_api/run/{event.api_name}/", json=body),
        site.post(f"/gradio_api/call/{event.api_name}", json={"data": data}),
        site.post("/gradio_api/queue/join", content=json.dumps(body), headers={"content-type": "text/plain"}),
    ]


def refused(site: Served, value: Any) -> str:
    """The one sentence with which every event, however sent, refuses `value`."""
    sentences = set()
    for number in events(site):
        for answer in send(site, number, value):
            assert answer.status_code == 422, answer.text
            (detail,) = answer.json()["detail"]
            sentences.add(detail["message"])
    (sentence,) = sentences
    return str(sentence)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/../etc/passwd",
        "etc/passwd",
        "../../../../etc/passwd",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        f"{ROOT}/app.py",
        "app.py",
        ".env",
        "",
        ".",
        "/etc/passwd\0.png",
        "~/.ssh/id_rsa",
    ],
)
@pytest.mark.parametrize("extra", [META, {}, {"orig_name": "a.png", "size": 5, "mime_type": "image/png", **META}])
def test_an_event_cannot_name_a_file_that_was_not_uploaded(path: str, extra: dict[str, Any], site: Served) -> None:
    assert refused(site, {"path": path, **extra}) == NOT_UPLOADED
    assert refused(site, [{"image": {"path": path, **extra}, "caption": None}]) == NOT_UPLOADED


def test_a_file_in_the_upload_folder_may_be_named_by_path_or_address(site: Served, png: bytes) -> None:
    path = site.upload("fern & co.png", png)
    shown = f"{site.address}{FILE}{quote(path)}"
    number = events(site)[0]
    for named in (path, shown, shown.replace("127.0.0.1", "elsewhere.example")):
        answer = send(site, number, {"path": named, **META})[0]
        assert answer.status_code == 200, answer.text


# --- nothing is fetched ---------------------------------------------------------------------------------------------


class Host:
    """A server that notes who asks for anything."""

    def __init__(self) -> None:
        host = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"fetched")

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", free_port()), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """One that Gradio takes for a public host, as it would one that a visitor put somewhere."""
    monkeypatch.setattr("safehttpx.is_public_ip", lambda address: True)
    monkeypatch.setattr("gradio.processing_utils.PUBLIC_HOSTNAME_WHITELIST", [*PUBLIC_HOSTNAME_WHITELIST, "127.0.0.1"])
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


def test_gradio_alone_fetches(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests below rule out does happen without the page's guard."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with gr.Blocks(analytics_enabled=False) as demo:
        gr.Interface(lambda path: Path(path).read_text(), gr.File(), gr.Textbox(), api_name="read")
    demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        alone = Served(demo.local_url.rstrip("/"), tmp_path, demo)
        assert alone.get(f"{FILE}{host.address}/one.txt").text == "fetched"
        answer = alone.post("/gradio_api/run/read", json={"data": [{"path": f"{host.address}/two.txt", **META}]})
        assert answer.json()["data"] == ["fetched"]
    finally:
        demo.close()
    assert host.asked == ["/one.txt", "/two.txt"]


@pytest.mark.parametrize("scheme", ["http://", "HTTP://", "hTtPs://"])
def test_an_event_fetches_no_address(scheme: str, host: Host, site: Served) -> None:
    address = host.address.replace("http://", scheme)
    for value in (
        {"path": f"{address}/x.png", **META},
        {"path": f"{address}/x.png", "url": f"{address}/x.png", "orig_name": "x.png", **META},
        {"path": f"{address}/?gradio_api/file=/etc/passwd", **META},
        [{"image": {"path": f"{address}/x.png", **META}, "caption": None}],
    ):
        assert refused(site, value) == NOT_FETCHED
    assert host.asked == []


def test_the_address_beside_a_path_is_not_fetched(host: Host, site: Served, png: bytes) -> None:
    path = site.upload("fern.png", png)
    number = events(site)[0]
    for answer in send(site, number, {"path": path, "url": f"{host.address}/x.png", **META}):
        assert NOT_FETCHED not in answer.text
    assert host.asked == []


def test_an_address_of_our_form_on_another_host_is_a_path_here(host: Host, site: Served) -> None:
    assert refused(site, {"path": f"{host.address}{FILE}/etc/passwd", **META}) == NOT_UPLOADED
    assert host.asked == []


def test_no_route_fetches_an_address(host: Host, site: Served) -> None:
    plain = host.address
    for address in (plain, plain.upper(), quote(plain, safe=""), plain.replace("http://", "//"), f"\\\\{plain[7:]}"):
        for route in ROUTES:
            assert site.get(f"{route}{address}/x.png").status_code in (403, 404), f"{route}{address}"
    assert host.asked == []


# --- pictures -------------------------------------------------------------------------------------------------------


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels in a few kilobytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_gradio_decodes_no_picture_of_a_visitor(site: Served) -> None:
    """Its own components decode a picture before anybody has looked at its size; ours takes files."""
    decoding = (gr.Image, gr.ImageEditor, gr.ImageSlider, gr.Gallery, gr.AnnotatedImage, gr.Video, gr.Audio)
    takers = [event.name for event in site.demo.fns.values() if any(isinstance(one, decoding) for one in event.inputs)]
    assert takers == []


# --- one visit and another ------------------------------------------------------------------------------------------


def named(site: Served, name: str) -> int:
    """The number of the event that runs the function of that name."""
    return next(number for number, event in site.demo.fns.items() if event.name == name)


def messages(site: Served, session: str) -> list[dict[str, Any]]:
    """Everything that a session is told until its stream ends."""
    told = []
    # After an error Gradio ends the stream where it is.
    with (
        suppress(httpx.RemoteProtocolError),
        site.client.stream("GET", f"{site.address}/gradio_api/queue/data?session_hash={session}") as stream,
    ):
        for line in stream.iter_lines():
            told += [json.loads(line.removeprefix("data: "))] if line else []
    return told


def test_a_session_is_told_of_its_own_events_only(site: Served) -> None:
    number = named(site, "examples")
    for session in ("one", "other"):
        body = {"data": [], "fn_index": number, "session_hash": session}
        assert site.post("/gradio_api/queue/join", json=body).status_code == 200
    assert site.get("/gradio_api/queue/data?session_hash=stranger").status_code == 404
    ends = [one for session in ("one", "other") for one in messages(site, session) if one["msg"] == "process_completed"]
    assert len(ends) == 2
    assert ends[0]["event_id"] != ends[1]["event_id"]


def test_names_of_events_cannot_be_guessed(site: Served) -> None:
    body = {"data": [], "fn_index": named(site, "examples"), "session_hash": "guesses"}
    events = [site.post("/gradio_api/queue/join", json=body).json()["event_id"] for _ in range(2)]
    assert len(set(events)) == 2
    assert all(len(event) == 32 and int(event, 16) for event in events)


def test_what_one_visit_keeps_is_not_kept_for_another(site: Served) -> None:
    states = [block for block in site.demo.blocks.values() if isinstance(block, gr.State)]
    assert states
    holder = site.demo.state_holder
    for state in states:
        holder["one"][state._id] = "mine"
    assert all(holder["other"][state._id] != "mine" for state in states)
    assert all(state.value != "mine" for state in states)


# --- routes ---------------------------------------------------------------------------------------------------------


CLOSED = (
    "/gradio_api/vibe-edit",
    "/gradio_api/vibe-code/",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/vibe-starter-queries",
    "/gradio_api/process_recording",
    "/gradio_api/component_server",
    "/gradio_api/custom_component/x/client/component/index.js",
    "/gradio_api/deep_link?session_hash=s",
    "/gradio_api/runs",
    "/gradio_api/run-history/connect",
    "/gradio_api/run-history/buckets",
    "/gradio_api/stream/an-event",
    "/gradio_api/stream/an-event/close",
    "/gradio_api/queue/status",
    "/gradio_api/proxy=http://example.com/",
    "/gradio_api/profiling/traces",
    "/gradio_api/dev/reload",
    "/gradio_api/file/etc/passwd",
    "/gradio_api/api/refine",
    "/gradio_api/user",
    "/gradio_api/token",
    "/gradio_api/mcp/",
    "/gradio_api/mcp/sse",
    "/gradio_api/mcp/messages/",
    "/gradio_api",
    "/gradio_api/",
    "/monitoring",
    "/monitoring/",
    "/monitoring/a-key",
    "/login",
    "/login/",
    "/logout",
    "/svelte/a.js",
    "/pwa_icon/4096",
    "/docs",
    "/openapi.json",
    "/file=/etc/passwd",
    "/static",
    "/assets/",
    "/refine",
)
# Ways of writing a path by which an allow-list may be fooled.
DISGUISES = ("{}%0a", "{}%0d%0a", "{}%00", "{}%20", "/{}", "{}/.", "/.{}", "{};x", "/x/..{}", "/%2e{}", "{}%3f")


def test_what_the_page_does_not_use_is_closed(site: Served) -> None:
    for path in CLOSED:
        for answer in (site.get(path), site.post(path, json={})):
            assert (answer.status_code, answer.json()) == (404, {"detail": NOTHING_HERE}), path


@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_way_of_writing_a_path_opens_what_is_closed(disguise: str, site: Served) -> None:
    for path in ("/monitoring/a-key", "/monitoring", "/gradio_api/queue/status", "/login", "/gradio_api/deep_link"):
        answer = site.get(disguise.format(path))
        assert (answer.status_code, answer.json()) == (404, {"detail": NOTHING_HERE}), answer.url


def test_what_the_page_and_its_clients_use_is_open(site: Served) -> None:
    for path in (
        *("/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", "/pwa_icon", "/gradio.js"),
        *("/healthz", "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/app_id", "/gradio_api/login_check"),
        *("/gradio_api/startup-events", "/static/img/logo.svg"),
    ):
        assert site.get(path).status_code == 200, path


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(method: str, site: Served) -> None:
    for path, taken in (("/", "GET, HEAD"), ("/gradio_api/upload", "POST"), ("/gradio_api/queue/data", "GET")):
        answer = site.client.request(method, site.address + path)
        assert (answer.status_code, answer.headers["allow"]) == (405, taken)
        assert answer.json()["detail"] == f"This address takes only {taken.replace(', ', ' or ')} requests."


def test_there_are_no_websockets(site: Served) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    answer = site.get("/gradio_api/queue/join", headers={**headers, "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="})
    assert answer.status_code in (403, 404, 405)


# --- one sentence, and one line in the log --------------------------------------------------------------------------


class Lines(logging.Handler):
    """Notes what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def log() -> Iterator[Lines]:
    """What the server logs, and what it could not answer."""
    lines = Lines()
    for name in ("refgc", "uvicorn.error"):
        logging.getLogger(name).addHandler(lines)
    yield lines
    for name in ("refgc", "uvicorn.error"):
        logging.getLogger(name).removeHandler(lines)


def told_once(answer: httpx.Response, status: int, log: Lines) -> str:
    """The sentence of an answer that was refused without any trace but a line in the log."""
    sentence = answer.json()["detail"]
    assert answer.status_code == status, sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    (record,) = log.records
    log.records.clear()
    assert isinstance(record.msg, dict), record.getMessage()
    assert (record.msg["event"], record.msg["status"], record.exc_info) == ("request refused", status, None)
    return str(sentence)


@pytest.mark.parametrize("path", ["call/refine/{}", "call/v2/refine/{}", "queue/data?session_hash={}"])
def test_events_and_sessions_that_do_not_exist_are_told(path: str, site: Served, log: Lines) -> None:
    for name in ("0123456789abcdef", "x", "a-session.of_another"):
        assert told_once(site.get("/gradio_api/" + path.format(name)), 404, log) == NO_SUCH_EVENT


def test_events_that_do_not_fit_the_page_are_told(site: Served, log: Lines) -> None:
    for path, body in (
        ("queue/join", {"data": [], "fn_index": 99_999, "session_hash": "s"}),
        ("call/nothing", {"data": []}),
        ("call/v2/nothing", {}),
        ("call/v2/refine", {"bogus": 1}),
        ("run/nothing", {"data": []}),
    ):
        assert told_once(site.post(f"/gradio_api/{path}", json=body), 400, log) == NOT_FITTING
    unfit: list[Any] = [{"data": "x"}, {"fn_index": 0}, [], "x", {"data": [], "fn_index": "x", "session_hash": "s"}]
    for content in unfit:
        assert told_once(site.post("/gradio_api/queue/join", json=content), 422, log) == NOT_FITTING


def test_a_file_of_the_page_with_an_impossible_name_is_told(site: Served, log: Lines) -> None:
    for name in ("a" * 300, "a" * 5000, "%C3%A9" * 200):
        assert told_once(site.get(f"/assets/{name}"), 404, log) == NOTHING_HERE


ODD_RANGES = (
    *("bytes=0-1,3-4", "bytes=5-1", "bytes=-", "bytes=", "bytes=a-b", "bytes=-0", "bytes=1000-", "bytes=0x1-2"),
    *("lines=1-2", "bytes=\u00b2-\u00b3", "bytes=0-" + "9" * 5000, "bytes=--1", "bytes 0-1", "", "bytes=1-2-3"),
)


@pytest.mark.parametrize("asked", ODD_RANGES, ids=range(len(ODD_RANGES)))
def test_odd_ranges_are_told(asked: str, site: Served, log: Lines) -> None:
    path = site.upload("fern.png", bytes(1000))
    answer = site.get(FILE + path, headers={"Range": asked.encode()})
    assert told_once(answer, 416, log) == NOT_A_RANGE
    assert answer.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize(
    ("asked", "given"), [("0-1", (0, 2)), ("9990-", (9990, 10_000)), ("-5", (9995, 10_000)), ("3-20000", (3, 10_000))]
)
def test_a_range_is_given(asked: str, given: tuple[int, int], site: Served) -> None:
    content = bytes(number % 251 for number in range(10_000))
    path = site.upload("fern.txt", content)
    answer = site.get(FILE + path, headers={"Range": f"bytes={asked}", "X-Private": "not to be repeated"})
    assert answer.status_code == 206
    assert answer.content == content[slice(*given)]
    assert answer.headers["content-range"] == f"bytes {given[0]}-{given[1] - 1}/10000"
    assert "not to be repeated" not in str(answer.headers)
    assert answer.headers["content-encoding"] == "identity"


def test_no_refusal_names_a_path_of_the_server(site: Served, log: Lines) -> None:
    path = site.upload("fern.png", b"gone")
    Path(path).unlink()
    body = {"data": [{"path": path, **META}] * 2}
    answers = [site.get(FILE + path), site.get(f"{FILE}{site.uploads}"), site.get(f"{FILE}{ROOT}/app.py")]
    answers += [site.post("/gradio_api/call/refine", json=body), site.get("/static/../../nothing")]
    answers += [site.get("/assets/nothing.js"), site.post("/gradio_api/upload", json={})]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        for folder in (site.uploads.parent, ROOT, Path(gr.__file__).parent):
            assert str(folder) not in answer.text
    assert "no longer here" in answers[3].json()["detail"][0]["message"]
    assert all(record.exc_info is None for record in log.records)


# --- hosts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
def test_hosts_that_cannot_be_are_refused(header: str, site: Served, log: Lines) -> None:
    for host in ("a:b:c", "[", "evil/path", "a b", "<script>", "user@example.com", "a" * 60 + ":999999"):
        answer = site.get("/config", headers={header: host})
        assert told_once(answer, 400, log) == BAD_HOST.format(header)


@pytest.fixture(scope="module")
def closed_site(site: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page for some hosts only, on a disk without room."""
    service = Service(Settings(allowed_hosts="page.example, *.paper.example", spare_megabytes=10**9))
    folder = tmp_path_factory.mktemp("closed") / "uploads"
    with served(folder, lambda: service) as running, pytest.MonkeyPatch.context() as environment:
        # Gradio looks its folder up in the environment at each upload, and `site` is still served.
        environment.setenv("GRADIO_TEMP_DIR", str(site.uploads))
        yield running


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
def test_only_hosts_of_the_setting_are_answered(header: str, closed_site: Served) -> None:
    for host, is_ours in {
        "page.example": True,
        "PAGE.example:7860": True,
        "a.paper.example": True,
        "localhost:7860": True,
        "paper.example": False,
        "page.example.evil.example": False,
        "evil.example": False,
    }.items():
        assert closed_site.get("/theme.css", headers={header: host}).status_code == (200 if is_ours else 400), host


def test_every_host_in_a_list_has_to_be_one_of_the_setting(closed_site: Served) -> None:
    both = closed_site.get("/theme.css", headers={"X-Forwarded-Host": "page.example, evil.example"})
    assert both.status_code == 400


def test_the_health_check_may_come_by_any_name(closed_site: Served) -> None:
    assert closed_site.get("/healthz", headers={"Host": "10.0.0.7"}).json()["reason"].startswith("the disk")


def test_nothing_is_read_of_an_upload_while_the_disk_is_full(closed_site: Served) -> None:
    before = sorted(closed_site.uploads.rglob("*"))
    connection = http.client.HTTPConnection(urlsplit(closed_site.address).netloc, timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    for name, value in {**FORM, "content-length": "1000"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    # No byte of the body is sent.
    answer = connection.getresponse()
    assert answer.status == 503
    assert json.loads(answer.read())["detail"].startswith("The server has no room left for new pictures")
    assert sorted(closed_site.uploads.rglob("*")) == before
    connection.close()


def test_the_setting_has_names_of_hosts() -> None:
    for wrong in ("https://page.example", "page example", "*"):
        with pytest.raises(InputError, match="REFGC_ALLOWED_HOSTS has"):
            read_hosts(wrong)


def test_no_header_moves_the_page_to_another_server(site: Served) -> None:
    assert "evil.example" not in site.get("/config", headers={"X-Gradio-Server": "http://evil.example"}).text


# --- headers --------------------------------------------------------------------------------------------------------


def test_heavy_events_cannot_skip_the_queue(site: Served) -> None:
    for number, event in site.demo.fns.items():
        if event.queue and event.fn:
            body = {"data": [None] * len(event.inputs), "fn_index": number}
            assert site.post(f"/gradio_api/run/{event.api_name}", json=body).status_code == 404


def test_headers_suit_a_page_in_a_frame(site: Served, png: bytes) -> None:
    path = site.upload("fern.png", png)
    for route in ("/", "/config", "/theme.css", f"{FILE}{path}", f"{FILE}/etc/passwd", "/gradio_api/deep_link"):
        headers = site.get(route).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "x-frame-options" not in headers
        assert "frame-ancestors" not in headers["content-security-policy"]
    assert site.get(FILE + path).headers["content-security-policy"].endswith("sandbox")
    assert site.get("/theme.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
        ("a.html", b"<script>alert(1)</script>"),
        ("a.xhtml", b'<html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></html>'),
        ("a.xml", b"<?xml version='1.0'?><a/>"),
        ("a.js", b"alert(1)"),
        ("a", b"<script>alert(1)</script>"),
    ],
)
def test_an_upload_is_never_shown_as_a_page(name: str, content: bytes, site: Served) -> None:
    headers = site.get(FILE + site.upload(name, content)).headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"].endswith("sandbox")
