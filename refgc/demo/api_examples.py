"""The endpoint `/examples`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

import gradio as gr

from refgc.demo.api_caller import Caller
from refgc.demo.examples import Example


class ExampleAddresses(TypedDict):
    """One of the page's own pairs; everything from `reference` on is the address of a picture."""

    name: str
    title: str
    description: str
    object_name: str
    reference: str
    reference_mask: str
    generated: str
    scene: str
    scene_mask: str


def examples_endpoint(shown: Sequence[Example]) -> Callable[[gr.Request], list[ExampleAddresses]]:
    """The function that lists them."""

    def examples(caller: gr.Request) -> list[ExampleAddresses]:
        """Lists our own examples: pairs of a reference photo and a generated picture, to try the others with.

        Returns:
            for each its name, title, description, the object's name, and the addresses of its pictures
        """
        return [_addresses(example, Caller(caller)) for example in shown]

    return examples


def _addresses(example: Example, caller: Caller) -> ExampleAddresses:
    folder = example.reference.parent
    return {
        "name": example.name,
        "title": example.meta.title,
        "description": example.meta.description,
        "object_name": example.meta.object_name,
        "reference": caller.address_of(example.reference),
        "reference_mask": caller.address_of(folder / "hrri_mask.png"),
        "generated": caller.address_of(example.generated),
        "scene": caller.address_of(folder / "hrgt.jpg"),
        "scene_mask": caller.address_of(folder / "hrgt_mask.png"),
    }
