"""The ASGI middleware before Gradio: only the routes on the allow-list, and limits on what a request may be and take.

Gradio fetches addresses that an event names, keeps what events send it, waits for slow bodies for ever, and answers
odd requests with a traceback. Whatever the page, the endpoints and their clients do not need therefore ends here, with
one sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refgc.imaging.files import MEGABYTE
from refgc.page.service.limits import network_of
from refgc.page.service.logs import describe, logger
from refgc.page.service.payload import (
    EVENT_BYTES,
    FORM_BYTES,
    NOT_AN_UPLOAD,
    TOO_LARGE,
    TOO_MUCH_JSON,
    TOOL_BYTES,
    UPLOAD_BYTES,
    Memory,
    NotGivenError,
    Pace,
    RefusedError,
    UploadForm,
    check_event,
    check_tool_call,
    local_file,
    replayed,
)
from refgc.page.service.routes import Route, check_hosts, find_route, read_hosts, read_range, routes
from refgc.page.service.server import HEALTH_PATH
from refgc.page.service.storage import NoRoomError, check_room
from refgc.settings import Settings

ADDRESS_NOT_FETCHED = "Addresses are not fetched; give the path of a file on this server."
NO_SUCH_FILE = "There is no such file here; uploads and results are deleted after some hours."
NO_SUCH_EVENT = "There is no event or session of this name; results are given once, and only for some time."
TOO_LONG_ADDRESS = "This address is too long."
TOO_MANY_AT_ONCE = "Too many requests are coming in from your network at once; wait until some have ended."
NOT_FITTING = "This request does not fit the page or its endpoints; reload the page, or read /gradio_api/info."
OUR_FAULT = "Something went wrong on our side; please try again."

# No frame options and no frame-ancestors: the page is made to be embedded.
EVERYWHERE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
# Gradio's pages need inline scripts; what they never need is shut.
OF_PAGES = {"Content-Security-Policy": "object-src 'none'; base-uri 'self'; form-action 'self'"}
# Opened for itself, an uploaded file runs nothing and loads nothing, whatever it says it is.
OF_FILES = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}

# Gradio compresses what does not say how it is encoded: a range as if it were the file, and a refusal only when the
# client has sent everything.
NOT_COMPRESSED = {"Content-Encoding": "identity"}

# Of an address, its query included, and of each value in the query; chosen by hand, not fitted.
LONGEST_ADDRESS = 16_384
LONGEST_VALUE = 512
# A client that still sends is listened to for so long after its refusal, so that it gets to read the answer.
LINGER_SECONDS = 2.0
LINGER_BYTES = 8 * MEGABYTE
# An upload that does not tell its size is measured against the disk now and again.
ROOM_EVERY_BYTES = 8 * MEGABYTE
# So many bodies are looked through at a time.
CHECKS = 2

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|[/\\]{2}", re.IGNORECASE)
# Gradio takes this for the page's own address; a server of its own in front of it, which is not used here, sends it.
NOT_PASSED_ON = {b"x-gradio-server"}


def guards(settings: Settings, check_disk: Callable[[], None], *, tools: bool) -> list[Middleware]:
    """What `launch` takes as its app's middleware.

    Args:
        settings: the limits.
        check_disk: raises `NoRoomError` while the disk is nearly full.
        tools: whether the endpoints are MCP tools as well.

    Raises:
        InputError: a setting cannot be used.
    """
    hosts = read_hosts(settings.allowed_hosts)
    return [Middleware(Guard, settings=settings, hosts=hosts, check_disk=check_disk, allowed=routes(tools=tools))]


class Guard:
    """An ASGI middleware before the whole server."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        hosts: tuple[str, ...],
        check_disk: Callable[[], None],
        allowed: tuple[Route, ...],
    ) -> None:
        self.app = app
        self._settings = settings
        self._hosts = hosts
        self._check_disk = check_disk
        self._allowed = allowed
        self._pace = Pace(settings.body_seconds, settings.body_bytes_per_second)
        self._memory = Memory()
        self._sending: Counter[str] = Counter()
        # Of their own, so that they do not wait for Gradio's threads.
        self._checks = anyio.CapacityLimiter(CHECKS)
        self._disk_checks = anyio.CapacityLimiter(CHECKS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on, one request."""
        if scope["type"] == "lifespan":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch_connections, scope["app"], self._settings)
                await self.app(scope, receive, send)
                tasks.cancel_scope.cancel()
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            # The page opens no websocket.
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive)
        reply = Reply(send, body if scope["method"] not in ("GET", "HEAD", "OPTIONS") else None)
        kind = ""
        try:
            route = self._admit(scope)
            kind = route.name
            reply.expect(kind)
            await self._pass_on(route, scope, body.receive, reply)
            if reply.held_error:
                raise RefusedError(reply.held_error, NOT_AN_UPLOAD if kind == "upload" else NOT_FITTING)
        except ClientDisconnect:
            return
        except RefusedError as refused:
            await refuse(refused, kind, reply)
        except Exception as error:
            if reply.unknown:
                answer = RefusedError(404, NO_SUCH_EVENT)
            elif kind in ("event", "upload"):
                # What Gradio cannot make sense of it answers with an exception.
                answer = RefusedError(400, NOT_FITTING if kind == "event" else NOT_AN_UPLOAD)
            else:
                answer = RefusedError(500, OUR_FAULT)
            await refuse(answer, kind, reply, error)

    def _admit(self, scope: Scope) -> Route:
        """The request's route, once its path and headers are found fit."""
        headers = Headers(scope=scope)
        path = scope["path"]
        root = scope.get("root_path", "").rstrip("/")
        # As the router does, for proxies that leave in the path what they serve the page under.
        if root and path.startswith(f"{root}/"):
            path = path.removeprefix(root)
        if len(scope.get("raw_path") or path) + len(scope["query_string"]) > LONGEST_ADDRESS:
            raise RefusedError(414, TOO_LONG_ADDRESS)
        if any(len(part) > LONGEST_VALUE for pair in QueryParams(scope["query_string"]).multi_items() for part in pair):
            raise RefusedError(414, TOO_LONG_ADDRESS)
        route = find_route(self._allowed, scope["method"], path)
        if path != HEALTH_PATH:
            # A container's health check may come by any name.
            check_hosts(headers, self._hosts)
        scope["headers"] = [header for header in scope["headers"] if header[0] not in NOT_PASSED_ON]
        return route

    async def _pass_on(self, route: Route, scope: Scope, receive: Receive, reply: Reply) -> None:
        if route.name == "file":
            await self._check_file(scope)
        elif route.name == "upload":
            await self._take_upload(scope, receive, reply)
            return
        elif scope["method"] == "POST":
            checked = await self._read_body(route, scope, receive)
            length = [(b"content-length", str(len(checked)).encode())]
            kept = [header for header in scope["headers"] if header[0] not in (b"content-length", b"transfer-encoding")]
            scope["headers"] = kept + length
            receive = replayed(checked, receive)
        else:
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"range"]
        await self.app(scope, receive, reply.send)

    async def _check_file(self, scope: Scope) -> None:
        """Makes sure that a file may be given, and that the range of it that is asked for is in it."""
        _, _, named = scope["path"].partition("/file=")
        if ADDRESS.match(named):
            raise RefusedError(403, ADDRESS_NOT_FETCHED)

        def size_of() -> int:
            return local_file(named).stat().st_size

        try:
            size = await run_sync(size_of, limiter=self._checks)
        except (NotGivenError, OSError) as error:
            raise RefusedError(403, NO_SUCH_FILE) from error
        headers = MutableHeaders(scope=scope)
        if (asked := headers.get("range")) is not None:
            begin, end = read_range(asked, size)
            # With the blank, which changes nothing, Starlette gives the range. Without it Gradio does, and repeats the
            # request's headers in the answer.
            headers["range"] = f"bytes= {begin}-{end}"
            scope["headers"] = headers.raw

    async def _read_body(self, route: Route, scope: Scope, receive: Receive) -> bytes:
        is_tool = route.name == "tool"
        limit = TOOL_BYTES if is_tool else EVENT_BYTES
        too_large = TOO_LARGE.format(limit // MEGABYTE) if is_tool else TOO_MUCH_JSON.format(limit // 1_000)
        _stated_length(scope, limit, too_large)
        with self._counted(scope):
            body = await self._memory.read(self._pace.timed(receive, limit, too_large))
        return await run_sync(check_tool_call if is_tool else check_event, body, limiter=self._checks)

    async def _take_upload(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        limit, too_large = UPLOAD_BYTES + FORM_BYTES, TOO_LARGE.format(UPLOAD_BYTES // MEGABYTE)
        stated = _stated_length(scope, limit, too_large)
        form = UploadForm(Headers(scope=scope).get("content-type", ""))
        timed = self._pace.timed(receive, limit, too_large)
        fault: Exception | None = None
        unchecked = taken = 0

        async def receive_checked() -> Message:
            nonlocal fault, unchecked, taken
            try:
                message = await timed()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                form.check(chunk, is_last=not message.get("more_body", False))
                unchecked += len(chunk)
                taken += len(chunk)
                if unchecked > ROOM_EVERY_BYTES:
                    unchecked = 0
                    await self._check_room(max(0, stated - taken))
            except (RefusedError, ClientDisconnect) as error:
                fault = error
                # At this Gradio deletes what it has written of the upload, and at no other.
                raise MultiPartException("The upload was given up.") from error
            return message

        with self._counted(scope):
            await self._check_room(stated)
            await self.app(scope, receive_checked, reply.send)
        if fault is not None:
            raise fault

    async def _check_room(self, more: int) -> None:
        """Makes sure that the disk has room for so many bytes beside what has to stay free."""

        def check() -> None:
            self._check_disk()
            check_room(more + self._settings.spare_megabytes * MEGABYTE)

        try:
            await run_sync(check, limiter=self._disk_checks)
        except NoRoomError as error:
            raise RefusedError(503, str(error)) from error

    @contextmanager
    def _counted(self, scope: Scope) -> Iterator[None]:
        """Counts a body that is being received from an address."""
        client = scope.get("client")
        address = network_of(client[0]) if client else ""
        if self._sending[address] >= self._settings.address_uploads:
            raise RefusedError(429, TOO_MANY_AT_ONCE)
        self._sending[address] += 1
        try:
            yield
        finally:
            self._sending[address] -= 1
            if not self._sending[address]:
                del self._sending[address]


async def refuse(refused: RefusedError, kind: str, reply: Reply, error: Exception | None = None) -> None:
    """Answers with a refusal, and notes it in one line.

    Args:
        refused: what is told.
        kind: of the route; empty where none was found.
        reply: the answer, which may have begun already.
        error: what was raised by the server; it is noted where it is a fault of ours.
    """
    reason = refused.detail if isinstance(refused.detail, str) else refused.detail[0]["message"]
    told = describe(error) if error is not None and refused.status >= 500 else {}
    logger.info("request refused", status=refused.status, route=kind or None, reason=reason, **told)
    if reply.begun:
        # Nothing but the end can still be told.
        with suppress(Exception):
            await reply.finish()
    else:
        await reply.tell(refused)


def _stated_length(scope: Scope, limit: int, too_large: str) -> int:
    """The length that a request states for its body; 0 where it states none."""
    stated = Headers(scope=scope).get("content-length", "0")
    length = int(stated) if stated.isdecimal() and len(stated) < 19 else 0
    if length > limit:
        raise RefusedError(413, too_large)
    return length


class Body:
    """The body of one request, on its way in.

    Attributes:
        ended: whether all of it has been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def receive(self) -> Message:
        """The next part, or the client's leaving."""
        message = await self._receive()
        self.ended = self.ended or message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Takes in what a client still sends, for a short while; some read no answer before they have sent all."""
        left = LINGER_BYTES
        with anyio.move_on_after(LINGER_SECONDS):
            while left > 0 and not self.ended:
                left -= len((await self.receive()).get("body", b""))


class Reply:
    """The answer to one request, on its way out.

    Attributes:
        begun: whether something of it has been sent.
        unknown: whether Gradio says that there is no such event or session.
        held_error: the status of an error answer that is not sent as it is; 0 where there is none.
    """

    def __init__(self, send: Send, body: Body | None) -> None:
        """An answer that has not begun.

        Args:
            send: sends a message.
            body: of the request; None where it has none.
        """
        self._send = send
        self._body = body
        self._kind = ""
        self._start: Message | None = None
        self.begun = False
        self.unknown = False
        self.held_error = 0

    def expect(self, kind: str) -> None:
        """Sets what kind of route answers."""
        self._kind = kind

    async def send(self, message: Message) -> None:
        """Sends one message of the app's answer."""
        if message["type"] == "http.response.start":
            status = message["status"]
            if (self._kind == "upload" and status >= 400) or (self._kind == "event" and status == 422):
                # Gradio repeats here what it was sent, or tells where files lie.
                self.held_error = status
            elif self._kind == "stream":
                # Gradio tells only in the stream itself that there is none.
                self._start = message
            else:
                await self._begin(message)
        elif self.held_error or self.unknown:
            return
        elif self._start is not None and is_unknown(message.get("body", b"")):
            self.unknown = True
        else:
            if self._start is not None:
                start, self._start = self._start, None
                await self._begin(start)
            await self._send(message)

    async def tell(self, refused: RefusedError) -> None:
        """Sends a refusal; where the client may still be sending, the connection is closed afterwards."""
        is_open = self._body is not None and not self._body.ended
        response = JSONResponse({"detail": refused.detail}, refused.status, headers=refused.headers)
        if is_open:
            response.headers["Connection"] = "close"
            response.headers.update(NOT_COMPRESSED)
        await self._begin({"type": "http.response.start", "status": refused.status, "headers": response.raw_headers})
        await self._send({"type": "http.response.body", "body": response.body, "more_body": is_open})
        if self._body is not None and is_open:
            # A client that was too slow has been listened to for long enough.
            if refused.status != 408:
                await self._body.drain()
            await self.finish()

    async def finish(self) -> None:
        """Ends an answer that has begun."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, message: Message) -> None:
        self.begun = True
        given = MutableHeaders(scope=message)
        added = EVERYWHERE | (OF_FILES if self._kind == "file" else OF_PAGES)
        if message["status"] == 206:
            added |= NOT_COMPRESSED
        for name, value in added.items():
            given.setdefault(name, value)
        await self._send(message)


def is_unknown(chunk: bytes) -> bool:
    """Whether the first message of a stream says that there is no such event or session."""
    in_queue = chunk.startswith(b'data: {"msg":"unexpected_error"') and b'"session_not_found":true' in chunk
    return in_queue or chunk == b'event: error\ndata: "404: Not Found"\n\n'


# --- connections ----------------------------------------------------------------------------------------------------

WATCH_SECONDS = 0.5


async def watch_connections(app: Any, settings: Settings) -> None:
    """Closes connections on which no request comes, and those that one address has too many of, until cancelled.

    Uvicorn waits for the head of a request for ever, and has no limit for an address.

    Args:
        app: Gradio's, which knows its server once it is launched.
        settings: the limits.
    """
    # For each connection its last request, when that was first seen to be over, and when the connection was first seen.
    seen: dict[Any, tuple[Any, float, float]] = {}
    while True:
        await anyio.sleep(WATCH_SECONDS)
        server = getattr(app.get_blocks(), "server", None)
        state = getattr(server, "server_state", None)
        if state is None:
            continue
        now = monotonic()
        before, seen = seen, {}
        of_address: dict[str, list[tuple[float, Any]]] = {}
        for connection in list(state.connections):
            request = connection.cycle
            is_busy = request is not None and not request.response_complete
            last, since, first = before.get(connection, (request, now, now))
            if is_busy or last is not request:
                since = now
            seen[connection] = (request, since, first)
            if now - since > settings.header_seconds:
                connection.transport.close()
            elif connection.client:
                of_address.setdefault(network_of(connection.client[0]), []).append((first, connection))
        for connections in of_address.values():
            connections.sort(key=lambda entry: entry[0])
            for _, connection in connections[settings.address_connections :]:
                connection.transport.abort()
