"""The page for scripts: `/refine`, `/preview` and `/examples`; they are MCP tools as well where that is switched on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import GenericAlias
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.data_classes import FileData
from gradio.events import api
from gradio.utils import get_function_description, get_function_params
from pydantic import BaseModel

from refgc.diptych.preview_report import PreviewReport
from refgc.engine import Report
from refgc.page.api.calls import FILES, ExampleAddresses, examples_endpoint, preview_endpoint, refine_endpoint
from refgc.page.examples import Example
from refgc.page.service.runs import Service
from refgc.page.words import ENGINE_QUEUE, capitalised

LIGHT: dict[str, Any] = {"concurrency_limit": None}


def build_api(demo: gr.Blocks, examples: Sequence[Example], service: Service) -> None:
    """Adds the endpoints to the page being built; everything else on it has to be private."""
    _offer(demo, refine_endpoint(service), ("refined picture", FileData), ("report", Report), **ENGINE_QUEUE)
    _offer(
        demo,
        preview_endpoint(service),
        *((name, FileData) for name in FILES),
        ("report", PreviewReport),
        **ENGINE_QUEUE,
    )
    _offer(demo, examples_endpoint(examples), ("examples", list[ExampleAddresses]), **LIGHT)


def _offer(demo: gr.Blocks, function: Callable[..., Any], *returned: tuple[str, Any], **settings: Any) -> None:
    made = api(returning(function, [kind for _, kind in returned]), api_name=function.__name__, **settings)
    describe(demo.fns[made["id"]], returned)


def returning(function: Callable[..., Any], kinds: Sequence[Any]) -> Callable[..., Any]:
    """The function with the types of its results as Gradio reads them: of one result, not of a generator's."""
    kind = GenericAlias(tuple, tuple(kinds)) if len(kinds) > 1 else kinds[0]
    signature = inspect.signature(function, eval_str=True).replace(return_annotation=kind)
    setattr(function, "__signature__", signature)  # noqa: B010 (no type of a function has it)
    return function


def describe(endpoint: BlockFunction, results: Sequence[tuple[str, Any]]) -> None:
    """Gives every parameter and result of an endpoint its name and what the docstring says of it.

    Args:
        endpoint: just added to the page.
        results: name and type of each.
    """
    function = endpoint.fn
    if function is None:
        raise TypeError("Only an endpoint that runs Python can be described.")
    _, said_of_parameters, said_of_results = get_function_description(function)
    for block, (name, *_) in zip(endpoint.inputs, get_function_params(function), strict=True):
        _explain(block, name.replace("_", " "), said_of_parameters[name])
    for block, (name, kind), said in zip(endpoint.outputs, results, said_of_results, strict=True):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            # Gradio's own reading of a model has the types of its fields and not their meaning.
            for field, about in kind.model_fields.items():
                if about.description:
                    _schema(block)["properties"][field]["description"] = about.description
        _explain(block, name, said)


def _explain(block: Any, name: str, said: str) -> None:
    block.label = capitalised(name)
    schema = _schema(block)
    schema["description"] = schema["additional_description"] = said


def _schema(block: Any) -> dict[str, Any]:
    """A component's own, which it is told with."""
    schema: dict[str, Any] = block.api_info()
    return schema
