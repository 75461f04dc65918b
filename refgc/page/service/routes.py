"""The allow-list of routes, and what the headers of a request may say.

Gradio has routes for logins, recordings, shared links and editing that no part of this page uses. Everything here is
a pure function of the request's line and headers; the middleware in `guard` calls it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from refgc.errors import InputError
from refgc.page.service.payload import RefusedError
from refgc.page.service.server import EMBED_PATH, FIGURES_PATH, HEALTH_PATH, TOOLS_PATH
from refgc.webui.index_page import PICTURE_PATH

NOTHING_HERE = "There is nothing here."
NOT_BY_THIS = "This address takes only {} requests."
NOT_A_RANGE = "The header Range asks for bytes that the file does not have; ask for one range, such as bytes=0-99."
BAD_HOST = "The header {} names no host under which this page may be reached."
BAD_SCHEME = "The header X-Forwarded-Proto has to be http or https."


@dataclass(frozen=True)
class Route:
    """One entry of the allow-list.

    Attributes:
        name: what it is called here and in the log.
        path: matches the whole decoded path.
        methods: those it takes.
    """

    name: str
    path: re.Pattern[str]
    methods: tuple[str, ...] = ("GET",)


def routes(*, tools: bool) -> tuple[Route, ...]:
    """The allow-list: what the page, the clients, the embed and the health check ask for in Gradio 6.

    Args:
        tools: whether the endpoints are MCP tools as well.
    """
    # Sessions, events and functions are named in these letters; a control character is in no name.
    name, plain = r"[A-Za-z0-9._-]{1,64}", r"[^\x00-\x1f\x7f]+"
    # Longer than the system allows in a path, a name is an error and not only unknown.
    asset = r"[\x20-\x7e]{1,255}"
    api = "/gradio_api"
    paths: list[tuple[str, str, tuple[str, ...]]] = [
        ("page", r"/", ("GET", "HEAD")),
        ("page", r"/config/?", ("GET",)),
        ("page", rf"/(?:theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon)|{api}/theme\.css", ("GET",)),
        ("page", "|".join(map(re.escape, (HEALTH_PATH, EMBED_PATH, PICTURE_PATH))), ("GET", "HEAD")),
        ("page", "|".join(map(re.escape, (FIGURES_PATH, TOOLS_PATH))), ("GET",)),
        ("page", rf"/(?:assets|static)/{asset}", ("GET", "HEAD")),
        ("page", rf"{api}/(?:info/?|openapi\.json|app_id/?|login_check/?|startup-events)", ("GET",)),
        ("page", rf"{api}/heartbeat/{name}", ("GET",)),
        ("page", rf"{api}/upload_progress", ("GET",)),
        ("file", rf"{api}/file={plain}", ("GET", "HEAD")),
        ("upload", rf"{api}/upload", ("POST",)),
        ("stream", rf"{api}/queue/data", ("GET",)),
        ("stream", rf"{api}/call/(?:v2/)?{name}/{name}", ("GET",)),
        ("event", rf"{api}/(?:queue/join|cancel|reset/?)", ("POST",)),
        ("event", rf"{api}/(?:run|call|call/v2)/{name}/?", ("POST",)),
    ]
    if tools:
        paths.append(("tool", rf"{api}/mcp(?:/http)?/?", ("GET", "POST")))
    return tuple(Route(kind, re.compile(pattern), methods) for kind, pattern, methods in paths)


def find_route(allowed: tuple[Route, ...], method: str, path: str) -> Route:
    """The entry for a request.

    Args:
        allowed: the allow-list.
        method: such as "GET".
        path: decoded, without the part under which a proxy serves the page.

    Raises:
        RefusedError: there is none for the path, or it takes other methods.
    """
    found = [route for route in allowed if route.path.fullmatch(path)]
    if not found:
        raise RefusedError(404, NOTHING_HERE)
    for route in found:
        if method in route.methods:
            return route
    methods = sorted({taken for route in found for taken in route.methods})
    raise RefusedError(405, NOT_BY_THIS.format(" or ".join(methods)), {"Allow": ", ".join(methods)})


# --- headers --------------------------------------------------------------------------------------------------------

HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
HOST_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\]")
# The server asks itself, at its start and for its tools.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "[::1]"})
RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


def read_hosts(setting: str) -> tuple[str, ...]:
    """The names of hosts in a setting, separated by commas; `*.example.com` stands for all below example.com.

    Raises:
        InputError: one of them is no name of a host.
    """
    hosts = tuple(host.strip().lower() for host in setting.split(",") if host.strip())
    for host in hosts:
        if not HOST_PATTERN.fullmatch(host):
            raise InputError(f"REFGC_ALLOWED_HOSTS has {host!r}; give names such as example.com or *.example.com.")
    return hosts


def check_hosts(headers: Headers, hosts: tuple[str, ...]) -> None:
    """Makes sure that a request asks for a host that can be one, and, where `hosts` names some, for one of these.

    Raises:
        RefusedError: it does not.
    """
    for header in ("Host", "X-Forwarded-Host"):
        named = [one.strip() for value in headers.getlist(header) for one in value.split(",")]
        if header == "Host" and not named:
            raise RefusedError(400, BAD_HOST.format(header))
        for one in named:
            match = HOST.fullmatch(one)
            if not match or (hosts and not _is_among(match[1].lower(), hosts)):
                raise RefusedError(400, BAD_HOST.format(header))
    schemes = {one.strip() for value in headers.getlist("x-forwarded-proto") for one in value.split(",")}
    if not schemes <= {"http", "https", "ws", "wss"}:
        raise RefusedError(400, BAD_SCHEME)


def _is_among(host: str, hosts: tuple[str, ...]) -> bool:
    return host in LOOPBACK or any(host.endswith(one[1:]) if one.startswith("*") else host == one for one in hosts)


def read_range(value: str, size: int) -> tuple[int, int]:
    """The first and the last byte that the header Range asks for.

    Args:
        value: of the header.
        size: of the file in bytes.

    Raises:
        RefusedError: it is not one range, or not within the file.
    """
    match = RANGE.fullmatch(value.strip())
    first, last = match.groups() if match else (None, None)
    if first is None:
        begin, end = size - int(last or 0), size - 1
        begin = max(0, begin)
    else:
        begin, end = int(first), min(size - 1, int(last or size))
    if begin > end:
        raise RefusedError(416, NOT_A_RANGE, {"Content-Range": f"bytes */{size}"})
    return begin, end
