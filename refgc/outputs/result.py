"""The files of a refinement: where they go, whether they may go there, and writing all of them or none."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from refgc import __version__
from refgc.engine import RefineResult
from refgc.errors import InputError, printable
from refgc.imaging.encode import FORMATS, FileOptions, keeps_transparency
from refgc.imaging.files import real_path, write_files
from refgc.imaging.image import DEFAULT_OPTIONS, Image, encoded
from refgc.outputs.layer_files import check_layers, layers_bytes

STAGE_PATTERN = "stage-*.png"


@dataclass(frozen=True, slots=True)
class Destination:
    """The places one result is written to.

    Attributes:
        image: the refined picture; its suffix names the format.
        report: the report as JSON, or None.
        stages: the folder of the pictures that explain the result, or None; made when missing.
        layers: the refined picture as layers, .ora or .psd, or None.
    """

    image: Path
    report: Path | None = None
    stages: Path | None = None
    layers: Path | None = None

    def is_finished(self) -> bool:
        """Whether everything asked for is there."""
        return (
            self.image.is_file()
            and (self.report is None or self.report.is_file())
            and (self.stages is None or any(self.stages.glob(STAGE_PATTERN)))
            and (self.layers is None or self.layers.is_file())
        )


def check_destination(destination: Destination, inputs: Iterable[Path], *, make_folders: bool) -> None:
    """Refuses a destination that could not be written, or that would overwrite an input; changes no file.

    Args:
        destination: where the result is to go.
        inputs: every file the result is made from.
        make_folders: whether missing folders of the image and the report are going to be made.

    Raises:
        InputError: one sentence that says what to change.
    """
    try:
        _check(destination, inputs, make_folders=make_folders)
    except OSError as error:
        raise InputError(f"{error.filename!r} cannot be written ({error.strerror}); choose another name.") from error


def check_folder(folder: Path, called: str, *, make_folders: bool) -> None:
    """Refuses a folder that cannot be written to, or made where `make_folders`; leaves nothing behind.

    A file is written in trial, since a folder's permissions do not tell of a disk that is read-only, and an
    administrator may write everywhere by them.

    Raises:
        InputError: one sentence that calls the folder `called`.
    """
    place = real_path(folder)
    if not place.exists() and not make_folders:
        raise InputError(f"The {called}, {str(folder)!r}, does not exist; make it first or choose another.")
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    if not existing.is_dir():
        raise InputError(f"The {called}, {str(folder)!r}, is or lies inside a file; choose another.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"The {called}, {str(folder)!r}, may not be written; choose another.")
    try:
        with tempfile.TemporaryFile(dir=existing) as trial:
            trial.write(b"\0")
    except OSError as error:
        raise InputError(
            f"The {called}, {str(folder)!r}, cannot be written ({error.strerror}); choose another."
        ) from error


def write_result(result: RefineResult, destination: Destination, options: FileOptions = DEFAULT_OPTIONS) -> None:
    """Writes every file of a result, all of them or none.

    Args:
        result: what an engine made.
        destination: where it goes.
        options: how the image is written, checked; the stages are always PNG of 8 bits in sRGB.

    Raises:
        OSError: the disk is full or a folder may not be written; every place is as it was before.
        InputError: the picture is too large for a format; likewise.
    """
    files: dict[Path, Callable[[], bytes]] = {}
    stages: Path | None = None
    if destination.stages is not None:
        stages = real_path(destination.stages)
        shown = FileOptions(bits=8)
        files |= {
            path: partial(encoded, image, path, options=shown)
            for path, image in _stage_files(stages, result.stages).items()
        }
    written = set(files)
    if destination.report is not None:
        files[destination.report] = partial(report_bytes, result.report)
    if destination.layers is not None:
        files[destination.layers] = partial(layers_bytes, result, destination.layers, options)
    # The image comes last, so that where it is present the rest is too.
    files[destination.image] = partial(
        encoded, result.image, destination.image, text=image_text(result.report), options=options
    )
    write_files(files)
    if stages is not None:
        for earlier in set(stages.glob(STAGE_PATTERN)) - written:
            earlier.unlink()


def result_line(result: RefineResult, path: Path, called: str = "") -> str:
    """What a person is told of a result that was written to `path`, on one line; `called` takes the path's place."""
    width, height = result.report.output_size
    sentences = filter(None, (result.report.message, lost_transparency(result.image, path)))
    return f"{called or printable(str(path))} ({width}x{height}): {' '.join(sentences)}"


def lost_transparency(image: Image, path: Path) -> str:
    """One sentence for the person who asked, where a file cannot hold the image's transparency; empty elsewhere."""
    if image.alpha is None or keeps_transparency(path):
        return ""
    return "A JPEG has no transparency, so the picture is on white; write .png or .webp to keep it."


def image_text(report: BaseModel) -> dict[str, str]:
    """PNG metadata by keyword: who made the picture, and the report.

    The seconds are left out, so that the same request gives the same bytes.
    """
    return {"Software": f"RefGC-SR2 {__version__}", "refgc-report": report.model_dump_json(exclude={"seconds"})}


def report_bytes(report: BaseModel) -> bytes:
    """A report as the content of a JSON file."""
    return (report.model_dump_json(indent=2) + "\n").encode()


def _stage_files(folder: Path, stages: Mapping[str, Image]) -> dict[Path, Image]:
    """The stage pictures by their places; the names are numbered, so that a folder lists them in order."""
    return {
        folder / f"stage-{number:02}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png": image
        for number, (name, image) in enumerate(stages.items(), start=1)
    }


def _check(destination: Destination, inputs: Iterable[Path], *, make_folders: bool) -> None:
    if destination.image.suffix.lower() not in FORMATS:
        raise InputError(
            f"The output {str(destination.image)!r} has no suffix that can be written; end it in {', '.join(FORMATS)}."
        )
    _check_file(destination.image, "output", make_folders=make_folders)
    if destination.report is not None:
        _check_file(destination.report, "report", make_folders=make_folders)
        if _is_same(destination.report, destination.image):
            raise InputError(f"Report and output are both {str(destination.image)!r}; give them different names.")
    if destination.layers is not None:
        check_layers(destination.layers)
        _check_file(destination.layers, "file of layers", make_folders=make_folders)
        if destination.report is not None and _is_same(destination.report, destination.layers):
            raise InputError(f"Report and layers are both {str(destination.layers)!r}; give them different names.")
    if destination.stages is not None:
        check_folder(destination.stages, "stages folder", make_folders=True)
    for source in inputs:
        _check_survives(source, destination)


def _check_file(path: Path, called: str, *, make_folders: bool) -> None:
    if path.is_dir():
        raise InputError(f"The {called} {str(path)!r} is a folder; give the name of a file to write.")
    if path.exists() and not path.is_file():
        raise InputError(f"The {called} {str(path)!r} is not a regular file; choose another name.")
    check_folder(real_path(path).parent, f"folder of the {called}", make_folders=make_folders)


def _check_survives(source: Path, destination: Destination) -> None:
    if _is_same(source, destination.image):
        raise InputError(f"The output would overwrite the input {str(source)!r}; give another name.")
    if destination.report is not None and _is_same(source, destination.report):
        raise InputError(f"The report would overwrite the input {str(source)!r}; give another name.")
    if destination.layers is not None and _is_same(source, destination.layers):
        raise InputError(f"The layers would overwrite the input {str(source)!r}; give another name.")
    if destination.stages is not None and real_path(source) in set(real_path(destination.stages).glob(STAGE_PATTERN)):
        raise InputError(f"The stages would overwrite the input {str(source)!r}; choose another stages folder.")


def _is_same(one: Path, other: Path) -> bool:
    """Whether both names lead to one file, also through links or before it exists."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return real_path(one) == real_path(other)
