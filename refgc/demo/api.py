"""The page for scripts: `/refine`, `/preview` and `/examples`; they are MCP tools as well where that is switched on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import api

from refgc.demo.api_description import describe, returning
from refgc.demo.api_examples import ExampleAddresses, examples_endpoint
from refgc.demo.api_preview import FILES, preview
from refgc.demo.api_refine import refine
from refgc.demo.examples import Example
from refgc.demo.run import ENGINE_QUEUE
from refgc.diprefgc.preview_report import PreviewReport
from refgc.engines import Report

LIGHT: dict[str, Any] = {"concurrency_limit": None}


def build_api(demo: gr.Blocks, examples: Sequence[Example]) -> None:
    """Adds the endpoints to the page being built; everything else on it has to be private."""
    _offer(demo, refine, ("refined picture", FileData), ("report", Report), **ENGINE_QUEUE)
    _offer(demo, preview, *((name, FileData) for name in FILES), ("report", PreviewReport), **ENGINE_QUEUE)
    _offer(demo, examples_endpoint(examples), ("examples", list[ExampleAddresses]), **LIGHT)


def _offer(demo: gr.Blocks, function: Callable[..., Any], *returned: tuple[str, Any], **settings: Any) -> None:
    made = api(returning(function, [kind for _, kind in returned]), api_name=function.__name__, **settings)
    describe(demo.fns[made["id"]], returned)
