"""Colour and transparency of a decoded picture, whatever mode and profile it came in."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageCms

from refgc.errors import InputError
from refgc.imaging.levels import checked_floats, to_bytes
from refgc.imaging.profiles import icc_profile as embedded_profile

# Their pixels mean the same in every picture, so that they can wait for the conversion to sRGB.
KEPT_MODES = ("L", "RGB", "CMYK", "LAB")
# A note of transparency that another mode carries is left over from the picture it was converted from.
TRANSPARENT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa")


def split_transparency(picture: PILImage.Image, name: str) -> tuple[PILImage.Image, PILImage.Image | None]:
    """The colours (mode L, RGB, CMYK or LAB) and, where the picture has any, the transparency (mode L).

    Raises:
        InputError: grey values whose range is unknown.
    """
    if is_deep_grey(picture):
        grey = PILImage.fromarray(to_bytes(deep_grey(picture, name)))
        levels, key = np.asarray(picture), picture.info.get("transparency")
        if key is None:
            return grey, None
        return grey, PILImage.fromarray(np.where(levels == key, 0, 255).astype(np.uint8))
    if picture.mode == "La":
        picture = picture.convert("LA")
    if not (picture.has_transparency_data and picture.mode in TRANSPARENT_MODES):
        if picture.mode in KEPT_MODES:
            return picture, None
        return picture.convert("L" if picture.mode == "1" else "RGB"), None
    key = picture.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # Pillow keeps the 8 upper bits of 16-bit colours, but all 16 of the colour that is transparent.
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    opaque_mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    with_alpha = _in_mode(picture, opaque_mode + "A")
    return with_alpha.convert(opaque_mode), with_alpha.getchannel("A")


def is_deep_grey(picture: PILImage.Image) -> bool:
    """Whether the picture is grey with more than 8 bits."""
    return picture.mode.startswith("I") or picture.mode == "F"


def deep_grey(picture: PILImage.Image, name: str) -> NDArray[np.float32]:
    """The values of a grey picture of more than 8 bits, (height, width) in [0, 1].

    Raises:
        InputError: the range is unknown.
    """
    levels = np.asarray(picture)
    if picture.mode == "F":
        return checked_floats(levels, name)
    # Pillow reads 16-bit PGM into 32 bits, already scaled to 16.
    if picture.mode == "I" and picture.format != "PPM":
        raise InputError(
            f"The {name} has 32-bit grey values, of which white is unknown; save it with 8 or 16 bits per channel."
        )
    return levels.astype(np.float32) / np.float32(65_535)


def to_srgb(colour: PILImage.Image, icc_profile: bytes | None) -> PILImage.Image:
    """Mode RGB in sRGB. A profile that is broken or made for another kind of picture is as good as none."""
    # What this project wrote itself needs no conversion, which could change levels by rounding.
    if icc_profile and icc_profile != embedded_profile("srgb") and colour.mode != "LAB":
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            space = profile.profile.xcolor_space.strip()
            if space == "RGB" and colour.mode == "L":
                colour = colour.convert("RGB")
            if space == ("GRAY" if colour.mode == "L" else colour.mode):
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
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return _in_mode(colour, "RGB")


def _in_mode(picture: PILImage.Image, mode: str) -> PILImage.Image:
    return picture if picture.mode == mode else picture.convert(mode)
