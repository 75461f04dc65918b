"""The preview in words and figures, as HTML."""

from __future__ import annotations

from html import escape

from refgc.demo.marking import Marking
from refgc.diprefgc.comparison import Comparison
from refgc.diprefgc.preview_report import PreviewReport
from refgc.engines import Report

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
DRAWN = "DipRefGC draws on this server’s GPU."


def introduction(obstacle: str) -> str:
    """What the tab is for, and plainly whether its pictures are generated or simulated."""
    kind = "simulated" if obstacle else "drawn"
    return f'<h2>{TITLE}</h2><p class="hint">{STORY}</p><p class="hint {kind}">{SIMULATED if obstacle else DRAWN}</p>'


def missing_marks(reference: Marking | None, scene: Marking | None) -> str:
    """One sentence that says what is still to be given; empty where both objects are marked."""
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
    """How the generated picture came about."""
    return f'<p class="hint">{escape(report.message)}</p>'


def figures(comparison: Comparison | None, report: Report) -> str:
    """PSNR and SSIM of the enlarged and of the refined picture against the truth, and what the engine said."""
    message = f'<p class="message">{escape(report.message)}</p>'
    state = "placed" if report.placed else "unplaced"
    return f'<div class="report {state}">{message}{"" if comparison is None else _table(comparison)}</div>'


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
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Against the truth", "Only enlarged", "Refined", "Gain"))
    return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
