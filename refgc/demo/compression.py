"""The page itself, compressed on its way: Gradio compresses its scripts, but not the page with all its components."""

from __future__ import annotations

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

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
