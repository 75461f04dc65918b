"""Attacks the page over HTTP: does it stay up, small, and quick for another visitor?

usage: python -m benchmarks.http_walls [--json FILE]

Starts app.py on a free port of 127.0.0.1 and sends nothing anywhere else. Meanwhile another visitor asks for the health
check again and again. The figures go into FILE under "http", beside those of other benchmarks. The exit status is 1
where a request was answered otherwise than it has to be, or a bar was not kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from rich.console import Console

from benchmarks.page_client import PageServer

MEGABYTE = 1_000_000
SLOW_UPLOADS = 400
LONG_TEXTS = 100
LONG_NAMES = 60
LONG_BYTES = 3_900_000
LARGE_BODY_BYTES = 4_000_000
# Longest answer to another visitor, largest growth, and when the last slow upload has to be gone.
MOST_SECONDS = 2.0
MOST_MEGABYTES = 60.0
MOST_OPEN_SECONDS = 60.0

ODD_RANGES = (
    *("bytes=0-1,3-4", "bytes=5-1", "bytes=-", "bytes=", "bytes=a-b", "bytes=-0", "bytes=1000-", "bytes=0x1-2"),
    *("lines=1-2", "bytes=\u00b2-\u00b3", "bytes=0-" + "9" * 5000, "bytes=--1", "bytes 0-1", "", "bytes=1-2-3"),
)
CLOSED = (
    *("/monitoring", "/monitoring/summary", "/login", "/logout", "/docs", "/svelte/a.js", "/pwa_icon/4096"),
    *("/gradio_api/vibe-edit", "/gradio_api/deep_link", "/gradio_api/runs", "/gradio_api/queue/status"),
    *("/gradio_api/component_server", "/gradio_api/stream/an-event", "/gradio_api/file/etc/passwd"),
)
DISGUISES = ("{}", "{}%0a", "{}%0d%0a", "{}%00", "/{}", "{}/.", "{};x")


@dataclass
class Health:
    """What another visitor waits for an answer, in seconds."""

    waits: list[float] = field(default_factory=list)


@contextmanager
def another_visitor(address: str) -> Iterator[Health]:
    """Asks for the health check again and again, on a connection of its own, for as long as the context lasts."""
    health, ended = Health(), threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not ended.wait(0.05):
                began = time.monotonic()
                client.get(f"{address}/healthz").raise_for_status()
                health.waits.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield health
    finally:
        ended.set()
        asking.join()


def slow_uploads(address: str, count: int, patience: float) -> tuple[Counter[int], float]:
    """Opens uploads of which no more comes than a byte now and again.

    Args:
        address: of the page.
        count: how many.
        patience: seconds after which those that are still open are given up.

    Returns:
        How often each status was answered (0 where the connection was closed without one), and when the last one was
        closed, in seconds from the start; `patience` where some never were.
    """
    host, port = urlsplit(address).hostname, urlsplit(address).port
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        "Content-Length: 50000000\r\n\r\n--x\r\n"
        'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    ).encode()
    selector = selectors.DefaultSelector()
    answers: dict[socket.socket, bytes] = {}
    statuses: Counter[int] = Counter()
    began = last = time.monotonic()
    for _ in range(count):
        connection = socket.create_connection((str(host), int(port or 80)))
        connection.sendall(head)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        answers[connection] = b""
    dribbled = time.monotonic()
    while answers and time.monotonic() - began < patience:
        for key, _ in selector.select(0.2):
            connection = key.fileobj  # type: ignore[assignment]
            try:
                received = connection.recv(65_536)
            except OSError:
                received = b""
            answers[connection] += received
            if not received:
                answer = answers.pop(connection)
                statuses[int(answer.split()[1]) if answer else 0] += 1
                selector.unregister(connection)
                connection.close()
                last = time.monotonic()
        if time.monotonic() - dribbled > 1:
            dribbled = time.monotonic()
            for connection in answers:
                try:
                    connection.send(b"x")
                except OSError:
                    # Closed from the other side, which is seen in the next round.
                    continue
    still_open = list(answers)
    for connection in still_open:
        connection.close()
    return statuses, patience if still_open else last - began


def long_texts(client: httpx.Client, address: str, count: int, size: int = LONG_BYTES) -> Counter[int]:
    """Calls `/refine` with long texts where files are named; how often each status was answered."""
    body = json.dumps({"data": ["x" * (size // 2), "y" * (size // 2)]}).encode()
    return _posted(client, f"{address}/gradio_api/call/refine", [body] * count)


def long_names(client: httpx.Client, address: str, count: int, size: int = LONG_BYTES) -> Counter[int]:
    """Calls `/examples` for sessions with long names; how often each status was answered."""
    info = client.get(f"{address}/config").json()["dependencies"]
    number = next(one["id"] for one in info if one["api_name"] == "examples")
    bodies = (
        json.dumps({"data": [], "fn_index": number, "session_hash": str(one) + "s" * size}).encode()
        for one in range(count)
    )
    return _posted(client, f"{address}/gradio_api/queue/join", bodies)


def many_values(client: httpx.Client, address: str, size: int = LARGE_BODY_BYTES) -> Counter[int]:
    """Sends one body of nothing but nested lists."""
    body = b'{"session_hash": "s", "fn_index": 0, "data": [' + b"[[]]," * (size // 5) + b"0]}"
    return _posted(client, f"{address}/gradio_api/queue/join", [body])


def _posted(client: httpx.Client, address: str, bodies: Any) -> Counter[int]:
    headers = {"content-type": "application/json"}
    return Counter(client.post(address, content=body, headers=headers).status_code for body in bodies)


def odd_ranges(client: httpx.Client, address: str) -> Counter[int]:
    """Asks for an upload by each odd Range header."""
    files = {"files": ("a.png", bytes(1000))}
    (path,) = client.post(f"{address}/gradio_api/upload", files=files).raise_for_status().json()
    asked = f"{address}/gradio_api/file={path}"
    return Counter(client.get(asked, headers={b"Range": one.encode()}).status_code for one in ODD_RANGES)


def odd_paths(client: httpx.Client, address: str) -> Counter[int]:
    """Asks for every path that is closed, in every disguise."""
    urls = (
        httpx.URL(address).copy_with(raw_path=disguise.format(path).encode())
        for path in CLOSED
        for disguise in DISGUISES
    )
    return Counter(client.get(url).status_code for url in urls)


def measure() -> dict[str, Any]:
    """Every attack in full, with what it cost; about a minute."""
    figures: dict[str, Any] = {"machine": {"processors": multiprocessing.cpu_count(), "system": platform.machine()}}
    with (
        tempfile.TemporaryDirectory() as folder,
        PageServer(Path(folder)) as server,
        httpx.Client(timeout=60) as client,
    ):
        process = psutil.Process(server.process.pid)
        address = server.address
        client.get(address).raise_for_status()

        def attacked(name: str, attack: Callable[[], Any]) -> Any:
            before, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
            with another_visitor(address) as health:
                time.sleep(0.5)
                made = attack()
                time.sleep(0.5)
            figures[name] = {
                "statuses": {str(status): count for status, count in sorted(made[0].items())},
                **made[1],
                "megabytes_kept": round((process.memory_info().rss - before) / MEGABYTE, 1),
                "processor_seconds": round(sum(process.cpu_times()[:2]) - cpu, 2),
                "median_health_seconds": round(statistics.median(health.waits), 3),
                "slowest_health_seconds": round(max(health.waits), 3),
            }

        attacked("long_texts", lambda: (long_texts(client, address, LONG_TEXTS), {}))
        attacked("long_session_names", lambda: (long_names(client, address, LONG_NAMES), {}))
        attacked("many_values", lambda: (many_values(client, address), {}))
        attacked("odd_ranges", lambda: (odd_ranges(client, address), {}))
        attacked("odd_paths", lambda: (odd_paths(client, address), {}))

        def slow() -> tuple[Counter[int], dict[str, Any]]:
            statuses, seconds = slow_uploads(address, SLOW_UPLOADS, 2 * MOST_OPEN_SECONDS)
            left = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
            files = sum(path.is_file() for path in (server.folder / "uploads").glob("tmp*"))
            return statuses, {
                "seconds_until_the_last_is_closed": round(seconds, 1),
                # The other visitor's, and this one's.
                "connections_left": len(left),
                "files_left": files,
            }

        attacked("slow_uploads", slow)
        log = server.log.read_text(encoding="utf-8")
        figures["tracebacks"] = log.count("Traceback")
    return figures


def problems(figures: dict[str, Any]) -> list[str]:
    """What is not as it has to be."""
    expected = {
        "long_texts": {"413"},
        "long_session_names": {"400", "413"},
        "many_values": {"413"},
        "odd_ranges": {"416"},
        "odd_paths": {"404"},
        "slow_uploads": {"408", "429"},
    }
    found = []
    for name, statuses in expected.items():
        measured = figures[name]
        if not set(measured["statuses"]) <= statuses:
            found.append(f"{name}: answered {measured['statuses']}")
        if measured["slowest_health_seconds"] > MOST_SECONDS:
            found.append(f"{name}: another visitor waited {measured['slowest_health_seconds']} s")
        if measured["megabytes_kept"] > MOST_MEGABYTES:
            found.append(f"{name}: keeps {measured['megabytes_kept']} MB")
    if figures["slow_uploads"]["seconds_until_the_last_is_closed"] > MOST_OPEN_SECONDS:
        found.append("slow_uploads: not closed in time")
    if figures["tracebacks"]:
        found.append(f"{figures['tracebacks']} tracebacks in the log")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go, beside what is there")
    options = parser.parse_args()
    figures = measure()
    Console().print_json(data=figures)
    if options.json:
        known = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
        options.json.write_text(json.dumps({**known, "http": figures}, indent=2) + "\n", encoding="utf-8")
    found = problems(figures)
    for problem in found:
        print(problem, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
