"""What the browser gets of a result: light pictures to look at, and the exact PNG to keep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from refgc.engine import RefineResult, Report
from refgc.imaging.image import Image, save_image, to_pil
from refgc.outputs.result import image_text
from refgc.page.examples import THUMBNAIL_SIDE
from refgc.page.words import capitalised

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
    """The same of a result that was made here, with what can be kept of it.

    Attributes:
        stages: (picture, caption) in the order they were made.
        download: the result as PNG, exact, with the report in its text metadata.
    """

    stages: tuple[tuple[Path, str], ...]
    download: Path


def write_result(result: RefineResult, folder: Path) -> ShownResult:
    """Writes everything the page shows of `result` into `folder`, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    report = result.report
    download = folder / download_name(report)
    before, after = to_pil(result.stages["upscaled"]), to_pil(result.image)
    window = object_window(report.object_box, after.size) if report.placed and report.object_box else None
    # Compressing a large PNG takes seconds, on one core and without Python's lock: the others are written meanwhile.
    with ThreadPoolExecutor(max_workers=1) as beside:
        saving = beside.submit(save_image, result.image, download, text=image_text(report))
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
    """Writes what is in the window of two pictures of the same size."""
    return (
        write_picture(before.crop(window), folder / CLOSE_UPS[0], LONGEST_SIDE),
        write_picture(after.crop(window), folder / CLOSE_UPS[1], LONGEST_SIDE),
    )


def download_name(report: Report) -> str:
    """A file name that says what the file is: refined-4x-1024x1024.png."""
    width, height = report.output_size
    return f"refined-{report.scale}x-{width}x{height}.png"


def write_stage(picture: Image, path: Path) -> Path:
    """Writes one stage picture, at most 1280 pixels long."""
    return write_picture(to_pil(picture), path, LONGEST_STAGE_SIDE)


def write_picture(picture: PIL.Image.Image, path: Path, longest_side: int) -> Path:
    """Writes `picture` as near-lossless WebP, scaled down where it is longer than `longest_side` pixels."""
    shown = picture.convert("RGB")
    shown.thumbnail((longest_side, longest_side), PIL.Image.Resampling.LANCZOS)
    shown.save(path, "WEBP", quality=92, method=2)
    return path


# ==== crop
Box = tuple[int, int, int, int]

MARGIN = 0.12
WIDEST, TALLEST = 16 / 9, 3 / 4


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
    """A stretch of `length` about `centre`, moved and if need be cut so that it lies in [0, limit]."""
    whole = min(limit, max(1, round(length)))
    start = min(max(0, round(centre - whole / 2)), limit - whole)
    return start, start + whole
