"""Endpoints of the pages that people write with: what they take and refuse, and what another site cannot send."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from refgc.errors import InputError, first_fault, sentence_about

# By which such a page asks its own server.
SCRIPT = Path(__file__).resolve().parent / "assets" / "requests.js"
# Names of this machine, as its browser has them.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Bytes of a request; what a person says has some hundred.
LARGEST_BODY = 64_000
NEVER = {"Cache-Control": "no-store"}


class Asked(BaseModel):
    """Base of what a page sends."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


AnyAsked = TypeVar("AnyAsked", bound=Asked)


def hosts_for(address: str) -> frozenset[str]:
    """Names that a page is reached under, for `Gate`, by the address at which it listens.

    At an address of this machine alone no other name is answered, so that no site can reach the page by a name of its
    own (DNS rebinding). Empty for all names.
    """
    return LOOPBACK if address in LOOPBACK | {"::1"} else frozenset()


class Gate:
    """An ASGI middleware that lets in what the page itself sends, and nothing that another site makes a browser send.

    Only the page's own endpoints take what is sent; whatever else the app has may only be read.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, hosts: frozenset[str]) -> None:
        """A gate before an app.

        Args:
            app: what it stands before.
            prefix: with which the paths of the page's endpoints begin.
            hosts: names under which the page may be asked for, without ports; empty for all.
        """
        self.app, self._prefix, self._hosts = app, prefix, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it by one sentence."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, ours = Headers(scope=scope), scope["path"].startswith(self._prefix)
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        if self._hosts and host.lower() not in self._hosts:
            return problem("This page is not reached under that name.", 400)
        if ours and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return problem("This is for the page itself alone.", 403)
        if scope["method"] in ("GET", "HEAD"):
            return None
        if not ours:
            return problem("There is nothing here.", 404)
        # Another site cannot send this type without asking first.
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return problem("Send JSON.", 415)
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return problem("That is too much at once.", 413)
        return None


def posted(kind: type[AnyAsked], answer: Callable[[AnyAsked], dict[str, Any]]) -> Callable[[Request], Any]:
    """An endpoint that takes JSON and works in a thread of its own."""

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        return await anyio.to_thread.run_sync(
            _guarded, lambda: JSONResponse(answer(kind.model_validate_json(body)), headers=NEVER)
        )

    return endpoint


def answered(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """An endpoint that Starlette runs in a thread, since it is no coroutine."""
    return lambda request: _guarded(lambda: answer(request))


def _guarded(answer: Callable[[], Response]) -> Response:
    """An answer, or the sentence on what went wrong."""
    try:
        return answer()
    except ValidationError as error:
        field, fault = first_fault(error)
        return problem(f"{field or 'what was sent'}: {fault}", 422)
    except InputError as error:
        return problem(sentence_about(error), 422)
    except Exception as error:
        return problem(sentence_about(error), 500)


def problem(sentence: str, status: int) -> JSONResponse:
    """An answer that says in one sentence what went wrong."""
    return JSONResponse({"error": sentence}, status, headers=NEVER)
