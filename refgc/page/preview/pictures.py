"""What the browser gets of a preview and of its refinement: light pictures to look at, and the exact files to keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refgc.diptych.comparison import Comparison, compare
from refgc.diptych.preview import PreviewRequest, PreviewResult
from refgc.diptych.preview_report import PreviewReport
from refgc.engine import RefineResult, Report
from refgc.imaging.image import MARKED, Mask, open_image, open_mask, save_image, to_pil
from refgc.outputs.preview import GENERATED, PICTURES, REPORT, write_preview
from refgc.outputs.result import image_text
from refgc.page.refine.pictures import LONGEST_SIDE, LONGEST_STAGE_SIDE, Box, object_window, write_picture, write_stage

REFINED = "refined.png"
CONDITIONS = {
    "condition picture": "What to draw: the object, and the scene without it",
    "condition mask": "Where to draw: white",
    "condition edges": "In which pose: the edges",
}
Picture = tuple[Path, str]


@dataclass(frozen=True, slots=True)
class ShownPreview:
    """One preview as files.

    Attributes:
        reference: the reference's file, as it was given.
        folder: holds what `write_preview` writes.
        conditions: the diptych's three conditions, with captions.
        story: reference, generated picture and, where it is known, the truth, with captions.
        report: what happened.
    """

    reference: Path
    folder: Path
    conditions: tuple[Picture, ...]
    story: tuple[Picture, ...]
    report: PreviewReport

    @property
    def generated(self) -> Path:
        """The LRGI, a PNG that says of itself what made it."""
        return self.folder / GENERATED

    @property
    def masks(self) -> tuple[Path, Path]:
        """The object in the reference and in the generated picture, the latter at the truth's size."""
        return self.folder / "reference_mask.png", self.folder / "scene_mask.png"

    @property
    def files(self) -> list[Path]:
        """Everything to keep."""
        return [*(self.folder / name for name in PICTURES), self.folder / REPORT]


@dataclass(frozen=True, slots=True)
class ShownRefinement:
    """The refined picture beside what it was made from.

    Attributes:
        story: reference, generated picture, refined picture and, where it is known, the truth, with captions.
        close_up: the generated picture only enlarged and the refined picture, cut to the object.
        download: the refined picture as PNG.
        comparison: both against the truth; None where it is not known.
        report: what the engine did.
    """

    story: tuple[Picture, ...]
    close_up: tuple[Path, Path]
    download: Path
    comparison: Comparison | None
    report: Report


def write_shown(result: PreviewResult, request: PreviewRequest, reference: Path, folder: Path) -> ShownPreview:
    """Writes everything the page shows of a preview into `folder`, which is made if missing."""
    write_preview(result, folder)
    report = result.report
    story = [
        (write_picture(to_pil(request.reference), folder / "reference.webp", LONGEST_STAGE_SIDE), "Reference (HRRI)"),
        (write_picture(to_pil(result.generated), folder / "generated.webp", LONGEST_STAGE_SIDE), _generated(report)),
    ]
    if report.upscaled is not None:
        story.append((write_stage(result.truth, folder / "truth.webp"), _truth(report)))
    conditions = tuple(
        (write_stage(result.stages[name], folder / f"{name.replace(' ', '-')}.webp"), caption)
        for name, caption in CONDITIONS.items()
    )
    return ShownPreview(reference, folder, conditions, tuple(story), report)


def write_refinement(shown: ShownPreview, refined: RefineResult) -> ShownRefinement:
    """Writes everything the page shows of a preview's refinement into the preview's folder."""
    folder, report = shown.folder, refined.report
    before, after = to_pil(refined.stages["upscaled"]), to_pil(refined.image)
    mask = open_mask(shown.masks[1], size=refined.image.size, name="object’s mask")
    window = object_window(_bounds(mask), after.size)
    close_up = (
        write_picture(before.crop(window), folder / "close-up-before.webp", LONGEST_SIDE),
        write_picture(after.crop(window), folder / "close-up-after.webp", LONGEST_SIDE),
    )
    picture = (write_picture(after, folder / "refined.webp", LONGEST_STAGE_SIDE), _refined(report))
    comparison = None
    if shown.report.upscaled is not None:
        truth = open_image(shown.folder / "truth.png", name="truth")
        comparison = compare(truth, refined.stages["upscaled"], refined.image, mask)
    save_image(refined.image, folder / REFINED, text=image_text(report))
    story = (*shown.story[:2], picture, *shown.story[2:])
    return ShownRefinement(story, close_up, folder / REFINED, comparison, report)


def _generated(report: PreviewReport) -> str:
    return f"Generated picture (LRGI){', simulated' if report.simulated else ''}: {_size(report.generated_size)}"


def _truth(report: PreviewReport) -> str:
    return "Truth (HRGT): the scene" if report.truth == "scene" else "Truth: the object put into the scene"


def _refined(report: Report) -> str:
    return f"{'Refined' if report.placed else 'Only enlarged'}: {_size(report.output_size)}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _bounds(mask: Mask) -> Box:
    inside = mask.values >= MARKED
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
