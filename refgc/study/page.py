"""The page and its server: one HTML file, a style sheet and a script, without cookies and without a log of visitors."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from html import escape
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from refgc.errors import InputError
from refgc.study.definition import Study
from refgc.study.routes import PREFIX, StudyRoutes, told_problem
from refgc.study.store import AnswerStore
from refgc.webui.endpoints import NEVER, SCRIPT, Gate, hosts_for

ASSETS = Path(__file__).resolve().parent / "assets"
FIRST_PORT, TRIED_PORTS = 7860, 100
# Nothing comes from another host or goes to one, and no other page may show this one.
SECURITY: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
STATIC = {
    "requests.js": (SCRIPT, "text/javascript"),
    "study.js": (ASSETS / "study.js", "text/javascript"),
    "study.css": (ASSETS / "study.css", "text/css"),
}


def build_app(folder: Path, study: Study, store: AnswerStore, host: str) -> Starlette:
    """The page as an ASGI app.

    Args:
        folder: of the study.
        study: what is asked.
        store: where answers go.
        host: the address at which it listens; see `refgc.webui.endpoints.hosts_for`.
    """
    page = markup(study)
    contents = {name: (path.read_bytes(), kind) for name, (path, kind) in STATIC.items()}

    def index(_: Request) -> Response:
        return HTMLResponse(page, headers={**SECURITY, **NEVER})

    def static(request: Request) -> Response:
        found = contents.get(request.path_params["name"])
        if found is None:
            return told_problem(request, LookupError())
        # Asked for each time, which is little, so that nobody has the script of another version.
        return Response(found[0], media_type=found[1], headers={**SECURITY, **NEVER})

    return Starlette(
        routes=[
            Route("/", index),
            Route(f"{PREFIX}assets/{{name}}", static),
            *StudyRoutes(folder, study, store).routes(),
        ],
        middleware=[Middleware(Gate, prefix=PREFIX, hosts=hosts_for(host))],
        exception_handlers={404: told_problem, 405: told_problem},
    )


def listen(host: str, port: int | None) -> socket.socket:
    """A socket at which the page is reached.

    Args:
        host: an address of this machine.
        port: None takes the first free one from `FIRST_PORT` on.

    Raises:
        InputError: none can be had.
    """
    tried = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + TRIED_PORTS)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in tried:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
            # From now on whoever comes waits until the server is up.
            listening.listen()
        except OSError:
            listening.close()
            continue
        return listening
    place = "All ports that were tried" if port is None else f"Port {port}"
    raise InputError(f"{place} of {host} cannot be had; give another --port or --host.")


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serves until the process is told to end. Addresses of visitors are not written down."""
    config = uvicorn.Config(app, access_log=False, log_level="error", server_header=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])


def markup(study: Study) -> str:
    """The HTML of the page."""
    told = {
        "study": study.digest[:16],
        "choices": len(study.methods),
        "questions": [{"name": question.name, "text": question.text} for question in study.questions],
    }
    paragraphs = [part.strip() for part in study.consent.split("\n\n") if part.strip()]
    values = {
        "told": escape(json.dumps(told)),
        "choices": str(len(study.methods)),
        "items": str(study.items_per_rater + len(study.checks) + (study.items_per_rater > 1)),
        "title": escape(study.title),
        "consent": "".join(f"<p>{escape(part)}</p>" for part in paragraphs),
    }
    template = (ASSETS / "study.html").read_text(encoding="utf-8")
    # In one pass, so that a text of the study that looks like a placeholder stays as it is.
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], template)
