"""An engine's replica and the common state, served over HTTP by this process in the place of Ray Serve's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.types import Receive, Scope, Send


@contextmanager
def hosted(**deployments: Any) -> Iterator[str]:
    """Serves each deployment under its name; yields the address.

    Args:
        deployments: called with a request of Starlette's, as Ray Serve calls them.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].strip("/").partition("/")[0]
        response = await deployments[name](Request(scope, receive))
        await response(scope, receive, send)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
