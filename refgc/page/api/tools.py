"""The endpoints as MCP tools: the switch, and what Gradio's MCP server needs to serve them rightly.

Gradio calls tools by a client of its own, one for everybody. It gives the results one by one only to callers who ask
for progress; others get them all as one text, in which no picture can be seen. The middleware here lets every call of
a tool ask for progress, and says in a header whose call it is.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

import orjson
from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refgc.errors import InputError
from refgc.page.service.payload import SESSION_NAME, Memory, parse, replayed
from refgc.settings import settings

NOT_INSTALLED = "The endpoints cannot be MCP tools without the package mcp; install it: pip install '.[mcp]'."

MCP_PATH = "/gradio_api/mcp"
# Gradio's client sends the headers of a tool's call again when it calls the endpoint.
CALLER_HEADER = "x-refgc-tool-caller"
# Anybody may send the header; only this process knows what has to stand in it.
SECRET = secrets.token_hex(32)


def set_up_tools() -> bool:
    """Whether the environment switches the tools on and they can be had.

    Raises:
        InputError: it does and they cannot, or it says neither yes nor no.
    """
    if not settings().mcp:
        return False
    if find_spec("mcp") is None:
        raise InputError(NOT_INSTALLED)
    return True


class ToolCaller(NamedTuple):
    """Who called a tool.

    Attributes:
        visit: the MCP session, or the address where there is none.
        address: of the MCP client.
    """

    visit: str
    address: str


def tool_caller(headers: Mapping[str, str]) -> ToolCaller | None:
    """Who called the tool that a request comes from; None where it does not come from a tool.

    Args:
        headers: of the request.
    """
    secret, _, caller = headers.get(CALLER_HEADER, "").partition(" ")
    if not hmac.compare_digest(secret.encode(), SECRET.encode()):
        return None
    return ToolCaller(*caller.split(" ", 1))


def tool_middleware(*, tools: bool) -> list[Middleware]:
    """What `launch` takes as its app's middleware, after the guard.

    Args:
        tools: whether the endpoints are tools.
    """
    return [Middleware(ToolCalls)] if tools else []


class ToolCalls:
    """An ASGI middleware before Gradio's MCP server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or MCP_PATH not in scope["path"]:
            await self.app(scope, receive, send)
            return
        token = secrets.token_hex(16)
        body = await run_sync(asking_for_progress, await Memory().read(receive), token)
        headers = MutableHeaders(scope=scope)
        headers["content-length"] = str(len(body))
        headers[CALLER_HEADER] = " ".join([SECRET, *_caller_of(scope)])
        await self.app({**scope, "headers": headers.raw}, replayed(body, receive), _without(token, send))


def asking_for_progress(body: bytes, token: str) -> bytes:
    """The same call of a tool with a progress token; whatever else it is, it stays as it is.

    Args:
        body: JSON, already looked through.
        token: taken where the caller asks for no progress.
    """
    content = parse(body)
    if not isinstance(content, dict) or content.get("method") != "tools/call":
        return body
    parameters = content.get("params")
    meta = parameters.get("_meta") if isinstance(parameters, dict) else None
    if not isinstance(parameters, dict) or (isinstance(meta, dict) and meta.get("progressToken") is not None):
        return body
    parameters["_meta"] = {**(meta if isinstance(meta, dict) else {}), "progressToken": token}
    return orjson.dumps(content)


def _without(token: str, send: Send) -> Send:
    """Keeps the progress back that the caller has not asked for: messages with a token of ours."""
    told = f'"progressToken":"{token}"'.encode()

    async def send_without(message: Message) -> None:
        if message["type"] == "http.response.body" and told in message.get("body", b""):
            return
        await send(message)

    return send_without


def _caller_of(scope: Scope) -> ToolCaller:
    client: Any = scope.get("client")
    address = client[0] if client else ""
    session = Headers(scope=scope).get("mcp-session-id", "")
    return ToolCaller(f"mcp:{session if SESSION_NAME.fullmatch(session) else address}", address)
