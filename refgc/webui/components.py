"""The number that everything random comes of."""

from __future__ import annotations

from typing import Any

import gradio as gr

from refgc.request import SEED_LIMIT

DEFAULT_SEED = 0
# Browsers count in floating point, which holds whole numbers exactly up to here.
LARGEST_SEED = min(SEED_LIMIT, 2**53) - 1


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


# ==== thumbnails
def thumbnail_gallery(pictures: list[Any], *, label: str, columns: int, elem_id: str) -> gr.Gallery:
    """Thumbnails that are picked, not opened.

    Args:
        pictures: each with its caption.
        label: what they are, for those who do not see it.
        columns: on a wide screen.
        elem_id: identity in the page.
    """
    return gr.Gallery(
        pictures,
        label=label,
        show_label=False,
        columns=columns,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        container=False,
        elem_id=elem_id,
        elem_classes="examples",
    )
