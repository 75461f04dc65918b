"""The bodies of requests: read in good time and within a limit, and looked through before Gradio sees them.

Gradio parses a body on its event loop, walks through it several times, and keeps it as long as its event is known. A
small body of many nested lists takes seconds of that loop, and long texts stay in memory. Bodies are therefore checked
here first, in a thread of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
import orjson
from gradio.utils import get_upload_folder, is_static_file
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from refgc.imaging.files import MEGABYTE

UPLOAD_BYTES = 100 * MEGABYTE
# Around the files of an upload stand their names and the form's separators.
FORM_BYTES = MEGABYTE
# The largest event that the browser tests send has 1.6 kB.
EVENT_BYTES = 64_000
# Here pictures may come within the text, as data addresses.
TOOL_BYTES = 64 * MEGABYTE
# Of all bodies together that are being read into memory.
HELD_BYTES = 256 * MEGABYTE

# The events that the browser tests send have up to 50 values, 7 levels, and texts of 215 characters. These limits leave
# room for long file names and captions; chosen by hand, not fitted.
MOST_VALUES = 2_000
MOST_LEVELS = 32
MOST_FILES = 64
LONGEST_TEXT = 4_096
LONGEST_KEY = 256
# A text may hold commas and brackets as well; a body with more of them than this is not even parsed.
MOST_SEPARATORS = 10 * MOST_VALUES
SESSION_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

# When to try again, where that helps.
RETRY_SECONDS = "60"

NOT_READABLE = "This request cannot be read; its body has to be JSON."
TOO_MUCH_JSON = "This is more than {} kB, which is the limit; upload pictures, and shorten texts."
TOO_LARGE = "This is more than {} MB, which is the limit; make the picture smaller and send it again."
TOO_MANY_VALUES = f"This request has more than {MOST_VALUES:,} values or {MOST_LEVELS} levels; send fewer at a time."
TOO_LONG_TEXT = f"This request has a text of more than {LONGEST_TEXT:,} characters; shorten it."
BAD_SESSION = "The name of a session may have at most 64 letters, digits, dots, hyphens and underscores."
NOT_AN_UPLOAD = "This upload cannot be read; send a form of files, each in a field called files with its file name."
TOO_SLOW = "This request came in too slowly and was given up; send it again over a faster connection."
TOO_MUCH_AT_ONCE = "The server is taking in too much at the moment; please try again in a minute."


class RefusedError(Exception):
    """A request is not passed on.

    Attributes:
        status: of the answer.
        detail: what is told, in one sentence or in the form in which Gradio's clients look for it.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {"Retry-After": RETRY_SECONDS} if status in (429, 503) else dict(headers or {})


# --- reading --------------------------------------------------------------------------------------------------------


class Pace:
    """How long a body may take: some seconds, and more for every byte that has come in.

    Attributes:
        grace_seconds: what every body may take.
        bytes_per_second: the slowest rate beyond that.
    """

    def __init__(self, grace_seconds: float, bytes_per_second: float) -> None:
        self.grace_seconds = grace_seconds
        self.bytes_per_second = bytes_per_second

    def timed(self, receive: Receive, limit: int, too_large: str) -> Receive:
        """The same body as it comes in.

        Args:
            receive: gives the body.
            limit: its longest length in bytes.
            too_large: the sentence for a longer one.

        Raises:
            RefusedError: from what is returned: it is too long, or too slow.
        """
        begun, taken, ended = monotonic(), 0, False

        async def receive_timed() -> Message:
            nonlocal taken, ended
            if ended:
                # What comes now is the client's leaving, which may take as long as the answer.
                return await receive()
            left = begun + self.grace_seconds + taken / self.bytes_per_second - monotonic()
            with anyio.move_on_after(max(0.0, left)) as waiting:
                message = await receive()
            if waiting.cancelled_caught:
                raise RefusedError(408, TOO_SLOW)
            taken += len(message.get("body", b""))
            if taken > limit:
                raise RefusedError(413, too_large)
            ended = not message.get("more_body", False)
            return message

        return receive_timed


class Memory:
    """Counts the bytes of all bodies that are being read into memory."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self._most = most
        self._held = 0

    async def read(self, receive: Receive) -> bytes:
        """All of one body.

        Raises:
            RefusedError: there is no room for it beside the others, or `receive` refuses it.
            ClientDisconnect: the client has gone.
        """
        parts: list[bytes] = []
        taken = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                taken += len(part)
                self._held += len(part)
                if self._held > self._most:
                    raise RefusedError(503, TOO_MUCH_AT_ONCE)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._held -= taken


def replayed(body: bytes, receive: Receive) -> Receive:
    """Gives `body` first, and then what else comes in, which is the client's leaving."""
    waiting = [body]

    async def receive_replayed() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receive_replayed


class UploadForm:
    """Looks at the parts of an upload as they come in: each has to be a file in a field called `files`.

    Gradio fails on other fields, or keeps their files for ever.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise RefusedError(400, NOT_AN_UPLOAD)
        self._files = 0
        self._name = self._value = b""
        self._is_file = self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._read_name,
                    "on_header_value": self._read_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_end": self._end,
                },
            )
        except ValueError as error:
            raise RefusedError(400, NOT_AN_UPLOAD) from error

    def check(self, chunk: bytes, *, is_last: bool) -> None:
        """Looks at the next bytes; with the last ones the form has to be complete.

        Raises:
            RefusedError: they are not of a form of files.
        """
        try:
            self._parser.write(chunk)
        except ValueError as error:
            raise RefusedError(400, NOT_AN_UPLOAD) from error
        if is_last and not (self._complete and self._files):
            raise RefusedError(400, NOT_AN_UPLOAD)

    def _end(self) -> None:
        self._complete = True

    def _begin(self) -> None:
        self._is_file = False

    def _read_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _read_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._is_file = options.get(b"name") == b"files" and b"filename" in options
        self._name = self._value = b""

    def _end_headers(self) -> None:
        self._files += 1
        if not self._is_file or self._files > MOST_FILES:
            raise RefusedError(400, NOT_AN_UPLOAD)


# --- JSON -----------------------------------------------------------------------------------------------------------


def parse(body: bytes) -> Any:
    """The content of a body, which is not nested too deeply and has not too many values.

    Raises:
        RefusedError: it cannot be read, or has too much in it.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_SEPARATORS:
        raise RefusedError(413, TOO_MANY_VALUES)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, NOT_READABLE) from error


def check_tool_call(body: bytes) -> bytes:
    """The body of a request to the MCP server as it is; pictures may stand in it as data addresses.

    Raises:
        RefusedError: there is too much in it.
    """
    _look_through(parse(body), data_addresses=True)
    return body


def check_event(body: bytes) -> bytes:
    """The same JSON with every file named by its path here.

    Files that this server has shown may be named by their address as well, whatever host it is reached by; of an
    address only the path counts, and nothing is ever fetched.

    Args:
        body: of a request; an empty one is returned as it is.

    Raises:
        RefusedError: it cannot be read, has too much in it, or names a file that is neither in the upload folder nor
            one of the page's own.
    """
    if not body:
        return body
    content = parse(body)
    session = content.get("session_hash") if isinstance(content, dict) else None
    if session is not None and not (isinstance(session, str) and SESSION_NAME.fullmatch(session)):
        raise RefusedError(400, BAD_SESSION)
    files = _look_through(content)
    if len(files) > MOST_FILES:
        raise RefusedError(413, TOO_MANY_VALUES)
    try:
        for file in files:
            file["path"] = str(local_file(file["path"]))
    except NotGivenError as error:
        # In this form Gradio's clients show the sentence.
        detail = {"__type__": "validate", "is_valid": False, "parameter_name": "picture", "message": str(error)}
        raise RefusedError(422, [detail]) from error
    return orjson.dumps(content)


def _look_through(content: Any, *, data_addresses: bool = False) -> list[dict[str, Any]]:
    """Everything that a component may take for a file.

    Raises:
        RefusedError: there are too many values or levels, or too long a text.
    """
    files = []
    values = 0
    level = [content]
    for _ in range(MOST_LEVELS):
        values += len(level)
        if values > MOST_VALUES:
            break
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                if len(value) > LONGEST_TEXT and not (data_addresses and value.startswith("data:")):
                    raise RefusedError(413, TOO_LONG_TEXT)
            elif isinstance(value, dict):
                if any(len(key) > LONGEST_KEY for key in value):
                    raise RefusedError(413, TOO_LONG_TEXT)
                if isinstance(value.get("path"), str):
                    files.append(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return files
        level = below
    raise RefusedError(413, TOO_MANY_VALUES)


# --- files ----------------------------------------------------------------------------------------------------------

FILE_ROUTE = "/gradio_api/file="
HOSTED = re.compile(r"https?://", re.IGNORECASE)

NOT_FETCHED = "A picture is given by an address, and this server fetches none; download it and upload the file."
NOT_UPLOADED = "A picture was not uploaded here; upload the file and name what the upload answers."
NOT_KEPT = "A picture is no longer here, since files are deleted after some hours; upload it again."


class NotGivenError(Exception):
    """A request names a file that is not the caller's to name; `str(error)` says what to do."""


def local_file(named: str) -> Path:
    """Where the file is on this machine.

    Args:
        named: a path, or the address under which this server shows it.

    Raises:
        NotGivenError: it is neither in the upload folder nor one of the page's own, symbolic links followed; or it is
            no longer there.
    """
    try:
        if HOSTED.match(named):
            _, route, shown = unquote(urlsplit(named).path).partition(FILE_ROUTE)
            if not route:
                raise NotGivenError(NOT_FETCHED)
            named = shown
        path = Path(named).resolve()
        folder = Path(get_upload_folder()).resolve()
        if path == folder or not (path.is_relative_to(folder) or is_static_file(path)):
            raise NotGivenError(NOT_UPLOADED)
        if not path.is_file():
            raise NotGivenError(NOT_KEPT)
    except (OSError, ValueError, RuntimeError) as error:
        raise NotGivenError(NOT_UPLOADED) from error
    return path
