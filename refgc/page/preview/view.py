"""The result of the preview tab: the conditions, the pictures from reference to truth, the figures, and the texts."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.utils import get_upload_folder

from refgc.diptych.comparison import Comparison
from refgc.diptych.preview_report import PreviewReport
from refgc.engine import Report
from refgc.page.marking.mask import Marking
from refgc.page.pictures import ShownPreview, ShownRefinement
from refgc.page.words import closer, outcome_of
from refgc.webui.components import html_with_files


class PreviewView(NamedTuple):
    """The components that a preview or its refinement changes."""

    conditions: gr.Gallery
    story: gr.Gallery
    summary: gr.HTML
    send: gr.Button
    comparison: gr.HTML
    figures: gr.HTML
    files: gr.File
    report: gr.JSON

    def show_preview(self, shown: ShownPreview) -> dict[Any, Any]:
        """The updates that show what the generator was given and what came of it, not refined yet."""
        return {
            self.conditions: gr.update(value=list(shown.conditions), selected_index=None),
            self.story: gr.update(value=list(shown.story), selected_index=None),
            self.summary: gr.update(value=preview_summary(shown.report)),
            self.comparison: "",
            self.figures: "",
            self.files: gr.update(value=[str(file) for file in shown.files]),
            self.report: gr.update(value=shown.report.model_dump(mode="json")),
        }

    def show_refinement(self, shown: ShownPreview, refined: ShownRefinement) -> dict[Any, Any]:
        """The updates that add the refined picture."""
        return {
            self.story: gr.update(value=list(refined.story), selected_index=None),
            self.comparison: refined.viewer("Preview"),
            self.figures: gr.update(value=figures(refined.comparison, refined.report)),
            self.files: gr.update(value=[str(file) for file in (*shown.files, refined.download)]),
        }


def build_preview_view() -> PreviewView:
    """Adds it to the tab being built; the style sheet hides what has nothing to show yet."""
    with gr.Column(elem_id="preview-result"):
        gr.HTML("<h2>What the generator is given</h2>")
        conditions = _gallery("Conditions", "conditions", columns=3)
        gr.HTML("<h2>From the reference to the refined picture</h2>")
        story = _gallery("Story", "story", columns=4)
        with gr.Row(equal_height=True):
            with gr.Column(scale=3, min_width=320):
                summary = gr.HTML("", elem_id="preview-summary")
            send = gr.Button("Send to the Refine tab", scale=1, min_width=240, elem_id="send")
        with gr.Row(elem_id="closeness"):
            with gr.Column(min_width=320):
                gr.HTML("<h2>Before and after</h2>")
                comparison = html_with_files("", Path(get_upload_folder()), "preview-comparison")
            with gr.Column(min_width=320):
                gr.HTML("<h2>How close it comes to the truth</h2>")
                numbers = gr.HTML("", apply_default_css=False, elem_id="figures")
        with gr.Accordion("All files and the full report", open=False, elem_id="preview-files"):
            files = gr.File(label="Files", file_count="multiple", interactive=False)
            report = gr.JSON(label="Report")
    return PreviewView(conditions, story, summary, send, comparison, numbers, files, report)


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


TITLE = "How details get lost, and come back"
STORY = (
    "A generator sees your reference only small, so it gets details wrong. Watch both halves: the object of a "
    "<b>reference photo</b> is drawn, small, into a <b>scene</b> that really shows it; refining then brings its detail "
    "back, and the scene tells how true that is."
)
SIMULATED = (
    "<b>Simulated here:</b> no GPU with DipRefGC’s weights, so no generative model draws. The four faults of such a "
    "model (distorted shape, wrong details, lost texture, low quality) are drawn onto the scene’s own object instead, "
    "or onto the reference’s where the scene shows another."
)
FIELD_WORDS = (
    "PSNR in dB and SSIM, against the truth. The paper calls the reference photo HRRI, the generated picture LRGI and "
    "the truth HRGT."
)
DRAWN = "DipRefGC draws on this server’s GPU."


def introduction(obstacle: str) -> str:
    """The purpose of the tab, and whether its pictures are generated or simulated.

    Args:
        obstacle: why the generator cannot run here; empty if it can.
    """
    kind = "simulated" if obstacle else "drawn"
    return f'<h2>{TITLE}</h2><p class="hint">{STORY}</p><p class="hint {kind}">{SIMULATED if obstacle else DRAWN}</p>'


def missing_marks(reference: Marking | None, scene: Marking | None) -> str:
    """One sentence that says which picture or mark is missing; empty where both objects are marked."""
    if reference is None and scene is None:
        return "Add the two pictures first: the reference photo and the scene."
    if reference is None:
        return "Add the reference photo first: the sharp picture of the object."
    if scene is None:
        return "Add the scene first: the picture that the object is drawn into."
    if reference.mask is None:
        return "Mark the object in the reference photo first: click it, or drag a box around it."
    if scene.mask is None:
        return "Mark the object, or the place for it, in the scene first: click it, or drag a box around it."
    return ""


def preview_summary(report: PreviewReport) -> str:
    """The report's message on how the picture was generated, as HTML."""
    return f'<p class="hint">{escape(report.message)}</p>'


def figures(comparison: Comparison | None, report: Report) -> str:
    """What the engine said, how near to the truth it came, and under "Details" the field's figures of that."""
    message = f'<p class="message">{escape(report.message)}</p>'
    return (
        f'<div class="report {outcome_of(report)}">{message}{"" if comparison is None else _nearness(comparison)}</div>'
    )


def _nearness(comparison: Comparison) -> str:
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{closer(gain)}</dd></div>"
        for name, gain in (("The object", comparison.psnr_gain_inside), ("The whole picture", comparison.psnr_gain))
    )
    return (
        f'<dl class="nearness">{rows}</dl><details><summary>Details</summary>{_table(comparison)}'
        f'<p class="hint">{FIELD_WORDS}</p></details>'
    )


def _table(comparison: Comparison) -> str:
    one, other = comparison.upscaled, comparison.refined
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{before:.{digits}f}{unit}</td><td>{after:.{digits}f}{unit}</td>'
        f'<td class="{"better" if after > before else "worse"}">{after - before:+.{digits}f}{unit}</td></tr>'
        for name, before, after, digits, unit in (
            ("PSNR, object", one.psnr_inside, other.psnr_inside, 2, " dB"),
            ("SSIM, object", one.ssim_inside, other.ssim_inside, 3, ""),
            ("PSNR, whole picture", one.psnr, other.psnr, 2, " dB"),
            ("SSIM, whole picture", one.ssim, other.ssim, 3, ""),
        )
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Against the truth", "Before", "After", "Gain"))
    return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
