"""The files of a result and of a preview: light pictures to look at in the browser, and the exact files to keep."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from unicodedata import normalize
from urllib.parse import quote

import numpy as np
import PIL.Image
from gradio.utils import get_upload_folder

from refgc.diptych.comparison import Comparison, compare
from refgc.diptych.preview import PreviewRequest, PreviewResult
from refgc.diptych.preview_report import PreviewReport
from refgc.engine import RefineResult, Report
from refgc.imaging.encode import FileOptions
from refgc.imaging.image import DEFAULT_OPTIONS, MARKED, Image, Mask, open_image, open_mask, save_image, to_pil
from refgc.outputs.preview import GENERATED, PICTURES, REPORT, write_preview
from refgc.outputs.result import image_text
from refgc.page.examples import THUMBNAIL_SIDE, is_ours
from refgc.page.words import capitalised
from refgc.webui.viewer import PLACE, Box, ViewedPicture, ViewedReference, viewer_html

# A 4096 pixel PNG is tens of megabytes. Pictures of this longest side come first; those with every pixel are loaded
# when the visitor zooms in. JPEG is written ten times as fast as WebP.
LONGEST_SIDE = 2048
LONGEST_STAGE_SIDE = 1280
FULL_QUALITY = 95
REFERENCE = "reference.webp"
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
REFINED = "refined.png"
# The formats that a visitor may keep a result in, and their suffixes; the first is the one that is made at once.
DOWNLOAD_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}
# Letters of a visitor's name that a download keeps, chosen by hand: more is not read in a list of files.
LONGEST_STEM = 60
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
        whole: upscaled generated picture and result, of at most `LONGEST_SIDE` pixels.
        full: the same two with every pixel; None where `whole` has them all.
        reference: the reference photo, of at most `LONGEST_SIDE` pixels.
        thumbnail: the result, small.
        report: what happened.
    """

    whole: tuple[Path, Path]
    full: tuple[Path, Path] | None
    reference: Path
    thumbnail: Path
    report: Report

    def viewer(self, title: str) -> str:
        """The markup of the viewer of both pictures, for `refgc.webui.components.html_with_files`."""
        before, after = (
            ViewedPicture(address_in_uploads(light), address_in_uploads(full) if full else None)
            for light, full in zip(self.whole, self.full or (None, None), strict=True)
        )
        report = self.report
        return viewer_html(
            before,
            after,
            report.output_size,
            title=title,
            box=report.object_box,
            reference=ViewedReference(
                ViewedPicture(address_in_uploads(self.reference)), report.reference_size, report.placement
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownResult(ShownPictures):
    """Files of a result of this server, with its stages and its download.

    Attributes:
        stages: (picture, caption) in the order they were made.
        download: the result as PNG, exact, with its transparency and the report in its text metadata.
    """

    stages: tuple[tuple[Path, str], ...]
    download: Path


def address_in_uploads(path: Path) -> str:
    """The address of a file in Gradio's folder of uploads, for `refgc.webui.components.html_with_files`."""
    return PLACE + quote(path.relative_to(get_upload_folder()).as_posix())


def write_result(
    result: RefineResult, reference: Image, folder: Path, options: FileOptions = DEFAULT_OPTIONS
) -> ShownResult:
    """Write the files of a result into `folder`, which is made if missing.

    Args:
        result: what the engine made.
        reference: the photo that it was made with.
        folder: in Gradio's folder of uploads.
        options: of the download.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun, report = monotonic(), result.report
    download = folder / download_name(report)
    before, after = to_pil(result.stages["upscaled"]), to_pil(result.image)
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
        full = None
        if max(after.size) > LONGEST_SIDE:
            full = _write_full(before, folder / "before-full.jpg"), _write_full(after, folder / "after-full.jpg")
        shown_reference = write_picture(to_pil(reference), folder / REFERENCE, LONGEST_SIDE)
        thumbnail = write_picture(after, folder / "thumbnail.webp", THUMBNAIL_SIDE)
        stages = tuple(
            (write_stage(picture, folder / f"stage-{number}.webp"), STAGE_CAPTIONS.get(name, capitalised(name)))
            for number, (name, picture) in enumerate(result.stages.items(), start=1)
        )
        saving.result()
    # The visitor waits for the files, too. They cannot tell it themselves.
    seconds = {**report.seconds, "saving": round(monotonic() - begun, 4)}
    return ShownResult(
        whole=whole,
        full=full,
        reference=shown_reference,
        thumbnail=thumbnail,
        stages=stages,
        download=download,
        report=report.model_copy(update={"seconds": seconds}),
    )


def _write_full(picture: PIL.Image.Image, path: Path) -> Path:
    picture.convert("RGB").save(path, "JPEG", quality=FULL_QUALITY, subsampling=0)
    return path


def download_name(report: Report) -> str:
    """The name of the PNG, such as refined-4x-1024x1024.png."""
    width, height = report.output_size
    return f"refined-{report.scale}x-{width}x{height}.png"


def stem_of(generated: Path) -> str:
    """What files that are made of a generated picture are named after; one of our examples is named by its folder.

    The name is a visitor's, and anything may be in it. Letters lose their accents. What is neither a letter of ASCII
    nor a digit, a hyphen or an underscore is left out.
    """
    name = generated.parent.name if is_ours(generated) else generated.stem
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain)[:LONGEST_STEM].strip("-_") or "picture"


def refined_name(generated: Path, suffix: str = ".png") -> str:
    """The name of a result's file that a visitor keeps, such as dog-refined.png; see `stem_of`."""
    return f"{stem_of(generated)}-refined{suffix}"


def named_download(shown: ShownResult, name: str) -> Path:
    """The result's file under another name, in its own folder.

    Args:
        shown: the result.
        name: such as dog-refined.webp; its suffix is one of `DOWNLOAD_FORMATS`.

    Raises:
        InputError: the result is too large for the format, or has been deleted.
    """
    target = shown.download.with_name(name)
    if target.is_file():
        return target
    if target.suffix != shown.download.suffix:
        save_image(open_image(shown.download, name="result"), target)
        return target
    try:
        os.link(shown.download, target)
    except OSError:  # another thread was first, or a file system without links
        shutil.copyfile(shown.download, target)
    return target


def write_stage(picture: Image, path: Path) -> Path:
    """Write one stage picture, at most 1280 pixels long."""
    return write_picture(to_pil(picture), path, LONGEST_STAGE_SIDE)


def write_picture(picture: PIL.Image.Image, path: Path, longest_side: int) -> Path:
    """Write `picture` as near-lossless WebP, scaled down where it is longer than `longest_side` pixels."""
    shown = picture.convert("RGB")
    shown.thumbnail((longest_side, longest_side), PIL.Image.Resampling.LANCZOS)
    shown.save(path, "WEBP", quality=92, method=2)
    return path


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
        whole: the generated picture only enlarged and the refined picture.
        box: (left, top, right, bottom), the object in pixels of both.
        download: the refined picture as PNG.
        comparison: both against the truth; None where it is not known.
        report: what the engine did.
    """

    story: tuple[Picture, ...]
    whole: tuple[Path, Path]
    box: Box
    download: Path
    comparison: Comparison | None
    report: Report

    def viewer(self, title: str) -> str:
        """The markup of the viewer of both pictures, for `refgc.webui.components.html_with_files`."""
        before, after = (ViewedPicture(address_in_uploads(path)) for path in self.whole)
        return viewer_html(before, after, self.report.output_size, title=title, box=self.box)


def write_shown(result: PreviewResult, request: PreviewRequest, reference: Path, folder: Path) -> ShownPreview:
    """Write the files of a preview into `folder`, which is made if missing."""
    write_preview(result, folder)
    report = result.report
    story = [
        (
            write_picture(to_pil(request.reference), folder / "reference.webp", LONGEST_STAGE_SIDE),
            "Reference photo",
        ),
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
    whole = (
        write_picture(before, folder / "before.webp", LONGEST_SIDE),
        write_picture(after, folder / "after.webp", LONGEST_SIDE),
    )
    picture = (write_picture(after, folder / "refined.webp", LONGEST_STAGE_SIDE), _refined(report))
    comparison = None
    if shown.report.upscaled is not None:
        truth = open_image(shown.folder / "truth.png", name="truth")
        comparison = compare(truth, refined.stages["upscaled"], refined.image, mask)
    save_image(refined.image, folder / REFINED, text=image_text(report))
    story = (*shown.story[:2], picture, *shown.story[2:])
    return ShownRefinement(story, whole, _bounds(mask), folder / REFINED, comparison, report)


def _generated(report: PreviewReport) -> str:
    return f"Generated picture{', simulated' if report.simulated else ''}: {_size(report.generated_size)}"


def _truth(report: PreviewReport) -> str:
    return "Truth: the scene" if report.truth == "scene" else "The truth: the object put into the scene"


def _refined(report: Report) -> str:
    return f"{'Refined' if report.placed else 'Only enlarged'}: {_size(report.output_size)}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _bounds(mask: Mask) -> Box:
    inside = mask.values >= MARKED
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
