"""What stands before Gradio: requests that the page does not need, or for files that are not the visitor's, end here.

Gradio itself reads only files of its upload folder for a visitor. It also fetches, though, what an event names by its
address, and whatever `/gradio_api/file=` is asked for; and it has routes for logins, recordings, shared links and
editing that no part of this page uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gradio.utils import get_upload_folder, is_static_file
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refgc.imaging.files import MEGABYTE

UPLOAD_BYTES = 100 * MEGABYTE
# Around the file of an upload stand its name and the form's separators.
FORM_BYTES = MEGABYTE
EVENT_BYTES = 4 * MEGABYTE
# Here pictures may come within the text, as data addresses.
TOOL_BYTES = 64 * MEGABYTE

API = "/gradio_api/"
OPEN_API = re.compile(
    r"(?:api|call|heartbeat|queue|run)/.+|(?:app_id|cancel|info|login_check|openapi\.json|reset|startup-events)/?"
    r"|theme\.css|upload(?:_progress)?|file=.+|mcp(?:/.*)?"
)
CLOSED_PAGES = re.compile(r"/(?:login|logout|monitoring|svelte)(?:/.*)?")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|[/\\]{2}", re.IGNORECASE)

NOTHING_HERE = "There is nothing here."
ADDRESS_NOT_FETCHED = "Addresses are not fetched; give the path of a file on this server."
TOO_LARGE = "This is more than {} MB, which is the limit; make the picture smaller and send it again."
NOT_READABLE = "This request cannot be read; its body has to be JSON."

# No frame options and no frame-ancestors: the page is made to be embedded.
EVERYWHERE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
# Gradio's pages need inline scripts; what they never need is shut.
OF_PAGES = {"Content-Security-Policy": "object-src 'none'; base-uri 'self'; form-action 'self'"}
# Opened for itself, an uploaded file runs nothing and loads nothing, whatever it says it is.
OF_FILES = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


def guards() -> list[Middleware]:
    """What `launch` takes as its app's middleware."""
    return [Middleware(Guard)]


class Guard:
    """An ASGI middleware before the whole server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on, one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        before, is_api, name = scope["path"].partition(API)
        is_file = bool(is_api) and name.startswith("file=")
        send = _with_headers(send, EVERYWHERE | (OF_FILES if is_file else OF_PAGES))
        if (is_api and not OPEN_API.fullmatch(name)) or (not is_api and CLOSED_PAGES.fullmatch(before)):
            await _refuse(404, NOTHING_HERE)(scope, receive, send)
        elif is_file and ADDRESS.match(name.removeprefix("file=")):
            await _refuse(403, ADDRESS_NOT_FETCHED)(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
        else:
            await self._take_body(name, scope, receive, send)

    async def _take_body(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        limit = _limit(name)
        stated = Headers(scope=scope).get("content-length", "0")
        try:
            if stated.isdecimal() and int(stated) > limit:
                raise TooLargeError
            if name == "upload":
                await self.app(scope, limited(receive, limit), send)
                return
            body = await read_whole(receive, limit)
            checked = body if name.startswith("mcp") else local_files_only(body)
        except TooLargeError:
            megabytes = (UPLOAD_BYTES if name == "upload" else limit) // MEGABYTE
            await _refuse(413, TOO_LARGE.format(megabytes))(scope, receive, send)
        except NotGivenError as error:
            # In this form Gradio's clients show the sentence.
            detail = [{"__type__": "validate", "is_valid": False, "parameter_name": "picture", "message": str(error)}]
            await _refuse(422, detail)(scope, receive, send)
        except (ValueError, RecursionError):
            await _refuse(400, NOT_READABLE)(scope, receive, send)
        else:
            length = [(b"content-length", str(len(checked)).encode())]
            kept = [header for header in scope["headers"] if header[0] not in (b"content-length", b"transfer-encoding")]
            await self.app({**scope, "headers": kept + length}, replayed(checked, receive), send)


def _limit(name: str) -> int:
    if name == "upload":
        return UPLOAD_BYTES + FORM_BYTES
    return TOOL_BYTES if name.startswith("mcp") else EVENT_BYTES


def _refuse(status: int, detail: Any) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = MutableHeaders(scope=message)
            for name, value in headers.items():
                given.setdefault(name, value)
        await send(message)

    return send_with_headers


# ==== request_body
class TooLargeError(Exception):
    """A body is longer than it may be."""


def limited(receive: Receive, limit: int) -> Receive:
    """The same body as it comes in; one of more than `limit` bytes raises `TooLargeError` on the way."""
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLargeError
        return message

    return receive_limited


async def read_whole(receive: Receive, limit: int) -> bytes:
    """All of the body.

    Raises:
        TooLargeError: it has more than `limit` bytes.
        ClientDisconnect: the client has gone.
    """
    parts = []
    receive_limited = limited(receive, limit)
    while True:
        message = await receive_limited()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Gives `body` first, and then what else comes in, which is the client's leaving."""
    given = False

    async def receive_replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_replayed


# ==== given_files
FILE_ROUTE = "/gradio_api/file="
HOSTED = re.compile(r"https?://", re.IGNORECASE)

NOT_FETCHED = "A picture is given by an address, and this server fetches none; download it and upload the file."
NOT_UPLOADED = "A picture was not uploaded here; upload the file and name what the upload answers."


class NotGivenError(Exception):
    """A request names a file that is not the caller's to name; `str(error)` says what to do."""


def local_files_only(body: bytes) -> bytes:
    """The same JSON with every file named by its path here.

    Files that this server has shown may be named by their address as well, whatever host it is reached by; of an
    address only the path counts, and nothing is ever fetched.

    Args:
        body: of a request; an empty one is returned as it is.

    Raises:
        NotGivenError: a file is neither in the upload folder nor one of the page's own.
        ValueError: the body is no JSON.
        RecursionError: it is nested too deeply.
    """
    if not body:
        return body
    content = json.loads(body)
    for file in _files(content):
        file["path"] = str(local_file(file["path"]))
    return json.dumps(content).encode()


def local_file(named: str) -> Path:
    """Where the file is on this machine.

    Args:
        named: a path, or the address under which this server shows it.

    Raises:
        NotGivenError: it is neither in the upload folder nor one of the page's own, symbolic links followed.
    """
    if HOSTED.match(named):
        _, route, shown = unquote(urlsplit(named).path).partition(FILE_ROUTE)
        if not route:
            raise NotGivenError(NOT_FETCHED)
        named = shown
    try:
        path = Path(named).resolve()
        own = path.is_relative_to(Path(get_upload_folder()).resolve()) or is_static_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise NotGivenError(NOT_UPLOADED) from error
    if not own:
        raise NotGivenError(NOT_UPLOADED)
    return path


def _files(content: Any) -> Iterator[dict[str, Any]]:
    """Everything that a component may take for a file."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("path"), str):
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
