"""The Gallery tab: our examples with cached results, and the authors' pictures where they can be downloaded."""

from __future__ import annotations

import gradio as gr

from refgc.page.examples import Example
from refgc.page.gallery.cards import CREDIT, render_ours, render_paper
from refgc.page.gallery.manifest import GALLERY_FOLDER, read_manifest
from refgc.page.gallery.paper import PaperPictures
from refgc.webui.components import html_with_files

FETCHING = '<p class="hint" role="status">Fetching the authors’ pictures …</p>'
CONNECT = "window.refgcConnectGallery(element);"


def build_gallery_tab(examples: list[Example], paper: PaperPictures) -> None:
    """Add our cards, and the authors' cards when the tab is opened and their pictures are downloaded.

    Args:
        examples: whose titles and descriptions the cards bear.
        paper: where the authors' pictures come from.
    """
    # The server may hand these files out from where they are, however old.
    gr.set_static_paths(GALLERY_FOLDER)
    html_with_files(render_ours(examples, read_manifest()), GALLERY_FOLDER, "gallery-cards", CONNECT)
    credit = f'<div class="paper"><h2>From the paper</h2><p class="hint">{CREDIT}</p></div>'
    gr.HTML(credit, apply_default_css=False, elem_id="paper-credit")
    pictures = html_with_files(FETCHING, paper.folder, "paper-cards", f"{CONNECT} trigger('shown');")

    async def show_paper() -> str:
        return render_paper(await paper.get())

    pictures.shown(
        show_paper,
        outputs=pictures,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
