"""A web server on this machine that stands for the paper's project page, with everything a host may do wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import PIL.Image

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Host:
    """`answers` by file name take the place of a picture; `asked` counts requests by path."""

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)


def picture(name: str) -> bytes:
    """A PNG of 96 x 96 pixels whose colour follows from its name."""
    level = sum(name.encode()) % 200
    pixels = np.full((96, 96, 3), (level, 255 - level, 40), np.uint8)
    encoded = BytesIO()
    PIL.Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def body(content: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def without_length(content: bytes) -> Answer:
    """Says nothing about how long it is."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def status(code: int, location: str | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        if location:
            handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def trickle(seconds: float) -> Answer:
    """A byte now and then, never long enough apart for a time-out between two of them."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handler.wfile.write(b"x")
            time.sleep(0.02)

    return answer


def silence(seconds: float) -> Answer:
    return lambda handler: time.sleep(seconds)


@contextmanager
def picture_host() -> Iterator[Host]:
    """Serves a picture under every name, unless told otherwise."""
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            host.asked[self.path] += 1
            try:
                host.answers.get(name, body(picture(name)))(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host.address = f"http://127.0.0.1:{server.server_address[1]}/asset/"
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
