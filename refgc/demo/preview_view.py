"""The part of the preview tab that shows what was made: the conditions, the story in pictures, the figures."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from refgc.demo.preview_display import ShownPreview, ShownRefinement
from refgc.demo.preview_text import figures, preview_summary
from refgc.demo.result_view import comparison_slider


class PreviewView(NamedTuple):
    """Every component that a preview or its refinement changes."""

    everything: gr.Column
    conditions: gr.Gallery
    story: gr.Gallery
    summary: gr.HTML
    send: gr.Button
    closeness: gr.Row
    close_up: gr.ImageSlider
    figures: gr.HTML
    files: gr.File
    report: gr.JSON

    def show_preview(self, shown: ShownPreview) -> dict[Any, Any]:
        """The updates that show what the generator was given and what came of it, not refined yet."""
        return {
            self.everything: gr.update(visible=True),
            self.conditions: gr.update(value=list(shown.conditions), selected_index=None),
            self.story: gr.update(value=list(shown.story), selected_index=None),
            self.summary: gr.update(value=preview_summary(shown.report)),
            self.closeness: gr.update(visible=False),
            self.files: gr.update(value=[str(file) for file in shown.files]),
            self.report: gr.update(value=shown.report.model_dump(mode="json")),
        }

    def show_refinement(self, shown: ShownPreview, refined: ShownRefinement) -> dict[Any, Any]:
        """The updates that add the refined picture."""
        return {
            self.story: gr.update(value=list(refined.story), selected_index=None),
            self.closeness: gr.update(visible=True),
            self.close_up: gr.update(value=refined.close_up, slider_position=50),
            self.figures: gr.update(value=figures(refined.comparison, refined.report)),
            self.files: gr.update(value=[str(file) for file in (*shown.files, refined.download)]),
        }


def build_preview_view() -> PreviewView:
    """Adds it to the tab being built, hidden until there is something to show."""
    with gr.Column(visible=False, elem_id="preview-result") as everything:
        gr.HTML("<h2>What the generator is given</h2>")
        conditions = _gallery("Conditions", "conditions", columns=3)
        gr.HTML("<h2>From the reference to the refined picture</h2>")
        story = _gallery("Story", "story", columns=4)
        with gr.Row(equal_height=True):
            with gr.Column(scale=3, min_width=320):
                summary = gr.HTML("", elem_id="preview-summary")
            send = gr.Button("Send to the Refine tab", scale=1, min_width=240, elem_id="send")
        with gr.Row(visible=False, elem_id="closeness") as closeness:
            with gr.Column(min_width=320):
                gr.HTML("<h2>The object, close up</h2>")
                close_up = comparison_slider("Close-up", "preview-close-up")
            with gr.Column(min_width=320):
                gr.HTML("<h2>How close it comes to the truth</h2>")
                numbers = gr.HTML("", apply_default_css=False, elem_id="figures")
        with gr.Accordion("All files and the full report", open=False, elem_id="preview-files"):
            files = gr.File(label="Files", file_count="multiple", interactive=False)
            report = gr.JSON(label="Report")
    return PreviewView(everything, conditions, story, summary, send, closeness, close_up, numbers, files, report)


def _gallery(label: str, elem_id: str, *, columns: int) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        show_label=False,
        columns=columns,
        height="auto",
        object_fit="contain",
        interactive=False,
        buttons=["fullscreen"],
        elem_id=elem_id,
        elem_classes="pictures",
    )
