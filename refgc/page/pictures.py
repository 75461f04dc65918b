"""The files of a result and of a preview: light pictures to look at in the browser, and the exact files to keep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from refgc.diptych.comparison import Comparison, compare
from refgc.diptych.preview import PreviewRequest, PreviewResult
from refgc.diptych.preview_report import PreviewReport
from refgc.engine import RefineResult, Report
from refgc.imaging.encode import FileOptions
from refgc.imaging.image import DEFAULT_OPTIONS, MARKED, Image, Mask, open_image, open_mask, save_image, to_pil
from refgc.outputs.preview import GENERATED, PICTURES, REPORT, write_preview
from refgc.outputs.result import image_text
from refgc.page.examples import THUMBNAIL_SIDE
from refgc.page.words import capitalised

Box = tuple[int, int, int, int]

# A 4096 pixel PNG is tens of megabytes; 2048 pixels fill any screen, and the object's window is cut before scaling.
LONGEST_SIDE = 2048
LONGEST_STAGE_SIDE = 1280
CLOSE_UPS = "close-up-before.webp", "close-up-after.webp"
# What a stage picture shows, in a visitor's words; a stage that is not named here keeps its own name.
STAGE_CAPTIONS = {
    "upscaled": "The picture, only enlarged",
    "matches": "Points found in both pictures",
    "aligned reference": "The reference, fitted into place",
    "denoising": "The model at work",
    "confidence": "White: taken from the reference",
    "object in the reference": "Object found in the reference",
    "object in the picture": "Object found in the picture",
}
# Of the object's longer side, and the widest and tallest shapes of the window; chosen by hand, not fitted.
MARGIN = 0.12
WIDEST, TALLEST = 16 / 9, 3 / 4
REFINED = "refined.png"
CONDITIONS = {
    "condition picture": "What to draw: the object, and the scene without it",
    "condition mask": "Where to draw: white",
    "condition edges": "In which pose: the edges",
}
Picture = tuple[Path, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPictures:
    """Files of one result to look at, ready for the page.

    Attributes:
        whole: upscaled generated picture and result, whole frame.
        close_up: the same two, cut to the object; None when nothing was placed.
        thumbnail: the result, small.
        report: what happened.
    """

    whole: tuple[Path, Path]
    close_up: tuple[Path, Path] | None
    thumbnail: Path
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownResult(ShownPictures):
    """Files of a result of this server, with its stages and its download.

    Attributes:
        stages: (picture, caption) in the order they were made.
        download: the result as PNG, exact, with its transparency and the report in its text metadata.
    """

    stages: tuple[tuple[Path, str], ...]
    download: Path


def write_result(result: RefineResult, folder: Path, options: FileOptions = DEFAULT_OPTIONS) -> ShownResult:
    """Write the files of a result into `folder`, which is made if missing; `options` are those of the download."""
    folder.mkdir(parents=True, exist_ok=True)
    report = result.report
    download = folder / download_name(report)
    before, after = to_pil(result.stages["upscaled"]), to_pil(result.image)
    window = object_window(report.object_box, after.size) if report.placed and report.object_box else None
    # Compressing a large PNG takes seconds of one core and does not hold Python's lock, so the others are written at
    # the same time.
    with ThreadPoolExecutor(max_workers=1) as beside:
        saving = beside.submit(
            save_image, result.image, download, text=image_text(report), profile=options.profile, bits=options.bits
        )
        whole = (
            write_picture(before, folder / "before.webp", LONGEST_SIDE),
            write_picture(after, folder / "after.webp", LONGEST_SIDE),
        )
        close_up = window and write_close_up(before, after, window, folder)
        thumbnail = write_picture(after, folder / "thumbnail.webp", THUMBNAIL_SIDE)
        stages = tuple(
            (write_stage(picture, folder / f"stage-{number}.webp"), STAGE_CAPTIONS.get(name, capitalised(name)))
            for number, (name, picture) in enumerate(result.stages.items(), start=1)
        )
        saving.result()
    return ShownResult(
        whole=whole, close_up=close_up, thumbnail=thumbnail, stages=stages, download=download, report=report
    )


def write_close_up(before: PIL.Image.Image, after: PIL.Image.Image, window: Box, folder: Path) -> tuple[Path, Path]:
    """Write the windows of two pictures of the same size."""
    return (
        write_picture(before.crop(window), folder / CLOSE_UPS[0], LONGEST_SIDE),
        write_picture(after.crop(window), folder / CLOSE_UPS[1], LONGEST_SIDE),
    )


def download_name(report: Report) -> str:
    """The name of the PNG, such as refined-4x-1024x1024.png."""
    width, height = report.output_size
    return f"refined-{report.scale}x-{width}x{height}.png"


def write_stage(picture: Image, path: Path) -> Path:
    """Write one stage picture, at most 1280 pixels long."""
    return write_picture(to_pil(picture), path, LONGEST_STAGE_SIDE)


def write_picture(picture: PIL.Image.Image, path: Path, longest_side: int) -> Path:
    """Write `picture` as near-lossless WebP, scaled down where it is longer than `longest_side` pixels."""
    shown = picture.convert("RGB")
    shown.thumbnail((longest_side, longest_side), PIL.Image.Resampling.LANCZOS)
    shown.save(path, "WEBP", quality=92, method=2)
    return path


def object_window(object_box: Box, size: tuple[int, int]) -> Box:
    """Returns (left, top, right, bottom) in pixels: `object_box` with a margin, inside a picture of `size`.

    The margin is 12% of the object's longer side. A very flat or very tall window is opened along its short side, as
    far as the picture goes, so that the slider shows it at a readable size.
    """
    left, top, right, bottom = object_box
    margin = MARGIN * max(right - left, bottom - top)
    width = right - left + 2 * margin
    height = bottom - top + 2 * margin
    left, right = _span((left + right) / 2, max(width, height * TALLEST), size[0])
    top, bottom = _span((top + bottom) / 2, max(height, width / WIDEST), size[1])
    return left, top, right, bottom


def _span(centre: float, length: float, limit: int) -> tuple[int, int]:
    """An interval of `length` about `centre`, moved and if need be cut so that it lies in [0, limit]."""
    whole = min(limit, max(1, round(length)))
    start = min(max(0, round(centre - whole / 2)), limit - whole)
    return start, start + whole


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
        """The LRGI, a PNG whose metadata say whether it is simulated."""
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
    """Files of a preview's refinement.

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
    """Write the files of a preview into `folder`, which is made if missing."""
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
    """Write the files of a preview's refinement into the preview's folder."""
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
