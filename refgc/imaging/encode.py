"""Pictures as the contents of PNG, JPEG and WebP files, each with its colour profile."""

from __future__ import annotations

import io
import operator
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from refgc.errors import InputError
from refgc.imaging.levels import Words
from refgc.imaging.profiles import SPACES, ProfileName, from_srgb, icc_profile

# High enough that the compression takes away nothing that refinement brought in.
LOSSY_QUALITY = 95
# On results of 4096 pixels zlib's default of 6 takes twice to three times as long, for a file 3 to 7% smaller.
PNG_COMPRESSION = 4
WEBP_MAX_SIDE = 16_383
# The format of each suffix.
FORMATS: Mapping[str, str] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# The formats that can hold transparency.
TRANSPARENT_FORMATS = ("PNG", "WEBP")
DEPTHS = (8, 16)
# The signature and the header of a PNG, after which chunks may be added.
PNG_HEADER = 33


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How a picture is written.

    Attributes:
        profile: the colour space of the file, "srgb" or "display-p3"; its profile is embedded.
        quality: of JPEG and WebP, from 1 to 100; None for `LOSSY_QUALITY`.
        bits: of each channel, 8 or, in a PNG, 16; None for as many as the picture has and the format takes.
    """

    profile: ProfileName = "srgb"
    quality: int | None = None
    bits: int | None = None


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a suffix stands for: PNG, JPEG or WEBP.

    Raises:
        InputError: another suffix.
    """
    asked = os.fspath(path)
    suffix = Path(asked).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{asked!r} has no suffix that can be written; end it in .png, .jpg, .jpeg or .webp.")
    return FORMATS[suffix]


def keeps_transparency(path: str | os.PathLike[str]) -> bool:
    """Whether the format that a suffix stands for can hold transparency.

    Raises:
        InputError: a suffix that cannot be written.
    """
    return format_of(path) in TRANSPARENT_FORMATS


def check_file_options(options: FileOptions, path: str | os.PathLike[str] | None = None) -> None:
    """Checks how a picture is to be written.

    Args:
        options: as a caller gave them.
        path: the file; None where it is not known yet.

    Raises:
        InputError: an option cannot be used, or not for this kind of file.
    """
    if options.profile not in SPACES:
        names = " or ".join(get_args(ProfileName))
        raise InputError(f"There is no profile called {options.profile!r}; use {names}.")
    if options.quality is not None:
        quality = checked_whole_number(options.quality, "quality")
        if not 1 <= quality <= 100:
            raise InputError(f"The quality is {quality}; choose a whole number from 1 to 100.")
    if options.bits is not None:
        checked_bits(options.bits)
    if path is None:
        return
    kind, name = format_of(path), os.fspath(path)
    if options.quality is not None and kind == "PNG":
        raise InputError(
            f"A PNG such as {name!r} loses nothing and has no quality; leave it out or end the name in .jpg or .webp."
        )
    if options.bits == 16 and kind != "PNG":
        raise InputError(f"A file such as {name!r} holds 8 bits a channel only; end it in .png for 16.")


def checked_bits(value: int) -> int:
    """The bits of each channel.

    Raises:
        InputError: it is neither 8 nor 16.
    """
    bits = checked_whole_number(value, "number of bits")
    if bits not in DEPTHS:
        raise InputError(f"The number of bits is {bits}; choose 8 or 16.")
    return bits


def checked_whole_number(value: int, name: str) -> int:
    """A whole number.

    Raises:
        InputError: it is none; the sentence calls it `name`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError as error:
        raise InputError(f"The {name} is {value!r}; give a whole number.") from error


def encode(
    pixels: NDArray[np.uint8] | Words,
    alpha: NDArray[np.float32] | None,
    path: str | os.PathLike[str],
    options: FileOptions,
    text: Mapping[str, str] | None = None,
) -> bytes:
    """A picture as the content of a file; the same every time.

    Args:
        pixels: uint8, or for a PNG uint16, RGB of shape (height, width, 3) in sRGB.
        alpha: the transparency (height, width) in [0, 1]; None for an opaque picture. PNG and WebP only.
        path: its suffix names the format.
        options: profile and quality; the bits are those of `pixels`.
        text: texts by keyword (1 to 79 Latin-1 characters), which only a PNG has a place for.

    Raises:
        InputError: another suffix, or a picture too large for the format.
    """
    kind = format_of(path)
    if kind == "WEBP" and max(pixels.shape) > WEBP_MAX_SIDE:
        raise InputError(
            f"{os.fspath(path)!r} would have a side over {WEBP_MAX_SIDE} pixels, WebP's limit; end it in .png."
        )
    levels: Any = from_srgb(pixels, options.profile)
    if alpha is not None:
        top = np.float32(np.iinfo(levels.dtype).max)
        levels = np.dstack([levels, np.rint(alpha * top).astype(levels.dtype)])
    notes = PngInfo()
    for keyword, note in (text or {}).items():
        notes.add_text(keyword, note)
    if levels.dtype == np.uint16:
        return _deep_png(levels, notes, options.profile)
    quality = LOSSY_QUALITY if options.quality is None else options.quality
    settings: dict[str, dict[str, Any]] = {
        "PNG": {"compress_level": PNG_COMPRESSION, "pnginfo": notes},
        # Colour at full resolution.
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
    }
    content = io.BytesIO()
    PILImage.fromarray(levels).save(content, kind, icc_profile=icc_profile(options.profile), **settings[kind])
    return content.getvalue()


def _deep_png(levels: Words, notes: PngInfo, profile: ProfileName) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write; OpenCV writes it, without texts and profile."""
    import cv2  # on first need: whoever only opens pictures does without it

    order = cv2.COLOR_RGB2BGR if levels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    settings = [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION]
    content: bytes = cv2.imencode(".png", cv2.cvtColor(levels, order), settings)[1].tobytes()
    embedded = SPACES[profile].name.encode("latin-1") + b"\0\0" + zlib.compress(icc_profile(profile))
    # Pillow keeps each text as the kind and the content of a chunk.
    chunks = [(b"iCCP", embedded), *(tuple(chunk[:2]) for chunk in notes.chunks)]
    added = b"".join(_png_chunk(kind, data) for kind, data in chunks)
    return content[:PNG_HEADER] + added + content[PNG_HEADER:]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
