"""Whether this server can serve, for a load balancer: asked at any time, answered at once."""

from __future__ import annotations

import os
import secrets
from functools import cache
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from gradio.utils import get_upload_folder
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from refgc import __version__
from refgc.demo.made_before import MEGABYTE
from refgc.demo.refining import engine_of
from refgc.demo.service import LINES
from refgc.demo.service_settings import ServiceSettings, settings
from refgc.demo.storage import free_bytes

PATH = "/healthz"
# A disk that does not answer, on a network for instance, must not hold up the answer.
PATIENCE_SECONDS = 2.0
# A run is given up at its time-out and then ends its last step; one that goes on for so long never will.
STUCK_TIMES = 2.0


def health_route() -> Route:
    """`GET /healthz`: 200 with what is going on, or 503 with the reason why no picture can be refined now."""
    # Of their own, so that the answer does not wait behind visitors for one of Gradio's threads.
    threads = anyio.CapacityLimiter(2)

    async def healthz(_: Request) -> JSONResponse:
        limits = settings()
        free: int | None = None
        reason = "the folder for uploads does not answer"
        with anyio.move_on_after(PATIENCE_SECONDS):
            free, reason = await run_sync(_look_at_disk, limits, limiter=threads, abandon_on_cancel=True)
        reason = reason or _stuck(limits)
        state = {
            "status": "unavailable" if reason else "ok",
            **({"reason": reason} if reason else {}),
            "version": __version__,
            "engine": _engine(),
            "running": sum(line.running_seconds is not None for line in LINES.values()),
            "waiting": sum(line.waiting for line in LINES.values()),
            "free_bytes": free,
        }
        return JSONResponse(state, 503 if reason else 200, headers={"Cache-Control": "no-store"})

    return Route(PATH, healthz, methods=["GET"])


@cache
def _engine() -> str:
    return engine_of("auto")


def _look_at_disk(limits: ServiceSettings) -> tuple[int | None, str]:
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


def _stuck(limits: ServiceSettings) -> str:
    for name, line in LINES.items():
        seconds = line.running_seconds
        if seconds is not None and seconds > STUCK_TIMES * limits.run_seconds:
            return f"a run of the engine {name} does not end: {seconds:.0f} seconds"
    return ""
