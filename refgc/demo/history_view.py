"""This visit's results, small; picking one shows it again."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from refgc.demo.history import History
from refgc.demo.thumbnails import thumbnail_gallery


class HistoryView(NamedTuple):
    """The components of the history."""

    everything: gr.Column
    gallery: gr.Gallery

    def show(self, history: History) -> dict[Any, Any]:
        """The updates that show what was made; where that is nothing, the history is hidden."""
        thumbnails = [(str(entry.shown.thumbnail), entry.caption) for entry in history.entries]
        return {
            self.everything: gr.update(visible=bool(thumbnails)),
            self.gallery: gr.update(value=thumbnails, selected_index=None),
        }


def build_history() -> HistoryView:
    """Adds it to the page being built, hidden."""
    with gr.Column(visible=False, elem_id="history") as everything:
        gr.HTML("<h2>Your results</h2>")
        gallery = thumbnail_gallery([], label="Your results", columns=6, elem_id="results")
    return HistoryView(everything, gallery)
