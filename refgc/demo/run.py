"""Running an engine for the page: its queue, a sentence when it fails."""

from __future__ import annotations

import logging
from typing import Any

from refgc.errors import RefGCError

logger = logging.getLogger(__name__)

# Gradio's own queue would show its own words, and turn light clicks away with the heavy runs: who waits for an engine
# waits in `refgc.demo.line`, and is told the place there.
ENGINE_QUEUE: dict[str, Any] = {"concurrency_limit": None}
# Brings the result into view where it is off the screen; defined in assets/page.js.
SCROLL_TO_RESULT = "() => window.refgcShowResult()"

OUR_FAULT = (
    "Something went wrong on our side and the pictures are not to blame; try again, and if it happens again, "
    "try smaller pictures."
)


def sentence_for(error: Exception) -> str:
    """What the visitor reads; an error nobody foresaw is logged in full and told without its details."""
    if isinstance(error, RefGCError):
        return str(error)
    logger.error("A refinement failed.", exc_info=error)
    return OUR_FAULT
