"""What runs beside the page: the health check, the janitor, the notes; and what they need of Gradio's server."""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync
from gradio.route_utils import BUILD_PATH_LIB
from gradio.utils import get_upload_folder
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from refgc import __version__
from refgc.imaging.files import MEGABYTE
from refgc.page.service.cache import HOUR
from refgc.page.service.logs import logs_on_stderr, note
from refgc.page.service.runs import Service
from refgc.page.service.storage import SWEEPS_PER_AGE, free_bytes, start_janitor
from refgc.settings import Settings

# Everyone in a line holds one of Gradio's threads; so many are left for clicks and uploads.
OTHER_THREADS = 40


def app_settings(service: Service) -> dict[str, Any]:
    """What Gradio's FastAPI app takes."""
    return {"routes": [health_route(service), embed_route()], "lifespan": beside_the_page(service)}


def deleting(service: Service) -> tuple[int, int]:
    """How often Gradio deletes files, and from which age on, in seconds."""
    keep_seconds = max(1, round(service.settings.keep_hours * HOUR))
    return max(1, keep_seconds // SWEEPS_PER_AGE), keep_seconds


def most_threads(service: Service) -> int:
    """How many of Gradio's threads are needed."""
    return OTHER_THREADS + len(service.queues) * (service.settings.max_waiting + 1)


def beside_the_page(service: Service) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """What runs from the start of the server to its end."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        share_arenas()
        cache = service.cache
        with logs_on_stderr():
            note("started", version=__version__, **service.settings.model_dump())
            stop = start_janitor(service.settings.keep_hours * HOUR, [cache.trim] if cache else [])
            try:
                yield
            finally:
                stop()
                note("ended")

    return lifespan


# ==== health
HEALTH_PATH = "/healthz"
# A disk that does not answer, on a network for instance, must not hold up the answer.
PATIENCE_SECONDS = 2.0
# A run is given up at its time-out and then ends its last step; one that goes on for so long never will.
STUCK_TIMES = 2.0


def health_route(service: Service) -> Route:
    """`GET /healthz`: 200 with what is going on, or 503 with the reason why no picture can be refined now."""
    # Of their own, so that the answer does not wait behind visitors for one of Gradio's threads.
    threads = anyio.CapacityLimiter(2)

    async def healthz(_: Request) -> JSONResponse:
        free: int | None = None
        reason = "the folder for uploads does not answer"
        with anyio.move_on_after(PATIENCE_SECONDS):
            free, reason = await run_sync(_look_at_disk, service.settings, limiter=threads, abandon_on_cancel=True)
        reason = reason or _stuck(service)
        state = {
            "status": "unavailable" if reason else "ok",
            **({"reason": reason} if reason else {}),
            "version": __version__,
            "engine": service.engine_for("auto"),
            "running": sum(line.running_seconds is not None for line in service.queues.values()),
            "waiting": sum(line.waiting for line in service.queues.values()),
            "free_bytes": free,
        }
        return JSONResponse(state, 503 if reason else 200, headers={"Cache-Control": "no-store"})

    return Route(HEALTH_PATH, healthz, methods=["GET"])


def _look_at_disk(limits: Settings) -> tuple[int | None, str]:
    """The free bytes, and what is wrong with the folder of uploads; empty if nothing is."""
    folder = Path(get_upload_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = free_bytes()
        if free < limits.spare_megabytes * MEGABYTE:
            return free, "the disk with the folder for uploads is full"
        probe = folder / f".probe-{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"probe")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return None, f"the folder for uploads cannot be written to ({os.strerror(error.errno or 0)})"
    return free, ""


def _stuck(service: Service) -> str:
    for name, line in service.queues.items():
        seconds = line.running_seconds
        if seconds is not None and seconds > STUCK_TIMES * service.settings.run_seconds:
            return f"a run of the engine {name} does not end: {seconds:.0f} seconds"
    return ""


# ==== embed
EMBED_PATH = "/gradio.js"
# What it loads is named after its content, so that this file alone tells of another version.
HEADERS = {"Cache-Control": "no-cache"}


def embed_route() -> Route:
    """`GET /gradio.js`: of the same version as the page, and from no other host."""
    file = Path(BUILD_PATH_LIB).parent / "gradio.js"

    def script(_: Request) -> FileResponse:
        return FileResponse(file, media_type="text/javascript", headers=HEADERS)

    return Route(EMBED_PATH, script, methods=["GET"])


# ==== compression
SMALLEST_BYTES = 2_000
# More takes longer than it saves on the wire.
LEVEL = 6


class CompressedPage:
    """An ASGI middleware; pictures, events and what Gradio compresses itself pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._compressing = GZipMiddleware(app, minimum_size=SMALLEST_BYTES, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on, one request."""
        is_page = scope["type"] == "http" and (scope["path"].endswith("/") or scope["path"].endswith("/config"))
        await (self._compressing if is_page else self.app)(scope, receive, send)


# ==== memory
# Of glibc's malloc.h.
M_ARENA_MAX = -8
MOST_ARENAS = 2


def share_arenas() -> None:
    """Lets all threads take memory from a few pools, where the C library is glibc.

    Else each of the many threads that serve visitors gets a pool of its own, and what one has given back is of no use
    to the others: memory grows with the requests (`python -m benchmarks.load` shows it). `MALLOC_ARENA_MAX` in the
    environment goes first.
    """
    if "MALLOC_ARENA_MAX" in os.environ or os.name != "posix":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, MOST_ARENAS)
