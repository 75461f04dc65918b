"""Stands in for the service of Hugging Face that lends GPUs, which is nowhere else; and a script of its visitors.

As a script: the real `spaces` package on this machine, which has no GPU to lend. Torch is kept away, because `spaces`
would at once try the GPU that it was lent; everything else is as on a Space: scheduling, fork, queues, releases.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlparse


@contextmanager
def lending(*, none_left: bool = False) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """Address of the service, and what it was asked for: the path with its parameters."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            url = urlparse(self.path)
            asked.append((url.path, {name: values[0] for name, values in parse_qs(url.query).items()}))
            lent = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "MIG-0", "allowToken": "token"}
            refused = none_left and url.path == "/schedule"
            body = json.dumps(lent if url.path == "/schedule" else {}).encode()
            self.send_response(503 if refused else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def visit() -> dict[str, Any]:
    """Everything that a visitor may do, on ZeroGPU; returns what came of it."""
    from refgc.correspondence.engine import CorrespondenceEngine
    from refgc.engine import Progress, RefineResult, Viewer
    from refgc.errors import InputError
    from refgc.imaging.image import Image
    from refgc.page.service.gpu import gpu_seconds, on_gpu
    from refgc.request import RefineRequest
    from tests.support.synthetic import make_synthetic_pair

    class UnportableError(Exception):
        def __init__(self, first: str, second: str) -> None:
            super().__init__(f"{first} {second}")

    def refine(progress: Progress, viewer: Viewer | None, request: RefineRequest, ends: str) -> RefineResult:
        if ends == "in a sentence":
            raise InputError("Choose another picture.")
        if ends == "unforeseen":
            raise UnportableError("not", "foreseen")
        progress(f"in process {os.getpid()}", 0.0)
        for _ in range(200 if ends == "never" else 0):
            progress("going on", 0.1)
            time.sleep(0.05)
        return CorrespondenceEngine().refine(request, progress, viewer)

    lent = on_gpu(refine, duration=lambda request, ends: gpu_seconds(request))
    pair = make_synthetic_pair(reference_side=320, generated_side=96)
    request = RefineRequest(Image(pair.reference), Image(pair.generated), scale=2)
    stages: list[str] = []
    seen: list[str] = []
    result = lent(lambda stage, _: stages.append(stage), lambda stage, _: seen.append(stage), request, "well")
    direct = CorrespondenceEngine().refine(request)

    def stop(stage: str, _: float) -> None:
        if stage == "going on":
            raise KeyError("left")

    def outcome(progress: Any, ends: str) -> str:
        try:
            lent(progress, None, request, ends)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    started = time.monotonic()
    left = outcome(stop, "never")
    return {
        "identity": lent is refine,
        "stages": stages,
        "seen": seen,
        "same": bool((result.image.pixels == direct.image.pixels).all()),
        "own_process": f"in process {os.getpid()}" not in stages,
        "in_a_sentence": outcome(lambda *_: None, "in a sentence"),
        "unforeseen": outcome(lambda *_: None, "unforeseen"),
        "left": left,
        "left_after": time.monotonic() - started,
        "again": outcome(lambda *_: None, "well"),
        "seconds": gpu_seconds(request),
    }


def visit_without_a_gpu() -> dict[str, Any]:
    """What a visitor is told when there is none to lend."""
    from refgc.page.service.gpu import on_gpu

    lent = on_gpu(lambda progress, viewer: None, duration=lambda: 10)
    try:
        lent(lambda *_: None, None)
    except Exception as error:
        return {"told": f"{type(error).__name__}: {error}"}
    return {}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    sys.modules["torch"] = None  # type: ignore[assignment]
    print(json.dumps({"visit": visit, "visit_without_a_gpu": visit_without_a_gpu}[sys.argv[1]]()))
