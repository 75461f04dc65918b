"""What runs beside the page in its server: health check, janitor and log; and the settings of Gradio's server."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
from anyio.to_thread import run_sync
from gradio.route_utils import BUILD_PATH_LIB
from gradio.utils import get_upload_folder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from refgc import __version__
from refgc.imaging.files import MEGABYTE
from refgc.page.service.limits import HOUR
from refgc.page.service.logs import logger, logs_to
from refgc.page.service.runs import Service
from refgc.page.service.storage import SWEEPS_PER_AGE, free_bytes, start_janitor
from refgc.settings import Settings

# Every run that waits holds one of Gradio's threads; so many are left for clicks and uploads. Chosen by hand.
OTHER_THREADS = 40
# A session that comes back after so many others loses its history, and nothing else.
MAX_SESSIONS = 128
# What Gradio copies for each session is dropped so often.
COPIES_SECONDS = 1.0
# Messages that a session has not read for so long are dropped. Chosen by hand: a client reads as they come.
UNREAD_SECONDS = 600.0
# Smaller answers are not worth compressing, and a higher level takes longer than it saves on the wire.
MIN_COMPRESSED_BYTES = 2_000
COMPRESSION_LEVEL = 6

HEALTH_PATH = "/healthz"
# A disk that does not answer, on a network for instance, must not hold up the answer.
DISK_SECONDS = 2.0
# A run is cancelled at its time limit and then ends its last step; one that takes so many times the limit never ends.
STUCK_FACTOR = 2.0

EMBED_PATH = "/gradio.js"
FIGURES_PATH, TOOLS_PATH = "/monitoring/summary", "/gradio_api/mcp/schema"
# What the script loads is named after its content, so that this file alone tells of another version.
EMBED_HEADERS = {"Cache-Control": "no-cache"}

# Of glibc's malloc.h.
M_ARENA_MAX = -8
MAX_ARENAS = 2


def app_settings(service: Service, chores: Sequence[Callable[[], object]] = ()) -> dict[str, Any]:
    """The routes and the lifespan for Gradio's FastAPI app; arguments as for `lifespan_of`."""
    return {"routes": [health_route(service), embed_route()], "lifespan": lifespan_of(service, chores)}


def server_middleware(service: Service) -> list[Middleware]:
    """Compression, and where the setting `trusted_proxies` names some, the client's address as they give it."""
    compression = Middleware(GZipMiddleware, minimum_size=MIN_COMPRESSED_BYTES, compresslevel=COMPRESSION_LEVEL)
    trusted = service.settings.trusted_proxies
    return [*([Middleware(ProxyHeadersMiddleware, trusted_hosts=trusted)] if trusted else []), compression]


def deletion_schedule(service: Service) -> tuple[int, int]:
    """How often Gradio deletes files, and from which age on, in seconds."""
    keep_seconds = max(1, round(service.settings.keep_hours * HOUR))
    return max(1, keep_seconds // SWEEPS_PER_AGE), keep_seconds


def max_threads(service: Service) -> int:
    """The number of threads that Gradio needs."""
    return OTHER_THREADS + sum(service.settings.max_waiting + one.at_once for one in service.every_queue().values())


def lifespan_of(
    service: Service, chores: Sequence[Callable[[], object]] = ()
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """What runs from the start of the server to its end.

    Args:
        service: whose server it is.
        chores: what else is done where old files are deleted.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        share_arenas()
        cache = service.cache
        with logs_to():
            logger.info("started", version=__version__, **_limits_of(service.settings))
            stop = start_janitor(service.settings.keep_hours * HOUR, [*([cache.trim] if cache else []), *chores])
            dropping = [
                asyncio.create_task(drop_unread_messages(app.get_blocks()._queue)),
                asyncio.create_task(drop_copied_settings(app.state_holder)),
            ]
            try:
                yield
            finally:
                for task in dropping:
                    task.cancel()
                stop()
                service.decoder.close()
                logger.info("ended")

    return lifespan


async def drop_unread_messages(queue: Any, *, unread_seconds: float = UNREAD_SECONDS) -> None:
    """Forgets sessions that have no event under way and have not read their messages for some time.

    Gradio keeps the messages of the last 2,000 sessions until somebody reads them, and an entry for every session for
    ever. It has no public way to forget them: this uses three tables of its `Queue`, as they are in version 6.31.

    Args:
        queue: Gradio's.
        unread_seconds: how long a session's messages stay after its last event has ended; looked after ten times in it.
    """
    idle_since: dict[str, float] = {}
    while True:
        await asyncio.sleep(unread_seconds / 10)
        now = monotonic()
        events = queue.pending_event_ids_session
        idle = [
            session
            for session in {*queue.pending_messages_per_session, *events}
            if not any(event in queue.event_ids_to_events for event in events.get(session, ()))
        ]
        idle_since = {session: idle_since.get(session, now) for session in idle}
        for session, since in idle_since.items():
            if now - since >= unread_seconds:
                queue.pending_messages_per_session.pop(session, None)
                events.pop(session, None)


async def drop_copied_settings(holder: Any, *, seconds: float = COPIES_SECONDS) -> None:
    """Forgets the settings of the page's components that Gradio copies for each session, about 260 kB.

    They only serve links that restore a page's state, which this page does not have. What a session's events need is
    kept elsewhere: the components with their updates, and the values of its states. Gradio has no setting for this.
    Emptied is a table of its `SessionState`, as it is in version 6.31; Gradio makes anew what it misses there.

    Args:
        holder: Gradio's `StateHolder`.
        seconds: how often it looks after them.
    """
    while True:
        await asyncio.sleep(seconds)
        # New sessions may come in from other threads meanwhile.
        for session in list(holder.session_data.values()):
            session.config_values.clear()


def _limits_of(settings: Settings) -> dict[str, object]:
    """The settings that are numbers; a text may name a folder, a host or an address."""
    return {name: value for name, value in settings.model_dump().items() if isinstance(value, int | float)}


def health_route(
    service: Service, *, free_bytes: Callable[[], int] = free_bytes, disk_seconds: float = DISK_SECONDS
) -> Route:
    """`GET /healthz`: 200 with the present load, or 503 with the reason why no picture can be refined now.

    Args:
        service: whose load it is.
        free_bytes: the free room on the disk of uploads and results.
        disk_seconds: longest wait for the disk.
    """
    # Threads of its own, so that the answer does not wait behind visitors for one of Gradio's.
    threads = anyio.CapacityLimiter(2)

    async def healthz(_: Request) -> JSONResponse:
        free: int | None = None
        reason = "the folder for uploads does not answer"
        with anyio.move_on_after(disk_seconds):
            free, reason = await run_sync(
                _state_of_disk, service.settings, free_bytes, limiter=threads, abandon_on_cancel=True
            )
        reason = reason or _stuck(service)
        state = {
            "status": "unavailable" if reason else "ok",
            **({"reason": reason} if reason else {}),
            "version": __version__,
            "engine": service.engine_for("auto"),
            "running": sum(queue.running_seconds is not None for queue in service.every_queue().values()),
            "waiting": sum(queue.waiting for queue in service.every_queue().values()),
            "free_bytes": free,
        }
        return JSONResponse(state, 503 if reason else 200, headers={"Cache-Control": "no-store"})

    return Route(HEALTH_PATH, healthz, methods=["GET"])


def _state_of_disk(limits: Settings, free_bytes: Callable[[], int]) -> tuple[int | None, str]:
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
    for name, queue in service.every_queue().items():
        seconds = queue.running_seconds
        if seconds is not None and seconds > STUCK_FACTOR * service.settings.run_seconds:
            return f"a run of the engine {name} does not end: {seconds:.0f} seconds"
    return ""


def embed_route() -> Route:
    """`GET /gradio.js`: of the same version as the page, and from no other host."""
    file = Path(BUILD_PATH_LIB).parent / "gradio.js"

    def script(_: Request) -> FileResponse:
        return FileResponse(file, media_type="text/javascript", headers=EMBED_HEADERS)

    return Route(EMBED_PATH, script, methods=["GET"])


def documentation_routes(*, tools: bool) -> list[Route]:
    """What Gradio's panel on the API asks for and this page does not have.

    Without them each panel that is opened leaves two errors in the browser's log.

    Args:
        tools: whether the endpoints are MCP tools, so that Gradio itself answers for them.
    """

    def no_figures(_: Request) -> JSONResponse:
        return JSONResponse({"functions": {}})

    def no_tools(_: Request) -> Response:
        # The panel takes any status under 300 for a list of tools, and a browser logs those over 399.
        return Response(status_code=300)

    figures = Route(FIGURES_PATH, no_figures, methods=["GET"])
    return [figures] if tools else [figures, Route(TOOLS_PATH, no_tools, methods=["GET"])]


def share_arenas() -> None:
    """Lets all threads take memory from a few pools, where the C library is glibc.

    Otherwise each of the many threads that serve visitors gets a pool of its own, and what one has freed is of no use
    to the others: memory grows with the requests (`python -m benchmarks.load` shows it). `MALLOC_ARENA_MAX` in the
    environment takes precedence.
    """
    if "MALLOC_ARENA_MAX" in os.environ or os.name != "posix":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, MAX_ARENAS)
