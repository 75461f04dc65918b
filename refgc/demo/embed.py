"""The script of the element `<gradio-app>`, by which another site shows this page as a part of its own."""

from __future__ import annotations

from pathlib import Path

from gradio.route_utils import BUILD_PATH_LIB
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

PATH = "/gradio.js"
# What it loads is named after its content, so that this file alone tells of another version.
HEADERS = {"Cache-Control": "no-cache"}


def embed_route() -> Route:
    """`GET /gradio.js`: of the same version as the page, and from no other host."""
    file = Path(BUILD_PATH_LIB).parent / "gradio.js"

    def script(_: Request) -> FileResponse:
        return FileResponse(file, media_type="text/javascript", headers=HEADERS)

    return Route(PATH, script, methods=["GET"])
