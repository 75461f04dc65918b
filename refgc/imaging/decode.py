"""From a file or a PIL image to decoded, upright pixels; limits are checked before anything is decoded."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray
from PIL import ExifTags, ImageOps, UnidentifiedImageError
from PIL import Image as PILImage

from refgc.errors import InputError
from refgc.imaging.containers import check_container
from refgc.imaging.limits import MAX_PIXELS, too_many_pixels
from refgc.imaging.limits import damaged as damaged_file

ImageSource: TypeAlias = str | os.PathLike[str] | PILImage.Image | NDArray[Any]

# A smaller picture holds less than one patch of a feature detector, so nothing could be recognised in it.
MIN_SIDE = 16
# OpenCV's remap addresses pixels with signed 16-bit coordinates.
MAX_SIDE = 32_767

# Kinds that hold photographs; the others that Pillow reads (EPS, PSD, WMF, ...) are refused, since some start programs.
FORMATS: tuple[str, ...] = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "AVIF", "TIFF")
READABLE = "PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP, GIF or PPM"
# How the files of these are named.
PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
)
# What turns a picture upright, by its EXIF orientation (EXIF 2.32, section 4.6.4).
TURNS = {
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_270,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_90,
}


def decode(source: str | os.PathLike[str] | PILImage.Image, name: str) -> PILImage.Image:
    """The first frame of a file, or a PIL image, decoded and turned upright, in its own mode, with its profile.

    Raises:
        InputError: it cannot be opened, is damaged, or its size is outside the limits.
    """
    with _pillow_warnings_off():
        if isinstance(source, PILImage.Image):
            check_size(source.size, name)
            try:
                upright = ImageOps.exif_transpose(source)
            except Exception as error:  # as many kinds of error as there are formats
                raise damaged(source, name) from error
            upright.format = source.format
            return upright
        if not isinstance(source, str | os.PathLike):
            raise InputError(
                f"The {name} is of type {type(source).__name__}; give the path of a file, a PIL image or a NumPy array."
            )
        return _decode_file(Path(os.fsdecode(source)), name)


def check_size(size: tuple[int, int], name: str) -> None:
    """Raises `InputError` where (width, height) in pixels is outside the limits."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise too_many_pixels(name, size)
    if max(size) > MAX_SIDE:
        raise InputError(
            f"The {name} is {width}x{height} pixels and no side may exceed {MAX_SIDE}; make it smaller or crop it."
        )
    if min(size) < MIN_SIDE:
        raise InputError(
            f"The {name} is {width}x{height} pixels, too small to work with; give one of at least "
            f"{MIN_SIDE}x{MIN_SIDE}."
        )


def damaged(source: ImageSource, name: str) -> InputError:
    """The error for a picture whose pixels cannot be had."""
    return damaged_file(Path(os.fsdecode(source)) if isinstance(source, str | os.PathLike) else None, name)


def _decode_file(path: Path, name: str) -> PILImage.Image:
    check_file(path, name)
    try:
        with path.open("rb") as file:
            try:
                check_container(file, path, name)
                file.seek(0)
                formats = (*FORMATS, learn_heif()) if file.read(12)[4:8] == b"ftyp" else FORMATS
                opened = PILImage.open(file, formats=formats)
                check_size(opened.size, name)
                upright = _upright(opened)
            except (InputError, MemoryError):
                raise
            except PILImage.DecompressionBombError as error:
                raise too_many_pixels(name) from error
            except UnidentifiedImageError as error:
                raise InputError(
                    f"The {name} {path.name!r} is not a picture that can be read, or its beginning is damaged; give "
                    f"it as {READABLE}."
                ) from error
            except Exception as error:  # as many kinds of error as there are formats
                raise damaged(path, name) from error
    except OSError as error:
        raise InputError(
            f"The {name} {str(path)!r} cannot be opened ({error.strerror}); check its permissions or give another."
        ) from error
    upright.format = opened.format
    return upright


def _upright(picture: PILImage.Image) -> PILImage.Image:
    """The picture decoded and turned as its EXIF data say. Those that cannot be read are as good as none.

    `ImageOps.exif_transpose` would write the EXIF data anew as well, which nobody needs.
    """
    picture.load()
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as many kinds of error as there are formats
        return picture
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def check_file(path: Path, name: str) -> None:
    """Raises `InputError` where there is no file at a path, or an empty one; does not open it."""
    if re.match(r"(?i)[a-z][a-z0-9+.-]+:/|data:", str(path)):
        raise InputError(f"The {name} is an address, not a file; download the picture and give the path of the file.")
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"The {name} {str(path)!r} cannot be found; check the path.") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"The {name} {str(path)!r} is a folder; give the path of one picture.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"The {name} {str(path)!r} is not a file; give the path of one picture.")
    if status.st_size == 0:
        raise InputError(f"The {name} {path.name!r} is empty (0 bytes); save or download the picture again.")


@cache
def learn_heif() -> str:
    """The name of the HEIC format, once Pillow has learned it; loaded on first need, since it takes a while."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    return "HEIF"


@contextmanager
def _pillow_warnings_off() -> Iterator[None]:
    """Hush Pillow about damaged metadata, which keeps no picture from being read, and sizes, which are checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
