"""Coroutines in tests that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def completed(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs it to its end in a thread of its own: in this one Playwright keeps a loop running, once a test used it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
