"""Components that several pages share."""

from __future__ import annotations

from typing import Any

import gradio as gr

from refgc.request import SEED_LIMIT

DEFAULT_SEED = 0
# Of a comparison, in pixels; a taller picture is shown smaller.
MAX_HEIGHT = 720
# Browsers count in floating point, which holds whole numbers exactly up to here.
LARGEST_SEED = min(SEED_LIMIT, 2**53) - 1


def build_seed_field() -> gr.Number:
    """Add a field for the seed of everything random."""
    return gr.Number(
        DEFAULT_SEED,
        precision=0,
        minimum=0,
        maximum=LARGEST_SEED,
        label="Seed",
        info="The same seed gives the same pixels.",
    )


def thumbnail_gallery(pictures: list[Any], *, label: str, columns: int, elem_id: str) -> gr.Gallery:
    """Add thumbnails that are selected, not opened.

    Args:
        pictures: each with its caption.
        label: for screen readers.
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


def comparison_slider(label: str, elem_id: str) -> gr.ImageSlider:
    """Add a picture before and after, with a divider to drag.

    Args:
        label: stands over the picture.
        elem_id: identity in the page.
    """
    return gr.ImageSlider(
        label=label,
        interactive=False,
        buttons=["fullscreen"],
        max_height=MAX_HEIGHT,
        elem_id=elem_id,
        elem_classes="comparison",
    )
