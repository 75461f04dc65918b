"""Picture intake: the only door through which pictures and masks enter the project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from refgc.errors import InputError
from refgc.imaging.colour import deep_grey, is_deep_grey, split_transparency, to_srgb
from refgc.imaging.decode import MAX_SIDE, MIN_SIDE, READABLE, ImageSource, damaged, decode
from refgc.imaging.encode import FileOptions, check_file_options, encode, format_of, keeps_transparency
from refgc.imaging.files import write_whole
from refgc.imaging.levels import checked_array, to_bytes, to_unit, to_words
from refgc.imaging.limits import MAX_PIXELS
from refgc.imaging.profiles import ProfileName
from refgc.imaging.transparency import without_white

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "MIN_SIDE",
    "READABLE",
    "Image",
    "ImageSource",
    "Mask",
    "encoded",
    "open_image",
    "open_mask",
    "save_image",
    "to_pil",
]

# A mask drawn for another size of the same picture is off by a rounded pixel in its aspect ratio, never by more.
ASPECT_TOLERANCE = 0.02
# From this value on a pixel belongs to the object more than to the background.
MARKED = 0.5
DEFAULT_OPTIONS = FileOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """How much of each pixel belongs to the object.

    `values` is a float32 array of shape (height, width) in [0, 1]; it becomes read-only.
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

    `pixels` is a uint8 array of shape (height, width, 3), RGB, already oriented, colour-converted to sRGB and
    flattened over white; it becomes read-only. `alpha` is the picture's transparency, as a mask of the same size, or
    None where it is opaque. `deep` is the same as `pixels` in 16 bits (uint16), for a result that was made with them;
    an opened picture has none.
    """

    pixels: NDArray[np.uint8]
    alpha: Mask | None = None
    deep: NDArray[np.uint16] | None = None

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)
        if self.deep is not None:
            self.deep.setflags(write=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def with_transparency(self) -> NDArray[np.uint8]:
        """The picture as a PNG holds it.

        Returns:
            uint8 RGB (height, width, 3) of an opaque picture; of another one RGBA (height, width, 4), the colours
            without the white that `pixels` has behind them.
        """
        if self.alpha is None:
            return self.pixels
        return np.dstack([without_white(self.pixels, self.alpha.values), to_bytes(self.alpha.values)])


def open_image(source: ImageSource | Image, *, name: str) -> Image:
    """Open a picture, upright, in sRGB, flattened over white.

    Args:
        source: a file, a PIL image, or an array of shape (height, width), (height, width, 1), (height, width, 3) RGB
            or (height, width, 4) RGBA; uint8, uint16, or floating point in [0, 1]. Of an animation or of several
            pages the first is taken. Colours of another profile are converted to sRGB; 16 bits are scaled to 8. An
            `Image`, opened before, is given back as it is.
        name: what the picture is called in an error sentence, such as "reference".

    Raises:
        InputError: the source is no readable picture, has a side under `MIN_SIDE` or over `MAX_SIDE` pixels or more
            than `MAX_PIXELS` pixels (found before the pixels are decoded), or nothing in it is visible.
    """
    if isinstance(source, Image):
        return source
    picture = _picture_of_array(source, name) if isinstance(source, np.ndarray) else decode(source, name)
    profile = picture.info.get("icc_profile")
    try:
        colour, transparency = split_transparency(picture, name)
        # Of a large picture each copy takes hundreds of megabytes.
        del picture
        rgb = to_srgb(colour, profile)
        del colour
        if transparency is None or transparency.getextrema() == (255, 255):
            return Image(np.asarray(rgb))
        rgb = PILImage.composite(rgb, PILImage.new("RGB", rgb.size, "white"), transparency)
        pixels = np.asarray(rgb)
        del rgb
    except (ValueError, TypeError) as error:
        raise damaged(source, name) from error
    alpha = to_unit(np.asarray(transparency))
    if alpha.max() < MARKED:
        raise InputError(f"The {name} is transparent everywhere; give a picture in which the object is visible.")
    return Image(pixels, Mask(alpha))


def open_mask(source: ImageSource | Mask, *, size: tuple[int, int], name: str) -> Mask:
    """Open a mask: bright where the object is.

    The brightest channel of a pixel is its value, so that any colour on black marks; soft edges stay soft. Where only
    the transparency tells the object from the background, the transparency is taken; where both vary, the mask is
    seen over black. Whole numbers that never exceed 1 are labels: 1 is the object. Colour profiles play no part.

    Args:
        source: as for `open_image`; an array may also be boolean. A `Mask`, opened before, is given back as it is
            where it fits.
        size: (width, height) in pixels of the picture that the mask belongs to. A mask of another size but the same
            aspect ratio (within `ASPECT_TOLERANCE`) is resized, bilinearly.
        name: what the mask is called in an error sentence, such as "reference mask".

    Raises:
        InputError: as for `open_image`; the mask has another aspect ratio; or it marks nothing, no value reaching
            `MARKED`.
    """
    brightness: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    if isinstance(source, Mask):
        if source.size == size:
            return source
        brightness, alpha = source.values, None
    elif isinstance(source, np.ndarray):
        brightness, alpha = _marks_of_array(source, name)
    else:
        picture = decode(source, name)
        try:
            colour, transparency = split_transparency(picture, name)
            deep = deep_grey(picture, name) if is_deep_grey(picture) else None
            # Of a large picture each copy takes hundreds of megabytes.
            del picture
            alpha = None if transparency is None else to_unit(np.asarray(transparency))
            del transparency
            levels = np.asarray(colour if colour.mode in ("L", "RGB") else colour.convert("RGB"))
            del colour
            brightness = _brightness(levels if levels.ndim == 2 else levels.max(axis=2)) if deep is None else deep
        except (ValueError, TypeError) as error:
            raise damaged(source, name) from error
    values = _fit(_combine(brightness, alpha), size, name)
    if values.max() < MARKED:
        raise InputError(f"The {name} marks nothing; paint the object white and everything else black.")
    return Mask(values)


def grey_image(levels: NDArray[np.uint8]) -> Image:
    """A uint8 array (height, width) as a picture."""
    return Image(np.repeat(levels[..., None], 3, axis=2))


def mask_image(mask: Mask) -> Image:
    """A mask as a grey picture, 255 where the object is."""
    return grey_image(to_bytes(mask.values))


def to_pil(image: Image) -> PILImage.Image:
    """The picture as an RGB PIL image of its own memory; its transparency is already flattened over white."""
    return PILImage.fromarray(image.pixels)


def save_image(
    image: Image,
    path: str | os.PathLike[str],
    *,
    text: Mapping[str, str] | None = None,
    profile: ProfileName = "srgb",
    quality: int | None = None,
    bits: int | None = None,
) -> None:
    """Write the picture as PNG, JPEG or WebP, as the suffix says; whole or not at all, the same bytes every time.

    The colour profile is embedded. PNG and WebP keep the transparency; a JPEG has none, and shows the picture on white.

    Args:
        image: any picture.
        path: a file ending in .png, .jpg, .jpeg or .webp; an existing one is replaced.
        text: texts by keyword (1 to 79 Latin-1 characters), kept in PNG's metadata; the other formats have no place
            for them.
        profile: the colour space of the file, "srgb" or "display-p3".
        quality: of JPEG and WebP, from 1 to 100; None for 95.
        bits: of each channel: 8, or 16 in a PNG. None takes 16 for a PNG of a picture that was made with them
            (`Image.deep`). Any other picture is widened, which adds no detail.

    Raises:
        InputError: another suffix, no such folder, an option that cannot be used or not with this format, a picture too
            large for the format, or the file cannot be written.
    """
    options = FileOptions(profile, quality, bits)
    check_file_options(options, path)
    write_whole(path, encoded(image, path, text=text, options=options))


def encoded(
    image: Image,
    path: str | os.PathLike[str],
    *,
    text: Mapping[str, str] | None = None,
    options: FileOptions = DEFAULT_OPTIONS,
) -> bytes:
    """What `save_image` writes.

    Raises:
        InputError: another suffix, or a picture too large for the format.
    """
    deepest = 16 if image.deep is not None and format_of(path) == "PNG" else 8
    levels = levels_of(image, options.bits or deepest)
    if image.alpha is None or not keeps_transparency(path):
        return encode(levels, None, path, options, text)
    return encode(without_white(levels, image.alpha.values), image.alpha.values, path, options, text)


def levels_of(image: Image, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The picture's RGB levels (height, width, 3), on white, in 8 or 16 bits; one without `deep` is widened."""
    if bits == 8:
        return image.pixels
    return to_words(image.pixels) if image.deep is None else image.deep


def _picture_of_array(array: NDArray[Any], name: str) -> PILImage.Image:
    pixels = to_bytes(checked_array(array, name))
    return PILImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _marks_of_array(array: NDArray[Any], name: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    levels = checked_array(array.astype(np.uint8) if array.dtype == np.bool_ else array, name)
    return _brightness(levels[..., :3].max(axis=2)), to_unit(levels[..., 3]) if levels.shape[2] == 4 else None


def _brightness(levels: NDArray[Any]) -> NDArray[np.float32]:
    if levels.dtype.kind == "u" and levels.max() == 1:
        return levels.astype(np.float32)
    return to_unit(levels)


def _combine(brightness: NDArray[np.float32], alpha: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if alpha is None or np.ptp(alpha) == 0:
        return brightness
    visible = alpha > 0
    if brightness.max(where=visible, initial=0) == brightness.min(where=visible, initial=1):
        return alpha
    brightness *= alpha
    return brightness


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
