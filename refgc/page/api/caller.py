"""Who calls the API, what files are theirs to give, and how files are sent back to them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast, get_args
from urllib.parse import quote
from uuid import uuid4

import fastapi
import gradio as gr
from anyio.to_thread import run_sync
from gradio.data_classes import FileData
from gradio.route_utils import get_root_url

from refgc.errors import InputError
from refgc.page.service.guard import FILE_ROUTE, NotGivenError, local_file
from refgc.page.service.queue import Working
from refgc.page.words import sentence_for
from refgc.settings import settings

Json: TypeAlias = dict[str, Any]
Choice = TypeVar("Choice", bound=str)


class Caller:
    """One call's sender.

    Attributes:
        is_tool: whether it came as a call of an MCP tool.
        visit: the session, by which limits are kept.
    """

    def __init__(self, request: gr.Request) -> None:
        # Gradio calls tools by a client of its own, one for everybody. Anybody may send the header, so that without
        # tools it means nothing.
        self.is_tool = are_wanted() and request.headers.get("x-gradio-user") == "mcp"
        self.visit = uuid4().hex if self.is_tool else str(request.session_hash or uuid4().hex)
        asked = cast(fastapi.Request, request.request)
        self._root = get_root_url(request=asked, route_path=asked.url.path, root_path=asked.app.root_path)

    def address_of(self, file: Path) -> str:
        """Where the caller can fetch `file`."""
        return f"{self._root}{FILE_ROUTE}{quote(str(file))}"


def given_path(given: Any, name: str) -> Path:
    """The file that a caller gave, uploaded here before or shown by this server.

    Args:
        given: as Gradio passes it on: file data, or a path or address of ours.
        name: what it is called in an error sentence, such as "reference".

    Raises:
        InputError: nothing was given, or something that is not the caller's to give.
    """
    named = given.get("path") if isinstance(given, dict) else given
    if not isinstance(named, str) or not named:
        raise InputError(f"There is no {name}; upload the picture and give what the upload answers.")
    try:
        return local_file(named)
    except NotGivenError as error:
        raise InputError(f"The {name} cannot be used: {str(error)[0].lower()}{str(error)[1:]}") from error


def given_mask(given: Any, name: str) -> Path | None:
    """The same for a file that may be left out."""
    return None if given is None else given_path(given, name)


def given_choice(given: Choice, choices: Any, name: str) -> Choice:
    """One of several words; what a script sends may be any.

    Args:
        given: the word.
        choices: the literal type that lists them.
        name: what is chosen, in an error sentence.

    Raises:
        InputError: it is none of them.
    """
    words = get_args(choices)
    if given not in words:
        raise InputError(f"There is no {name} called {given!r}; use {', '.join(words[:-1])} or {words[-1]}.")
    return given


def sent_file(path: Path) -> Json:
    """A file as Gradio sends it; it adds the address."""
    return FileData(path=str(path), orig_name=path.name).model_dump()


def progress_of(note: Working) -> Json:
    """What stands in the report's place until there is one."""
    return {"stage": note.stage, "fraction": round(note.fraction, 3)}


def told(error: Exception) -> gr.Error:
    """The error that tells the caller one sentence, and nothing else."""
    return gr.Error(sentence_for(error), print_exception=False)


# ==== tools
NOT_INSTALLED = "The endpoints cannot be MCP tools without the package mcp; install it: pip install '.[mcp]'."


def are_wanted() -> bool:
    """Whether the environment switches the tools on.

    Raises:
        InputError: it says neither yes nor no.
    """
    return settings().mcp


def set_up_tools() -> bool:
    """Sets the tools up where the environment switches them on, and says whether it does.

    Raises:
        InputError: it does and they cannot be had, or it says neither yes nor no.
    """
    if not are_wanted():
        return False
    if find_spec("mcp") is None:
        raise InputError(NOT_INSTALLED)
    _give_every_result()
    return True


def _give_every_result() -> None:
    """Gradio answers a caller who wants no progress with all results as one text, in which no picture can be seen."""
    from gradio.mcp import GradioMCPServer

    async def every_result(_: GradioMCPServer, job: Any) -> list[Any]:
        await run_sync(job.result)
        last = [update async for update in job if update.type == "output"][-1]
        return list(last.outputs["data"])

    setattr(GradioMCPServer, "_execute_tool_without_progress", every_result)  # noqa: B010 (no assignment to a method)
