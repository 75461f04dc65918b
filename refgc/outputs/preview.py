"""The files of a preview: whether a folder may take them, and writing all of them or none."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from refgc import __version__
from refgc.diptych.preview import PreviewResult
from refgc.errors import InputError
from refgc.imaging.files import write_files
from refgc.imaging.image import Image, encoded, grey_image, mask_image
from refgc.outputs.result import Destination, check_destination, check_folder, image_text, report_bytes
from refgc.simulator.artifacts import record_text

GENERATED = "lrgi.png"
# The generated picture comes last, so that where it is present the rest is too.
PICTURES = (
    "reference_mask.png",
    "scene_mask.png",
    "truth.png",
    "condition_picture.png",
    "condition_mask.png",
    "condition_edges.png",
    "diptych.png",
    GENERATED,
)
REPORT = "report.json"


def check_preview_folder(folder: Path, report: Path | None, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuses a folder that could not be written, or where something would be lost; touches nothing.

    Args:
        folder: where the preview is to go; made when missing, other files in it stay.
        report: where its report is to go; None puts it into the folder.
        inputs: every file the preview is made from.
        overwrite: whether an earlier preview in the folder is to be replaced.

    Raises:
        InputError: one sentence that says what to change.
    """
    check_folder(folder, "output folder", make_folders=True)
    place = folder / REPORT if report is None else report
    sources = list(inputs)
    for name in PICTURES:
        check_destination(Destination(folder / name, place), sources, make_folders=True)
    if not overwrite and any((folder / name).exists() for name in (*PICTURES, REPORT)):
        raise InputError(
            f"The output folder, {str(folder)!r}, holds a preview already; choose another or add --overwrite."
        )


def write_preview(result: PreviewResult, folder: Path, report: Path | None = None) -> None:
    """Writes every file of a preview, all of them or none; the PNG metadata say what is simulated.

    Args:
        result: what a preview made.
        folder: made when missing; an earlier preview in it is replaced, other files stay.
        report: where the report goes; None puts it into the folder.

    Raises:
        OSError: the disk is full or the folder may not be written; it is as it was before.
    """
    place = folder / REPORT if report is None else report
    software = {"Software": f"RefGC-SR2 {__version__}"}
    labels = image_text(result.report)
    if result.report.artifacts is not None:
        labels |= record_text(result.report.artifacts)
    pictures = {
        "reference_mask.png": mask_image(result.reference_mask),
        "scene_mask.png": mask_image(result.mask),
        "truth.png": result.truth,
        "condition_picture.png": Image(result.conditions.picture),
        "condition_mask.png": grey_image(result.conditions.mask),
        "condition_edges.png": grey_image(result.conditions.edges),
        "diptych.png": result.diptych,
        GENERATED: result.generated,
    }
    texts = dict.fromkeys(pictures, software) | {"diptych.png": labels, GENERATED: labels}
    if result.report.truth == "composed":
        texts["truth.png"] = software | {"Comment": "Composed: the reference's object was put into the scene."}
    contents = {folder / name: partial(encoded, picture, name, text=texts[name]) for name, picture in pictures.items()}
    write_files({place: partial(report_bytes, result.report), **contents})
