"""Asks the page for many refinements at once: is each result the right one, are limits kept, does memory grow?

usage: python -m benchmarks.load [--clients N] [--requests N] [--json FILE]

Starts app.py on a free port of 127.0.0.1 and sends nothing anywhere else. Every visitor is a session of its own and
sends pictures of its own, small ones, so that the service is measured and not the engine; one request of each is the
same once more. Who is told that the page is busy tries again. The exit status is 1 where a result was lost, was not
what was asked for, or a limit was not kept.
"""

import argparse
import io
import json
import multiprocessing
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import psutil
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.page_client import PageServer, RefusedError, Visitor
from refgc.imaging.files import MEGABYTE
from refgc.settings import settings

SIDE, SCALE = 64, 4
REFERENCE_SIDE = 96
# A picture's own result is this near to its plain enlargement; another's is a multiple of it away.
NEAR = 12.0
BUSY = "The server is busy and its queue is full; please try again in a minute."
LONGEST_SECONDS = 30 * 60.0
SAMPLING_SECONDS = 0.1


@dataclass
class Tally:
    """What happened, counted by all threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    served: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    # (requests served, bytes of the server) over time, the most who waited and ran, the slowest health check.
    memory: list[tuple[int, int]] = field(default_factory=list)
    most_waiting: int = 0
    most_running: int = 0
    slowest_health: float = 0.0

    def note(self, problem: str) -> None:
        """Notes something that should not have happened."""
        with self.lock:
            self.problems.append(problem)


def picture_of(number: int) -> NDArray[np.uint8]:
    """A generated picture that is like no other: coarse colours drawn by its number."""
    coarse = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(coarse).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC))


def reference_of(number: int) -> NDArray[np.uint8]:
    """A reference with nothing in common with any picture."""
    return np.random.default_rng(10**6 + number).integers(0, 255, (REFERENCE_SIDE,) * 2 + (3,), dtype=np.uint8)


def distances(result: NDArray[np.uint8], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean differences of a result, scaled down, from each of the pictures, in grey levels."""
    small = PIL.Image.fromarray(result).resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
    away: NDArray[np.float32] = np.abs(np.asarray(small, np.float32) - pictures).mean(axis=(1, 2, 3))
    return away


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    PIL.Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def problem_with(content: bytes, report: dict[str, Any], number: int, pictures: NDArray[np.float32]) -> str | None:
    """What is wrong with a result, if anything."""
    with PIL.Image.open(io.BytesIO(content)) as picture:
        result = np.asarray(picture.convert("RGB"))
    if result.shape != (SCALE * SIDE, SCALE * SIDE, 3) or report["output_size"] != [SCALE * SIDE] * 2:
        return f"picture {number} has the size {result.shape}"
    away = distances(result, pictures)
    nearest, second = np.argsort(away)[:2]
    if nearest != number or away[number] > NEAR or away[second] < 2 * NEAR:
        return f"picture {number}: {away[nearest]:.1f} grey levels from {nearest}, {away[second]:.1f} from {second}"
    return None


def visit(
    address: str, numbers: list[int], pictures: NDArray[np.float32], tally: Tally, ends_at: float, **options: Any
) -> None:
    """One visitor's requests, the first once more at the end.

    Args:
        address: of the page.
        numbers: of the visitor's pictures.
        pictures: all of them.
        tally: counts what happens.
        ends_at: when it is given up, by `time.monotonic`.
        options: of the endpoint.
    """
    patience = random.Random(numbers[0])
    visitor = Visitor(address)
    first: bytes | None = None
    for number in [*numbers, numbers[0]]:
        began = time.monotonic()
        report = _persistently(visitor, number, patience, tally, ends_at, options)
        if report is None:
            continue
        content = visitor.download(report["url"])
        problem = problem_with(content, report, number, pictures)
        if first is not None and number == numbers[0] and content != first:
            problem = f"picture {number} came out otherwise the second time"
        first = first or content
        if problem:
            tally.note(problem)
        with tally.lock:
            tally.served += 1
            tally.waits.append(time.monotonic() - began)
    visitor.close()


def _persistently(
    visitor: Visitor, number: int, patience: random.Random, tally: Tally, ends_at: float, options: dict[str, Any]
) -> dict[str, Any] | None:
    """The report, however often the page is busy; None where it never came."""
    while time.monotonic() < ends_at:
        try:
            reference = visitor.upload("reference.png", encoded(reference_of(number)))
            generated = visitor.upload("generated.png", encoded(picture_of(number)))
            return visitor.refine(reference, generated, scale=SCALE, **options)
        except RefusedError as error:
            if str(error) != BUSY:
                tally.note(f"picture {number} was refused: {error}")
                return None
            with tally.lock:
                tally.busy += 1
        except (httpx.HTTPError, ValueError) as error:
            tally.note(f"picture {number} was lost: {type(error).__name__} {error}")
            return None
        time.sleep(patience.uniform(0.5, 2.0))
    tally.note(f"picture {number} was lost: no more time")
    return None


def sample(server: PageServer, tally: Tally, ended: threading.Event) -> None:
    """Looks at the server from outside, again and again."""
    process = psutil.Process(server.process.pid)
    while not ended.wait(SAMPLING_SECONDS):
        began = time.monotonic()
        state = server.health().json()
        with tally.lock:
            tally.slowest_health = max(tally.slowest_health, time.monotonic() - began)
            tally.most_waiting = max(tally.most_waiting, state["waiting"])
            tally.most_running = max(tally.most_running, state["running"])
            tally.memory.append((tally.served, process.memory_info().rss))


def growth(memory: list[tuple[int, int]], requests: int) -> dict[str, float]:
    """Memory of the server, in megabytes, after the first fifth of the requests and in the last fifth.

    Until the first fifth is served, libraries are loaded and threads started.
    """

    def megabytes(first: float, last: float) -> float:
        held = [held for served, held in memory if first * requests <= served <= last * requests]
        return statistics.median(held) / MEGABYTE

    early, late = megabytes(0.2, 0.4), megabytes(0.8, 1.0)
    served, held = zip(*[(served, held) for served, held in memory if served >= 0.2 * requests], strict=True)
    return {
        "after_a_fifth": round(early, 1),
        "in_the_last_fifth": round(late, 1),
        "growth_percent": round(100 * (late / early - 1), 1),
        "megabytes_in_100_requests": round(100 * float(np.polyfit(served, held, 1)[0]) / MEGABYTE, 2),
        "most": round(max(held for _, held in memory) / MEGABYTE, 1),
    }


def measure(clients: int, requests: int) -> dict[str, Any]:
    """Everything, as it is written to the JSON file."""
    each = max(1, round(requests / clients) - 1)
    pictures = np.stack([picture_of(number) for number in range(clients * each)]).astype(np.float32)
    tally, ended = Tally(), threading.Event()
    limit = settings().max_waiting
    with tempfile.TemporaryDirectory() as folder, PageServer(Path(folder)) as server:
        watching = threading.Thread(target=sample, args=(server, tally, ended))
        watching.start()
        began = time.monotonic()
        try:
            with ThreadPoolExecutor(clients) as visitors:
                visits = [
                    visitors.submit(
                        visit,
                        server.address,
                        list(range(client * each, (client + 1) * each)),
                        pictures,
                        tally,
                        began + LONGEST_SECONDS,
                    )
                    for client in range(clients)
                ]
            for ended_visit in visits:
                ended_visit.result()
        finally:
            ended.set()
            watching.join()
        seconds = time.monotonic() - began
        noted = [entry for entry in server.notes() if "outcome" in entry]
    asked = clients * (each + 1)
    return {
        "machine": {"processors": multiprocessing.cpu_count(), "system": platform.machine()},
        "clients": clients,
        "requests": asked,
        "served": tally.served,
        "given_again": sum(bool(entry.get("cached")) for entry in noted),
        "busy_answers": tally.busy,
        "problems": tally.problems,
        "most_waiting": tally.most_waiting,
        "may_wait": limit,
        "most_running": tally.most_running,
        "seconds": round(seconds, 1),
        "median_seconds_to_a_result": round(statistics.median(tally.waits), 1),
        "slowest_health_check_seconds": round(tally.slowest_health, 2),
        "megabytes": growth(tally.memory, asked),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50, help="visitors at the same time")
    parser.add_argument("--requests", type=int, default=300, help="of all together")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    measured = measure(options.clients, options.requests)
    Console().print_json(data=measured)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
    kept = measured["most_waiting"] <= measured["may_wait"] and measured["most_running"] <= 1
    sys.exit(0 if kept and not measured["problems"] and measured["served"] == measured["requests"] else 1)


if __name__ == "__main__":
    main()
