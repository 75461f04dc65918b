"""Measures engines that are served by Ray Serve: requests a minute by replicas, the cost of the hop, what breaks first.

usage: python -m benchmarks.serve [--seconds S] [--json FILE] [--tables]

Ray runs on this machine alone and ends afterwards. Requests are of one pair at a time, 256 to 1024 pixels, as the page
sends them. Ray's workers get the priority of this process, so that both are measured alike. With the defaults it takes
about 6 minutes on two idle cores. It writes benchmarks/serve.json and the part of docs/scaling.md between its marks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.page_client import free_port
from refgc import machine
from refgc.errors import EngineError
from refgc.imaging.files import MEGABYTE, write_whole
from refgc.refinement import choose
from refgc.request import RefineRequest, make_request
from refgc.serve.client import OverloadedError, ServeClient
from refgc.serve.start import ServeOptions, start
from refgc.serve.wire import Writer, finished_bytes, request_bytes
from tests.support.synthetic import make_synthetic_pair

ROOT = Path(__file__).resolve().parents[1]
FILE, DOCUMENT = Path(__file__).with_suffix(".json"), ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- benchmarks/serve.py begins -->", "<!-- benchmarks/serve.py ends -->"
REPLICA = "ServeReplica:refgc-correspondence"
# Enlargements in turn, direct and served, whose medians are compared; and requests at once against the queue's limit.
TURNS, AT_ONCE = 15, 24
MINUTE = 60.0

# --- assumptions of the estimate, which are no measurements ---------------------------------------------------------
TARGET = 1000
# A picture with the diffusion engine on one GPU, in seconds. No GPU was at hand: these are the operations counted for
# 28 steps at 1024 x 1024 pixels (see `refgc.page.service.gpu`), at 0.4 of what an NVIDIA H200 is said to do.
GPU_SECONDS = 21.0
CORES_A_MACHINE, GPUS_A_MACHINE = 16, 8
# Dollars an hour: a usual price of 16 dedicated cores, and of one H100 or H200, at clouds that rent them by the hour.
DOLLARS_A_CPU_MACHINE, DOLLARS_A_GPU = 0.70, 3.00
# Replicas are planned for this share of what they can do, so that a queue that has formed gets shorter again.
UTILISATION = 0.8


def pair_of(side: int, seed: int = 0, **options: Any) -> RefineRequest:
    """A request with a generated picture of that side, and a reference of twice the result's detail at most."""
    pair = make_synthetic_pair(reference_side=min(4 * side, 1024), generated_side=side)
    return make_request(pair.reference, pair.generated, seed=seed, **options)


@contextmanager
def served(replicas: int) -> Iterator[tuple[ServeClient, list[psutil.Process]]]:
    """A client of so many replicas that share the cores, and their processes."""
    engines = start(ServeOptions(engines=("correspondence",), replicas=replicas, port=free_port()))
    client = ServeClient(engines.address)
    try:
        yield (
            client,
            [one for one in psutil.process_iter(["cmdline"]) if REPLICA in " ".join(one.info["cmdline"] or ())],
        )
    finally:
        client.close()
        engines.close()


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def hop(client: ServeClient, turns: int) -> list[dict[str, Any]]:
    """What the way to the replica and back costs, by the side of the generated picture.

    Enlargements are compared, which take the least time of their own; direct and served ones take turns.
    """
    engine = choose("correspondence")
    rows = []
    for side in (64, 256):
        request = pair_of(side, strength=0.0)
        result = engine.refine(request)
        client.refine("correspondence", request)
        direct, there = [], []
        for _ in range(turns):
            direct.append(seconds_of(lambda request=request: engine.refine(request)))  # type: ignore[misc]
            there.append(seconds_of(lambda request=request: client.refine("correspondence", request)))  # type: ignore[misc]
        differences = [1000 * (one - other) for one, other in zip(there, direct, strict=True)]
        rows.append(
            {
                "generated_side": side,
                "result_side": 4 * side,
                "direct_milliseconds": round(1000 * statistics.median(direct), 1),
                "served_milliseconds": round(1000 * statistics.median(there), 1),
                "overhead_milliseconds": round(statistics.median(differences), 1),
                "sent_megabytes": round(sum(map(len, request_bytes(request, has_viewer=False))) / MEGABYTE, 2),
                "received_megabytes": round(sum(map(len, finished_bytes(Writer(), result))) / MEGABYTE, 2),
            }
        )
    return rows


def throughput(client: ServeClient, replicas: int, seconds: float) -> dict[str, Any]:
    """Requests a minute, where every replica has one at work and one that waits for it."""
    requests = [pair_of(256, seed) for seed in range(2 * replicas)]
    ends_at = time.monotonic() + seconds
    took: list[float] = []

    def ask(request: RefineRequest) -> None:
        while time.monotonic() < ends_at:
            took.append(seconds_of(lambda: client.refine("correspondence", request)))

    with ThreadPoolExecutor(replicas) as pool:
        list(pool.map(lambda request: client.refine("correspondence", request), requests[:replicas]))
    begun = time.monotonic()
    ends_at = begun + seconds
    with ThreadPoolExecutor(len(requests)) as pool:
        list(pool.map(ask, requests))
    elapsed = time.monotonic() - begun
    return {
        "replicas": replicas,
        "cores_a_replica": max(1, machine.cores() // replicas),
        "requests": len(took),
        "seconds": round(elapsed, 1),
        "requests_a_minute": round(MINUTE * len(took) / elapsed, 2),
        "median_seconds": round(statistics.median(took), 2),
    }


def refusals(client: ServeClient, at_once: int) -> dict[str, Any]:
    """What becomes of so many requests that come at once, past the queue of the pages."""
    request = pair_of(64, strength=1.0)
    counted, lock = {"served": 0, "refused": 0, "failed": 0}, threading.Lock()

    def ask(_: int) -> None:
        try:
            client.refine("correspondence", request)
            ending = "served"
        except OverloadedError:
            ending = "refused"
        except EngineError:
            ending = "failed"
        with lock:
            counted[ending] += 1

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(ask, range(at_once)))
    return {"at_once": at_once, **counted}


def memory(client: ServeClient, replicas: list[psutil.Process]) -> list[dict[str, Any]]:
    """The most that a replica holds, at rest and for results of two sizes, in megabytes."""

    def held() -> float:
        return max(float(one.memory_info().rss) for one in replicas) / MEGABYTE

    rows: list[dict[str, Any]] = [{"result_side": None, "megabytes": round(held())}]
    for side in (256, 1024):
        most, over = [held()], threading.Event()

        def watch(most: list[float] = most, over: threading.Event = over) -> None:
            while not over.wait(0.05):
                most.append(held())

        watching = threading.Thread(target=watch)
        watching.start()
        client.refine("correspondence", pair_of(side))
        over.set()
        watching.join()
        rows.append({"result_side": 4 * side, "megabytes": round(max(most))})
    return rows


def measure(seconds: float, turns: int) -> dict[str, Any]:
    """Everything, as it is written to the JSON file."""
    measured: dict[str, Any] = {
        "machine": {"processor": machine.processor(), "cores": machine.cores()},
        "pair": "generated 256, result 1024, reference 1024 pixels a side",
        "throughput": [],
    }
    for replicas in (1, 2):
        with served(replicas) as (client, processes):
            if replicas == 1:
                measured["hop"] = hop(client, turns)
            measured["throughput"].append(throughput(client, replicas, seconds))
            if replicas == 2:
                measured["refusals"] = refusals(client, AT_ONCE)
                measured["memory"] = memory(client, processes)
    return measured


# --- the document ---------------------------------------------------------------------------------------------------


def document(figures: dict[str, Any]) -> str:
    """The part of docs/scaling.md that is written from the figures."""
    cores, processor = figures["machine"]["cores"], figures["machine"]["processor"]
    by_replicas = [
        [row["replicas"], row["cores_a_replica"], f"{row['requests_a_minute']:.1f}", f"{row['median_seconds']:.1f}"]
        for row in figures["throughput"]
    ]
    by_size = [
        [
            f"{row['result_side']} × {row['result_side']}",
            *(f"{row[f'{name}_milliseconds']:.0f} ms" for name in ("direct", "served", "overhead")),
            *(f"{row[f'{name}_megabytes']:.1f} MB" for name in ("sent", "received")),
        ]
        for row in figures["hop"]
    ]
    at_rest, *busy = figures["memory"]
    told = ", ".join(f"{row['megabytes']} MB for {row['result_side']} × {row['result_side']} pixels" for row in busy)
    refused = figures["refusals"]
    measured = (
        "Measured by `python -m benchmarks.serve` ([benchmarks/serve.json](../benchmarks/serve.json)) on "
        f"{cores} cores ({processor}), which also ran the client. Each request has {figures['pair']}. Each replica "
        "has one at work, and one that waits for it."
    )
    breaks = (
        f"A replica holds {at_rest['megabytes']} MB at rest and at most {told}. Of {refused['at_once']} requests that "
        f"came at once past the pages' queue, two replicas served {refused['served']}, refused {refused['refused']} "
        f"with status 503, and failed at {refused['failed']}. So the queue refuses first; for large results memory is "
        "the limit."
    )
    parts = [
        measured,
        table("replicas | cores of each | requests a minute | median seconds", by_replicas),
        "What the hop costs, measured with plain enlargements, whose own time is short:",
        table("result | direct | served | overhead | sent | received", by_size),
        breaks,
        *estimate(figures),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    columns = head.count("|") + 1
    lines = [f"| {head} |", f"|{' --- |' * columns}", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return "\n".join(lines)


def estimate(figures: dict[str, Any]) -> list[str]:
    """What so many requests a minute would take, on paper."""
    best = max(figures["throughput"], key=lambda row: row["requests_a_minute"])
    a_core = best["requests_a_minute"] / figures["machine"]["cores"]
    cores = ceil(TARGET / (a_core * UTILISATION))
    machines = ceil(cores / CORES_A_MACHINE)
    gpus = ceil(TARGET * GPU_SECONDS / MINUTE / UTILISATION)
    gpu_machines = ceil(gpus / GPUS_A_MACHINE)
    gigabits = TARGET / MINUTE * figures["hop"][-1]["received_megabytes"] * 8 / 1000
    cpu_cost, gpu_cost = machines * DOLLARS_A_CPU_MACHINE, gpu_machines * GPUS_A_MACHINE * DOLLARS_A_GPU
    assumed = (
        f"These are estimates. Measured are {a_core:.1f} requests a minute for each core; that more machines bring as "
        "much more is assumed. Nothing was measured on a GPU, since none was at hand: "
        f"{GPU_SECONDS:.0f} seconds a picture are the counted operations of 28 steps, at 0.4 of what an H200 is said "
        f"to do. Prices are assumptions: ${DOLLARS_A_CPU_MACHINE:.2f} an hour for a machine of {CORES_A_MACHINE} "
        f"cores, ${DOLLARS_A_GPU:.2f} for one H100 or H200. Replicas are planned to be busy for {UTILISATION:.0%} of "
        "the time."
    )
    rows = [
        ["correspondence, on CPUs", f"{cores} cores", f"{machines} of {CORES_A_MACHINE} cores", cpu_cost],
        ["diffusion, on GPUs (not measured)", f"{gpus} GPUs", f"{gpu_machines} of {GPUS_A_MACHINE} GPUs", gpu_cost],
    ]
    beside = (
        f"The results of {TARGET:,} requests a minute are {gigabits:.1f} Gbit/s between engines and pages. The pages "
        "write the files of each result. With about a second of one core for each (assumed), all pages together need "
        f"{ceil(TARGET / MINUTE / UTILISATION)} cores."
    )
    return [
        f"### {TARGET:,} requests a minute, on paper",
        assumed,
        table(
            "engine | needed | machines | dollars an hour | dollars for 1,000 pictures",
            [[*row, f"{cost:.0f}", f"{1000 * cost / (TARGET * MINUTE):.2f}"] for *row, cost in rows],
        ),
        beside,
    ]


def between_marks(text: str, content: str) -> str:
    """A document with new content between the marks."""
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{DOCUMENT.name} has no marks to write the tables between.")
    marked = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    return marked.sub(lambda match: f"{match[1]}\n{content}\n{match[2]}", text)


def main() -> None:
    """Measures, and writes figures and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75.0, help="of each measurement of requests a minute")
    parser.add_argument("--turns", type=int, default=TURNS, help="of the measurement of the hop")
    parser.add_argument("--json", type=Path, default=FILE, help="where the figures go")
    parser.add_argument("--tables", action="store_true", help="measure nothing; write the tables from the figures")
    options = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    if not options.tables:
        measured = measure(options.seconds, options.turns)
        Console().print_json(data=measured)
        write_whole(options.json, (json.dumps(measured, indent=1, ensure_ascii=False) + "\n").encode())
    figures = json.loads(options.json.read_bytes())
    if options.json.resolve() != FILE:
        print(document(figures))
        return
    write_whole(DOCUMENT, between_marks(DOCUMENT.read_text(encoding="utf-8"), document(figures)).encode())


if __name__ == "__main__":
    main()
