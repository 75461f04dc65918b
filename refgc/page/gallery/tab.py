"""The Gallery tab: our examples with cached results, and the authors' pictures where they can be downloaded."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import gradio as gr
from gradio.data_classes import FileData

from refgc.page.examples import Example
from refgc.page.gallery.cards import CREDIT, PLACE, render_ours, render_paper
from refgc.page.gallery.manifest import GALLERY_FOLDER, read_manifest
from refgc.page.gallery.paper import PaperPictures

FETCHING = '<p class="hint" role="status">Fetching the authors’ pictures …</p>'
# The value is HTML written by this package. In its attributes the placeholder is replaced by the folder's address.
TEMPLATE = f"""${{value.replaceAll('="{PLACE}', '="' + folder.url + '/')}}"""
CONNECT = "window.refgcConnectGallery(element);"


def build_gallery_tab(examples: list[Example], paper: PaperPictures) -> None:
    """Add our cards, and the authors' cards when the tab is opened and their pictures are downloaded.

    Args:
        examples: whose titles and descriptions the cards bear.
        paper: where the authors' pictures come from.
    """
    # The server may hand these files out from where they are, however old.
    gr.set_static_paths(GALLERY_FOLDER)
    _html(render_ours(examples, read_manifest()), GALLERY_FOLDER, CONNECT, "gallery-cards")
    credit = f'<div class="paper"><h2>From the paper</h2><p class="hint">{CREDIT}</p></div>'
    gr.HTML(credit, apply_default_css=False, elem_id="paper-credit")
    pictures = _html(FETCHING, paper.folder, f"{CONNECT} trigger('shown');", "paper-cards")

    async def show_paper() -> str:
        return render_paper(await paper.get())

    pictures.shown(
        show_paper,
        outputs=pictures,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )


def _html(value: str, folder: Path, script: str, elem_id: str) -> gr.HTML:
    address = FileData(path=str(folder), url=f"/gradio_api/file={quote(str(folder))}")
    return gr.HTML(
        value,
        html_template=TEMPLATE,
        js_on_load=script,
        apply_default_css=False,
        elem_id=elem_id,
        folder=address.model_dump(),
    )
