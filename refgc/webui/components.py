"""Components that several pages share."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio.data_classes import FileData

from refgc.request import SEED_LIMIT
from refgc.webui.viewer import PLACE

DEFAULT_SEED = 0
# The value is HTML written by this package. In its attributes the placeholder is replaced by the folder's address.
TEMPLATE = f"""${{value.replaceAll('="{PLACE}', '="' + folder.url + '/')}}"""
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


def html_with_files(value: str, folder: Path, elem_id: str, script: str | None = None) -> gr.HTML:
    """Add HTML whose attributes name files by `PLACE` and their path in `folder`.

    A block around it may be hidden by the style sheet only: in one that is not visible Gradio 6.31 loses the folder's
    address.

    Args:
        value: HTML written by this package.
        folder: files that the server may hand out.
        elem_id: identity in the page.
        script: run once when the component is there.
    """
    address = FileData(path=str(folder), url=f"/gradio_api/file={quote(str(folder))}")
    return gr.HTML(
        value,
        html_template=TEMPLATE,
        js_on_load=script,
        apply_default_css=False,
        elem_id=elem_id,
        folder=address.model_dump(),
    )
