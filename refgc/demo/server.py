"""What runs beside the page: the health check, the janitor, the notes; and what they need of Gradio's server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from refgc import __version__
from refgc.demo.embed import embed_route
from refgc.demo.health import health_route
from refgc.demo.logs import logs_on_stderr, note
from refgc.demo.made_before import HOUR, results
from refgc.demo.memory import share_arenas
from refgc.demo.service import LINES
from refgc.demo.service_settings import settings
from refgc.demo.storage import SWEEPS_PER_AGE, start_janitor

# Everyone in a line holds one of Gradio's threads; so many are left for clicks and uploads.
OTHER_THREADS = 40


def app_settings() -> dict[str, Any]:
    """What Gradio's FastAPI app takes."""
    return {"routes": [health_route(), embed_route()], "lifespan": beside_the_page}


def deleting() -> tuple[int, int]:
    """How often Gradio deletes files, and from which age on, in seconds.

    Raises:
        InputError: a setting in the environment cannot be used.
    """
    keep_seconds = max(1, round(settings().keep_hours * HOUR))
    return max(1, keep_seconds // SWEEPS_PER_AGE), keep_seconds


def most_threads() -> int:
    """How many of Gradio's threads are needed.

    Raises:
        InputError: a setting in the environment cannot be used.
    """
    return OTHER_THREADS + len(LINES) * (settings().max_waiting + 1)


@asynccontextmanager
async def beside_the_page(_: Starlette) -> AsyncIterator[None]:
    """From the start of the server to its end."""
    share_arenas()
    limits = settings()
    cache = results()
    with logs_on_stderr():
        note("started", version=__version__, **limits.model_dump())
        stop = start_janitor(limits.keep_hours * HOUR, [cache.trim] if cache else [])
        try:
            yield
        finally:
            stop()
            note("ended")
