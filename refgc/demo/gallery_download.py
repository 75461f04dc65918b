"""Downloading one picture from a host that is known beforehand, within limits of time and size."""

from __future__ import annotations

import time

import httpx

from refgc import __version__
from refgc.errors import RefGCError

# A slow host is given up before a visitor has given up.
CONNECT_SECONDS = 4.0
# Compressed answers could unpack to any size.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"refgc-sr2/{__version__}"}


class DownloadError(RefGCError):
    """One picture that did not come; `str(error)` completes "could not be fetched: "."""


class UnreachableError(DownloadError):
    """The host itself cannot be reached, so that there is no use in asking it for more."""


def open_client(seconds: float) -> httpx.Client:
    """A client that follows no redirect and waits `seconds` for each part of an answer."""
    timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
    return httpx.Client(timeout=timeout, headers=HEADERS, follow_redirects=False)


def download(client: httpx.Client, address: str, *, most_bytes: int, seconds: float) -> bytes:
    """The body of the answer.

    Args:
        client: of `open_client`; several threads may share it.
        address: of the file; never from a visitor.
        most_bytes: a longer answer is given up, at its announcement or while it is read.
        seconds: an answer that takes longer is given up, however steadily it trickles.

    Raises:
        UnreachableError: no connection to the host.
        DownloadError: the answer is a redirect or an error, too long or too slow.
    """
    deadline = time.monotonic() + seconds
    try:
        with client.stream("GET", address) as answer:
            if answer.status_code != httpx.codes.OK:
                raise DownloadError(f"the server answered {answer.status_code}")
            if int(answer.headers.get("Content-Length", 0)) > most_bytes:
                raise _too_large(most_bytes)
            body = bytearray()
            for part in answer.iter_raw():
                body += part
                if len(body) > most_bytes:
                    raise _too_large(most_bytes)
                if time.monotonic() > deadline:
                    raise DownloadError(f"it took longer than {seconds:g} seconds")
            return bytes(body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise UnreachableError("no connection to its server") from error
    except httpx.TimeoutException as error:
        raise DownloadError(f"it took longer than {seconds:g} seconds") from error
    except (httpx.HTTPError, ValueError) as error:
        raise DownloadError("the server’s answer cannot be read") from error


def _too_large(most_bytes: int) -> DownloadError:
    return DownloadError(f"it is larger than {most_bytes // 1_000_000} MB")
