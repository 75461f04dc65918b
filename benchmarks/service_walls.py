"""Tries the page's server with many sessions, broken-off uploads and large pictures: what does it keep and cost?

usage: python -m benchmarks.service_walls [--sessions N] [--only PART] [--json FILE]

Starts app.py on a free port of 127.0.0.1 and sends nothing anywhere else. The figures are written under the keys
"sessions", "disk" and "decoding_admission" of benchmarks/security.json; what others have written there stays. The exit
status is 1 where a bar is not met.
"""

import argparse
import json
import multiprocessing
import platform
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from rich.console import Console

from benchmarks.load import encoded, picture_of, reference_of
from benchmarks.page_client import API, PageServer, Visitor
from refgc.imaging.files import MEGABYTE, write_whole

FIGURES = Path(__file__).with_name("security.json")
# Until so many sessions are served, libraries are loaded and threads started.
WARM_SESSIONS = 50
SESSIONS_AT_ONCE = 4
SESSIONS_BAR_MEGABYTES = 60.0

BROKEN_OFF, BROKEN_OFF_BYTES = 10, 8 * MEGABYTE
REFUSED, REFUSED_BYTES = 3, 120 * MEGABYTE
SWEPT_SECONDS = 240.0

REQUESTS, LARGE_SIDE = 10, 8000
SAMPLING_SECONDS = 0.1
MEMORY_BAR_MEGABYTES = 2500.0

LIMITS: dict[str, Any] = {"REFGC_ADDRESS_JOBS_PER_HOUR": 1_000_000, "REFGC_MAX_WAITING": 16}


def measure_sessions(count: int, warm: int = WARM_SESSIONS) -> dict[str, Any]:
    """Memory of the server over sessions that refine one pair of small pictures each.

    Args:
        count: how many sessions are counted.
        warm: how many come before.
    """
    with tempfile.TemporaryDirectory() as folder, PageServer(Path(folder), **LIMITS) as server:
        process = psutil.Process(server.process.pid)

        def refine(number: int) -> None:
            visitor = Visitor(server.address)
            reference = visitor.upload("reference.png", encoded(reference_of(number)))
            generated = visitor.upload("generated.png", encoded(picture_of(number)))
            visitor.refine(reference, generated)
            visitor.close()

        def refine_all(numbers: range) -> None:
            with ThreadPoolExecutor(SESSIONS_AT_ONCE) as visitors:
                list(visitors.map(refine, numbers))

        refine_all(range(warm))
        before = process.memory_info().rss
        samples = [before]
        began = time.monotonic()
        for part in range(10):
            refine_all(range(warm + part * count // 10, warm + (part + 1) * count // 10))
            samples.append(process.memory_info().rss)
        seconds = time.monotonic() - began
        outcomes = [entry["outcome"] for entry in server.notes() if "outcome" in entry]
    return {
        **machine(),
        "sessions": count,
        "sessions before the first figure": warm,
        "served": len([outcome for outcome in outcomes if outcome in ("done", "unplaced")]) - warm,
        "seconds": round(seconds, 1),
        "megabytes": [round(held / MEGABYTE, 1) for held in samples],
        "growth, MB": round((samples[-1] - before) / MEGABYTE, 1),
        "growth of the last half, kB a session": round((samples[-1] - samples[5]) / (count / 2) / 1000, 1),
        "bar, MB": SESSIONS_BAR_MEGABYTES,
    }


def measure_disk(
    broken_off: int = BROKEN_OFF, refused: int = REFUSED, *, wait_seconds: float = SWEPT_SECONDS
) -> dict[str, Any]:
    """Bytes that uploads leave on the disk which are broken off or too large, at once and until they are deleted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "temporary").mkdir()
        with PageServer(folder, TMPDIR=folder / "temporary", **LIMITS) as server:
            before = bytes_in(folder)
            for _ in range(broken_off):
                break_off(server.port)
            left = bytes_in(folder) - before
            statuses = [too_large(server.address) for _ in range(refused)]
            left_in_all = bytes_in(folder) - before
            began = time.monotonic()
            while bytes_in(folder) - before > MEGABYTE and time.monotonic() < began + wait_seconds:
                time.sleep(1)
            return {
                **machine(),
                "broken off": broken_off,
                "bytes of each": BROKEN_OFF_BYTES,
                "left by broken-off uploads, MB": round(left / MEGABYTE, 1),
                "too large": refused,
                "answers": statuses,
                "left by refused uploads, MB": round((left_in_all - left) / MEGABYTE, 1),
                "left in the end, MB": round((bytes_in(folder) - before) / MEGABYTE, 1),
                "seconds until then": round(time.monotonic() - began, 1),
            }


def break_off(port: int) -> None:
    """Sends half of an upload and closes the connection."""
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    head = (
        f"POST {API}/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {2 * BROKEN_OFF_BYTES}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection, suppress(ConnectionError):
        connection.sendall(head.encode() + form + bytes(BROKEN_OFF_BYTES))
        time.sleep(0.5)


def too_large(address: str) -> int | str:
    """The status of an upload that is too large and does not say so; or how the connection ended."""

    def body() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(REFUSED_BYTES // MEGABYTE):
            yield bytes(MEGABYTE)
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        return httpx.post(f"{address}{API}/upload", content=body(), headers=headers, timeout=60).status_code
    except httpx.TransportError as error:
        return type(error).__name__


def bytes_in(folder: Path) -> int:
    """The bytes of all files in a folder, the log not counted."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += 0 if file.suffix == ".txt" or file.is_dir() else file.stat().st_size
    return total


def measure_admission(requests: int = REQUESTS, side: int = LARGE_SIDE) -> dict[str, Any]:
    """Memory and processor time of simultaneous requests of one session with a large flat picture."""
    flat = encoded(np.full((side, side, 3), 128, np.uint8))
    with tempfile.TemporaryDirectory() as folder, PageServer(Path(folder), **LIMITS) as server:
        warming = Visitor(server.address)
        small = warming.upload("small.png", encoded(picture_of(0)))
        warming.refine(small, warming.upload("reference.png", encoded(reference_of(0))))
        visitor = Visitor(server.address)
        large = visitor.upload("large.png", flat)
        family = Family(server.process.pid)
        before = family.sample()
        began = time.monotonic()
        with family.watched():
            sentences = visitor.refine_together(large, small, [{"seed": number} for number in range(requests)])
        seconds = time.monotonic() - began
        runs = [entry for entry in server.notes() if "outcome" in entry][1:]
    return {
        **machine(),
        "requests": requests,
        "picture": [side, side],
        "bytes of the file": len(flat),
        "served": sentences.count(""),
        "refused": [sentence for sentence in sentences if sentence],
        "seconds": round(seconds, 1),
        "seconds of the runs": [entry["ran"] for entry in runs if "ran" in entry],
        "most memory of all processes, MB": round(family.most_bytes / MEGABYTE, 1),
        "memory before, MB": round(before / MEGABYTE, 1),
        "processor seconds": round(family.processor_seconds, 1),
        "bar, MB": MEMORY_BAR_MEGABYTES,
    }


class Family:
    """The memory and the processor time of a process and all that it starts, those that have ended too."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._spent: dict[int, float] = {}
        self._begun: dict[int, float] = {}
        self.most_bytes = 0
        self.sample()
        self._begun = dict(self._spent)
        self.most_bytes = 0

    @property
    def processor_seconds(self) -> float:
        """Since this was made."""
        return sum(self._spent.values()) - sum(self._begun.values())

    def sample(self) -> int:
        """The bytes of memory at present; memory that is shared counts for each process in part."""
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
                times = process.cpu_times()
                self._spent[process.pid] = times.user + times.system
        self.most_bytes = max(self.most_bytes, total)
        return total

    def watched(self) -> "Watch":
        """Samples again and again for as long as the context lasts."""
        return Watch(self.sample)


class Watch:
    """Calls something again and again."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._ended = threading.Event()
        self._call = call
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLING_SECONDS):
            self._call()


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {"processors": multiprocessing.cpu_count(), "system": platform.machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=2000, help="how many sessions")
    parser.add_argument("--only", choices=("sessions", "disk", "decoding_admission"), help="one part of it")
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures go")
    options = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "decoding_admission": measure_admission,
        "disk": measure_disk,
        "sessions": lambda: measure_sessions(options.sessions),
    }
    measured = {name: part() for name, part in parts.items() if options.only in (None, name)}
    Console().print_json(data=measured)
    written = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    text = json.dumps({**written, **measured}, indent=2) + "\n"
    write_whole(options.json, text.encode())
    missed = [
        measured.get("sessions", {}).get("growth, MB", 0) > SESSIONS_BAR_MEGABYTES,
        measured.get("disk", {}).get("left in the end, MB", 0) > 1,
        measured.get("decoding_admission", {}).get("most memory of all processes, MB", 0) > MEMORY_BAR_MEGABYTES,
    ]
    sys.exit(1 if any(missed) else 0)


if __name__ == "__main__":
    main()
