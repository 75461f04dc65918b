"""Keeping the server's memory flat over many requests."""

from __future__ import annotations

import ctypes
import os

# Of glibc's malloc.h.
M_ARENA_MAX = -8
MOST_ARENAS = 2


def share_arenas() -> None:
    """Lets all threads take memory from a few pools, where the C library is glibc.

    Else each of the many threads that serve visitors gets a pool of its own, and what one has given back is of no use
    to the others: memory grows with the requests (`python -m benchmarks.load` shows it). `MALLOC_ARENA_MAX` in the
    environment goes first.
    """
    if "MALLOC_ARENA_MAX" in os.environ or os.name != "posix":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, MOST_ARENAS)
