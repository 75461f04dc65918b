"""The files that a request names: only those that were uploaded here, made here, or are the page's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gradio.utils import get_upload_folder, is_static_file

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
