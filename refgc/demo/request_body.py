"""The body of a request to an ASGI app: limited while it comes in, read whole, given on."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive


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
