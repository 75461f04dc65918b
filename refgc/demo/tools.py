"""The page's endpoints as MCP tools, where that is switched on."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from anyio.to_thread import run_sync

from refgc.errors import InputError

VARIABLE = "REFGC_MCP"
YES, NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
NOT_INSTALLED = "The endpoints cannot be MCP tools without the package mcp; install it: pip install '.[mcp]'."


def are_wanted() -> bool:
    """Whether the environment switches the tools on.

    Raises:
        InputError: it says neither yes nor no.
    """
    said = os.environ.get(VARIABLE, "").strip().lower()
    if said not in YES + NO:
        raise InputError(f"{VARIABLE} is {said!r}; set it to 1 or to 0.")
    return said in YES


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
