"""Picture intake: the only door through which pictures and masks enter the project."""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageCms, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from refgc.errors import InputError
from refgc.files import write_whole

ImageSource: TypeAlias = str | os.PathLike[str] | PILImage.Image | NDArray[Any]

# A smaller picture holds less than one patch of a feature detector, so nothing could be recognised in it.
MIN_SIDE = 16
# OpenCV's remap addresses pixels with signed 16-bit coordinates.
MAX_SIDE = 32_767
# Full-frame cameras stay under this, and a picture of this size with its working copies still fits in 4 GB of memory.
MAX_PIXELS = 64_000_000
# Rounding in float pictures may step this far outside [0, 1] before the picture counts as wrongly scaled.
FLOAT_SLACK = 1e-3
# A mask drawn for another size of the same picture is off by a rounded pixel in its aspect ratio, never by more.
ASPECT_TOLERANCE = 0.02
# From this value on a pixel belongs to the object more than to the background.
MARKED = 0.5

# Kinds that hold photographs; everything else Pillow reads (EPS, PSD, WMF, ...) is refused, since some start programs.
FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
READABLE = "PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP, GIF or PPM"
# High enough that the compression takes away nothing that refinement brought in.
LOSSY_QUALITY = 95
# How each suffix is saved; JPEG keeps colour at full resolution.
SAVING: Mapping[str, tuple[str, Mapping[str, int]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": LOSSY_QUALITY, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": LOSSY_QUALITY, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": LOSSY_QUALITY}),
}
WEBP_MAX_SIDE = 16_383


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """How much of each pixel belongs to the object.

    `values` is a read-only float32 array of shape (height, width) in [0, 1].
    """

    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        self.values.setflags(write=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.values.shape[1], self.values.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One upright sRGB picture.

    `pixels` is a read-only uint8 array of shape (height, width, 3), RGB, already oriented, colour-converted to sRGB
    and flattened over white. `alpha` is the transparency the file came with, as a mask of the same size, or None
    where the file was opaque.
    """

    pixels: NDArray[np.uint8]
    alpha: Mask | None = None

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def open_image(source: ImageSource, *, name: str) -> Image:
    """Open a picture, upright, in sRGB, flattened over white.

    Args:
        source: a file, a PIL image, or an array of shape (height, width), (height, width, 1), (height, width, 3) RGB
            or (height, width, 4) RGBA; uint8, uint16, or floating point in [0, 1]. Of an animation or of several
            pages the first is taken. Colours of another profile are converted to sRGB; 16 bits are scaled to 8.
        name: what the picture is called in an error sentence, such as "reference".

    Raises:
        InputError: the source is no readable picture, has a side under `MIN_SIDE` or over `MAX_SIDE` pixels or more
            than `MAX_PIXELS` pixels (found before the pixels are decoded), or nothing in it is visible.
    """
    picture = _picture_of_array(source, name) if isinstance(source, np.ndarray) else _upright(source, name)
    try:
        colour, transparency = _split(picture, name)
        rgb = _to_srgb(colour, picture.info.get("icc_profile"))
        if transparency is None or transparency.getextrema() == (255, 255):
            return Image(np.array(rgb))
        white = PILImage.new("RGB", rgb.size, "white")
        pixels = np.array(PILImage.composite(rgb, white, transparency))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise _damaged(source, name) from error
    alpha = _unit(np.asarray(transparency))
    if alpha.max() < MARKED:
        raise InputError(f"The {name} is transparent everywhere; give a picture in which the object is visible.")
    return Image(pixels, Mask(alpha))


def open_mask(source: ImageSource, *, size: tuple[int, int], name: str) -> Mask:
    """Open a mask: bright where the object is.

    The brightest channel of a pixel is its value, so that any colour on black marks; soft edges stay soft. Where only
    the transparency tells the object from the background, the transparency is taken; where both vary, the mask is
    seen over black. Whole numbers that never exceed 1 are labels: 1 is the object. Colour profiles play no part.

    Args:
        source: as for `open_image`; an array may also be boolean.
        size: (width, height) in pixels of the picture that the mask belongs to. A mask of another size but the same
            aspect ratio (within `ASPECT_TOLERANCE`) is resized, bilinearly.
        name: what the mask is called in an error sentence, such as "reference mask".

    Raises:
        InputError: as for `open_image`; the mask has another aspect ratio; or it marks nothing, no value reaching
            `MARKED`.
    """
    if isinstance(source, np.ndarray):
        brightness, alpha = _marks_of_array(source.astype(np.uint8) if source.dtype == np.bool_ else source, name)
    else:
        picture = _upright(source, name)
        try:
            brightness, alpha = _marks_of_picture(picture, name)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise _damaged(source, name) from error
    values = _fit(_marks(brightness, alpha), size, name)
    if values.max() < MARKED:
        raise InputError(f"The {name} marks nothing; paint the object white and everything else black.")
    return Mask(values)


def to_pil(image: Image) -> PILImage.Image:
    """The picture as an RGB PIL image of its own memory; its transparency is already flattened over white."""
    return PILImage.fromarray(image.pixels)


def save_image(image: Image, path: str | os.PathLike[str], *, text: Mapping[str, str] | None = None) -> None:
    """Write the picture as PNG, JPEG or WebP, as the suffix says; whole or not at all, the same bytes every time.

    Args:
        image: its `pixels` are written, without `alpha`, which is already flattened into them.
        path: a file ending in .png, .jpg, .jpeg or .webp; an existing one is replaced.
        text: texts by keyword (1 to 79 Latin-1 characters), kept in PNG's metadata; the other formats have no place
            for them.

    Raises:
        InputError: another suffix, no such folder, a picture too large for the format, or the file cannot be written.
    """
    asked = os.fspath(path)
    suffix = Path(asked).suffix.lower()
    if suffix not in SAVING:
        raise InputError(f"{asked!r} has no suffix that can be written; end it in {', '.join(SAVING)}.")
    if suffix == ".webp" and max(image.size) > WEBP_MAX_SIDE:
        raise InputError(f"{asked!r} would have a side over {WEBP_MAX_SIDE} pixels, WebP's limit; end it in .png.")
    kind, options = SAVING[suffix]
    encoded = io.BytesIO()
    if kind == "PNG":
        notes = PngInfo()
        for keyword, note in (text or {}).items():
            notes.add_text(keyword, note)
        to_pil(image).save(encoded, kind, pnginfo=notes, **options)
    else:
        to_pil(image).save(encoded, kind, **options)
    write_whole(asked, encoded.getvalue())


# --- files and PIL images -------------------------------------------------------------------------------------------


def _upright(source: ImageSource, name: str) -> PILImage.Image:
    """The first frame, decoded and turned upright, in its own mode, with its profile."""
    if isinstance(source, PILImage.Image):
        with _pillow_warnings_off():
            return _decode(source, source, name)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"The {name} is of type {type(source).__name__}; give the path of a file, a PIL image or a NumPy array."
        )
    path = Path(os.fsdecode(source))
    _check_file(path, name)
    try:
        with path.open("rb") as file, _pillow_warnings_off():
            formats = FORMATS
            if file.read(12)[4:8] == b"ftyp":
                formats = (*FORMATS, _heif())
            try:
                opened = PILImage.open(file, formats=formats)
            except PILImage.DecompressionBombError as error:
                raise _too_many_pixels(name) from error
            except UnidentifiedImageError as error:
                raise InputError(
                    f"The {name} {path.name!r} is not a picture that can be read, or its beginning is "
                    f"damaged; give it as {READABLE}."
                ) from error
            except Exception as error:  # Pillow's readers answer damaged headers with errors of many kinds
                raise _damaged(source, name) from error
            return _decode(opened, source, name)
    except OSError as error:
        raise InputError(
            f"The {name} {str(path)!r} cannot be opened ({error.strerror}); check its permissions or give another."
        ) from error


def _check_file(path: Path, name: str) -> None:
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
def _heif() -> str:
    """The name of the HEIC format, once Pillow has learned it; loaded on first need, since it takes a while."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    return "HEIF"


@contextmanager
def _pillow_warnings_off() -> Iterator[None]:
    """Damaged metadata that does not keep a picture from being read, and sizes, which are checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=PILImage.DecompressionBombWarning)
        yield


def _decode(opened: PILImage.Image, source: ImageSource, name: str) -> PILImage.Image:
    _check_size(opened.size, name)
    try:
        upright = ImageOps.exif_transpose(opened)
    except Exception as error:  # as many kinds of error as there are formats
        raise _damaged(source, name) from error
    # Some containers state one size in the header and hold another.
    _check_size(upright.size, name)
    upright.format = opened.format
    return upright


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(name, size)
    if max(size) > MAX_SIDE:
        raise InputError(
            f"The {name} is {width}x{height} pixels and no side may exceed {MAX_SIDE}; make it smaller or crop it."
        )
    if min(size) < MIN_SIDE:
        raise InputError(
            f"The {name} is {width}x{height} pixels, too small to work with; give one of at least "
            f"{MIN_SIDE}x{MIN_SIDE}."
        )


def _too_many_pixels(name: str, size: tuple[int, int] | None = None) -> InputError:
    stated = f" ({size[0]}x{size[1]} pixels)" if size else ""
    return InputError(
        f"The {name} has more than {MAX_PIXELS // 1_000_000} megapixels{stated}; make it smaller or crop it."
    )


def _damaged(source: ImageSource, name: str) -> InputError:
    file = f" {Path(os.fsdecode(source)).name!r}" if isinstance(source, str | os.PathLike) else ""
    return InputError(f"The {name}{file} is damaged or cut off; save or download it again.")


# --- colour ---------------------------------------------------------------------------------------------------------


def _split(picture: PILImage.Image, name: str) -> tuple[PILImage.Image, PILImage.Image | None]:
    """The colours (mode L, RGB, CMYK or LAB) and, where the picture has any, the transparency (mode L)."""
    if picture.mode.startswith("I") or picture.mode == "F":
        unit, transparency = _grey_unit(picture, name)
        return PILImage.fromarray(_to_bytes(unit)), transparency
    if picture.mode == "La":
        picture = picture.convert("LA")
    if not picture.has_transparency_data:
        plain = {"1": "L", "L": "L", "CMYK": "CMYK", "LAB": "LAB"}.get(picture.mode, "RGB")
        return picture.convert(plain), None
    key = picture.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # Pillow keeps the 8 upper bits of 16-bit colours, but all 16 of the colour that is transparent.
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    if picture.mode in ("1", "L", "LA"):
        with_alpha = picture.convert("LA")
        return with_alpha.getchannel("L"), with_alpha.getchannel("A")
    with_alpha = picture.convert("RGBA")
    return with_alpha.convert("RGB"), with_alpha.getchannel("A")


def _grey_unit(picture: PILImage.Image, name: str) -> tuple[NDArray[np.float32], PILImage.Image | None]:
    """The values of a grey picture of more than 8 bits as (height, width) in [0, 1], and its transparency."""
    levels = np.asarray(picture)
    if picture.mode == "F":
        return _checked_floats(levels, name).astype(np.float32), None
    # Pillow reads 16-bit PGM into 32 bits, already scaled to 16.
    if picture.mode == "I" and picture.format != "PPM":
        raise InputError(
            f"The {name} has 32-bit grey values, of which white is unknown; save it with 8 or 16 bits per channel."
        )
    key = picture.info.get("transparency")
    transparency = PILImage.fromarray(np.where(levels == key, 0, 255).astype(np.uint8)) if key is not None else None
    return levels.astype(np.float32) / np.float32(65_535), transparency


def _to_srgb(colour: PILImage.Image, icc_profile: bytes | None) -> PILImage.Image:
    """Mode RGB in sRGB. A profile that is broken or made for another kind of picture is as good as none."""
    if icc_profile and colour.mode != "LAB":
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            space = profile.profile.xcolor_space.strip()
            if space == "RGB" and colour.mode == "L":
                colour = colour.convert("RGB")
            if space == {"L": "GRAY"}.get(colour.mode, colour.mode):
                converted = ImageCms.profileToProfile(
                    colour,
                    profile,
                    ImageCms.createProfile("sRGB"),
                    renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                    outputMode="RGB",
                    flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
                )
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError):
            pass
    return colour.convert("RGB")


# --- arrays ---------------------------------------------------------------------------------------------------------


def _picture_of_array(array: NDArray[Any], name: str) -> PILImage.Image:
    pixels = _to_bytes(_checked_array(array, name))
    return PILImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _checked_array(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The array as (height, width, channels), with 1, 3 or 4 channels of uint8, uint16 or floats in [0, 1]."""
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            f"The {name} is an array of shape {array.shape}; give (height, width), (height, width, 3) or "
            f"(height, width, 4)."
        )
    _check_size((array.shape[1], array.shape[0]), name)
    if array.dtype.kind == "f":
        return _checked_floats(array, name)
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise InputError(
            f"The {name} is an array of {array.dtype.name}; give uint8, uint16, or floating point from 0 to 1."
        )
    return array


def _checked_floats(values: NDArray[Any], name: str) -> NDArray[Any]:
    # Not-a-number fails both comparisons.
    if not (values.min() >= -FLOAT_SLACK and values.max() <= 1 + FLOAT_SLACK):
        raise InputError(f"The {name} has floating-point values outside 0 to 1 or not finite; scale them to 0 to 1.")
    return values.clip(0, 1)


def _to_bytes(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8, uint16 or floats in [0, 1] as uint8, rounded."""
    if levels.dtype.kind == "f":
        return np.rint(levels * np.float32(255)).astype(np.uint8)
    if levels.dtype.itemsize == 2:
        return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return levels


# --- masks ----------------------------------------------------------------------------------------------------------


def _marks_of_array(array: NDArray[Any], name: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    levels = _checked_array(array, name)
    brightness = _unit(levels[..., :3].max(axis=2), labels=True)
    return brightness, _unit(levels[..., 3]) if levels.shape[2] == 4 else None


def _marks_of_picture(picture: PILImage.Image, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    if picture.mode.startswith("I") or picture.mode == "F":
        brightness, transparency = _grey_unit(picture, name)
    else:
        colour, transparency = _split(picture, name)
        levels = np.asarray(colour if colour.mode == "L" else colour.convert("RGB"))
        brightness = _unit(levels if levels.ndim == 2 else levels.max(axis=2), labels=True)
    return brightness, None if transparency is None else _unit(np.asarray(transparency))


def _unit(levels: NDArray[Any], *, labels: bool = False) -> NDArray[np.float32]:
    """Levels as float32 in [0, 1]; whole numbers up to 1 are taken as labels where `labels` says so."""
    if levels.dtype.kind == "f":
        return levels.astype(np.float32)
    if labels and levels.max() <= 1:
        return levels.astype(np.float32)
    return levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)


def _marks(brightness: NDArray[np.float32], alpha: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if alpha is None or np.ptp(alpha) == 0:
        return brightness
    if np.ptp(brightness[alpha > 0]) == 0:
        return alpha
    return brightness * alpha


def _fit(values: NDArray[np.float32], size: tuple[int, int], name: str) -> NDArray[np.float32]:
    height, width = values.shape
    if (width, height) == size:
        return values
    if abs(width * size[1] / (height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"The {name} is {width}x{height} pixels and its picture {size[0]}x{size[1]}; give a mask of the same size."
        )
    resized = PILImage.fromarray(values).resize(size, PILImage.Resampling.BILINEAR)
    return np.array(resized, dtype=np.float32).clip(0, 1)
