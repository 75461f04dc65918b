"""The number that everything random comes of."""

from __future__ import annotations

import gradio as gr

from refgc.demo.asked import DEFAULT_SEED

LARGEST_SEED = 2**31 - 1


def build_seed_field() -> gr.Number:
    """Adds it to the options being built."""
    return gr.Number(
        DEFAULT_SEED,
        precision=0,
        minimum=0,
        maximum=LARGEST_SEED,
        label="Seed",
        info="The same seed gives the same pixels.",
    )
