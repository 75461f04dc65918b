"""Running the engine for the page: progress on the way, files for the browser at the end, a sentence when it fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gradio as gr

from refgc.demo.display import ShownResult, write_result
from refgc.demo.report_text import capitalised
from refgc.engines import Progress, RefineRequest, choose
from refgc.errors import RefGCError

logger = logging.getLogger(__name__)

# One refinement uses every core already; the next visitor waits in the queue and is told the place there.
ENGINE_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "engine"}
# Brings the result into view where it is off the screen; defined in assets/page.js.
SCROLL_TO_RESULT = "() => window.refgcShowResult()"

OUR_FAULT = (
    "Something went wrong on our side and the pictures are not to blame; try again, and if it happens again, "
    "try smaller pictures."
)


def run(request: RefineRequest, folder: Path, progress: gr.Progress) -> ShownResult:
    """Refines and writes everything the page shows into `folder`; `progress` names each stage as it begins."""
    result = choose("auto").refine(request, stages_on(progress))
    progress(1, desc="Saving the pictures")
    return write_result(result, folder)


def stages_on(progress: gr.Progress) -> Progress:
    """An engine's progress, shown by the page's."""

    def show_stage(stage: str, fraction: float) -> None:
        progress(fraction, desc=capitalised(stage))

    return show_stage


def sentence_for(error: Exception) -> str:
    """What the visitor reads; an error nobody foresaw is logged in full and told without its details."""
    if isinstance(error, RefGCError):
        return str(error)
    logger.error("A refinement failed.", exc_info=error)
    return OUR_FAULT
