"""Small pictures to pick one from."""

from __future__ import annotations

from typing import Any

import gradio as gr


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
