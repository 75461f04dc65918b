"""Whether the page's endpoints are MCP tools as well."""

from __future__ import annotations

import os
from importlib.util import find_spec

from refgc.errors import InputError

VARIABLE = "REFGC_MCP"
YES, NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
NOT_INSTALLED = "The endpoints cannot be MCP tools without the package mcp; install it: pip install 'refgc-sr2[mcp]'."


def tools_wanted() -> bool:
    """Whether the environment switches the tools on.

    Raises:
        InputError: it does and they cannot be had, or it says neither yes nor no.
    """
    said = os.environ.get(VARIABLE, "").strip().lower()
    if said not in YES + NO:
        raise InputError(f"{VARIABLE} is {said!r}; set it to 1 or to 0.")
    if said in NO:
        return False
    if find_spec("mcp") is None:
        raise InputError(NOT_INSTALLED)
    return True
