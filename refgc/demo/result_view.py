"""The part of the page that shows a result."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import gradio as gr

from refgc.demo.display import ShownResult
from refgc.demo.report_text import report_summary

MAX_HEIGHT = 720
NOTHING_PLACED = (
    "There is no close-up, because nothing was brought in. A reference that shows the same side of the object, sharp "
    "and with lettering or texture on it, can be found more easily; so can an object that is large in both pictures."
)


class ResultView(NamedTuple):
    """Every component that a result changes."""

    caption: gr.HTML
    whole: gr.ImageSlider
    summary: gr.HTML
    download: gr.DownloadButton
    details: gr.Row
    close_up: gr.ImageSlider
    no_close_up: gr.HTML
    stages: gr.Gallery
    report: gr.JSON

    def show(self, shown: ShownResult, caption: str) -> dict[Any, Any]:
        """The updates that put `shown` on the page under `caption`."""
        return {
            self.caption: gr.update(value=f"<h2>{escape(caption)}</h2>"),
            self.whole: gr.update(value=shown.whole, slider_position=50),
            self.summary: gr.update(value=report_summary(shown.report)),
            self.download: gr.update(value=shown.download, visible=True),
            self.details: gr.update(visible=True),
            self.close_up: gr.update(value=shown.close_up, visible=shown.close_up is not None, slider_position=50),
            self.no_close_up: gr.update(visible=shown.close_up is None),
            self.stages: gr.update(value=list(shown.stages), selected_index=None),
            self.report: gr.update(value=shown.report.model_dump(mode="json")),
        }


class Comparison(NamedTuple):
    """What stands beside the inputs."""

    caption: gr.HTML
    whole: gr.ImageSlider
    summary: gr.HTML
    download: gr.DownloadButton


def build_comparison() -> Comparison:
    """The whole picture before and after, the report in short, and the file to keep."""
    return Comparison(
        caption=gr.HTML("<h2>Result</h2>", elem_id="caption"),
        whole=comparison_slider("Whole picture", "whole"),
        summary=gr.HTML("", elem_id="summary"),
        download=gr.DownloadButton("Download PNG", variant="primary", visible=False, elem_id="download"),
    )


def build_details(comparison: Comparison) -> ResultView:
    """Adds the row below: the object close up, the stages, the report in full."""
    with gr.Row(visible=False, elem_id="details") as details:
        with gr.Column(min_width=320):
            gr.HTML("<h2>The object, close up</h2>")
            close_up = comparison_slider("Close-up", "close-up")
            no_close_up = gr.HTML(f'<p class="hint">{NOTHING_PLACED}</p>', visible=False, elem_id="no-close-up")
        with gr.Column(min_width=320):
            gr.HTML("<h2>How it was made, step by step</h2>")
            stages = gr.Gallery(
                label="Stage pictures",
                show_label=False,
                columns=3,
                height="auto",
                object_fit="contain",
                interactive=False,
                buttons=["fullscreen"],
                elem_id="stages",
                elem_classes="pictures",
            )
            with gr.Accordion("Full report (JSON)", open=False, elem_id="json"):
                report = gr.JSON(label="Report", show_label=False)
    return ResultView(*comparison, details, close_up, no_close_up, stages, report)


def comparison_slider(label: str, elem_id: str) -> gr.ImageSlider:
    """A picture before and after, with a divider to drag."""
    return gr.ImageSlider(
        label=label,
        interactive=False,
        buttons=["fullscreen"],
        max_height=MAX_HEIGHT,
        elem_id=elem_id,
        elem_classes="comparison",
    )
