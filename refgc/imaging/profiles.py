"""The colour profiles of written files: sRGB and Display P3, built from their published numbers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refgc.imaging.levels import Levels

ProfileName = Literal["srgb", "display-p3"]
Doubles = NDArray[np.float64]

# Chromaticity (x, y) of the white of both spaces, D65, and XYZ of D50, the white of every ICC profile.
D65 = (0.3127, 0.3290)
D50 = (0.9642, 1.0, 0.8249)
# The matrix of Bradford to the responses of the cones, as ICC.1:2022 gives it in annex E.
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# The transfer curve of IEC 61966-2-1, which Display P3 shares: ((level + OFFSET) / (1 + OFFSET)) ** EXPONENT, and below
# the level LINEAR_END, level / SLOPE.
EXPONENT, OFFSET, SLOPE, LINEAR_END = 2.4, 0.055, 12.92, 0.04045
# Rows that are converted at a time, to limit memory.
STRIP = 256


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """An RGB space: its name in the profile, and the chromaticities (x, y) of red, green and blue."""

    name: str
    primaries: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


SPACES: Mapping[ProfileName, ColourSpace] = {
    "srgb": ColourSpace("sRGB IEC61966-2.1", ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))),
    "display-p3": ColourSpace("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}


@cache
def icc_profile(name: ProfileName) -> bytes:
    """The ICC profile (version 4, matrix and curve) of a space; the same bytes every time."""
    space = SPACES[name]
    red, green, blue = (_xyz_type(column) for column in (_adaptation() @ _to_xyz(space)).T)
    curve = _curve_type()
    tags = {
        b"desc": _text_type(space.name),
        b"cprt": _text_type("CC0"),
        b"wtpt": _xyz_type(np.array(D50)),
        b"chad": b"sf32\0\0\0\0" + _fixed(_adaptation().ravel()),
        b"rXYZ": red,
        b"gXYZ": green,
        b"bXYZ": blue,
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    return _profile(tags)


def from_srgb(pixels: Levels, name: ProfileName) -> Levels:
    """A picture's levels in another space; the colours stay the same.

    Args:
        pixels: uint8 or uint16 RGB (height, width, 3) in sRGB.
        name: the space of the result. Display P3 holds every colour of sRGB, so that nothing is cut off.
    """
    if name == "srgb":
        return pixels
    matrix = np.asarray(np.linalg.solve(_to_xyz(SPACES[name]), _to_xyz(SPACES["srgb"])).T, np.float32)
    top = int(np.iinfo(pixels.dtype).max)
    linear = _linear(np.arange(top + 1, dtype=np.float64) / top).astype(np.float32)
    converted = np.empty_like(pixels)
    for start in range(0, len(pixels), STRIP):
        rows = slice(start, start + STRIP)
        converted[rows] = _encoded(np.clip(linear[pixels[rows]] @ matrix, 0.0, 1.0)) * top + 0.5
    return converted


def _linear(levels: Doubles) -> Doubles:
    """Light in [0, 1] of levels in [0, 1]."""
    return np.where(levels <= LINEAR_END, levels / SLOPE, ((levels + OFFSET) / (1.0 + OFFSET)) ** EXPONENT)


def _encoded(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels in [0, 1] of light in [0, 1]."""
    bright = np.float32(1.0 + OFFSET) * light ** np.float32(1.0 / EXPONENT) - np.float32(OFFSET)
    return np.where(light <= LINEAR_END / SLOPE, light * np.float32(SLOPE), bright)


def _to_xyz(space: ColourSpace) -> Doubles:
    """The 3x3 matrix from linear RGB to XYZ under D65, whose luminance is 1."""
    columns = np.array([[x / y, 1.0, (1.0 - x - y) / y] for x, y in space.primaries]).T
    return np.asarray(columns * np.linalg.solve(columns, _white()), np.float64)


def _white() -> Doubles:
    x, y = D65
    return np.array([x / y, 1.0, (1.0 - x - y) / y])


def _adaptation() -> Doubles:
    """The 3x3 chromatic adaptation of XYZ from D65 to D50 by Bradford's transform."""
    gains = (BRADFORD @ np.array(D50)) / (BRADFORD @ _white())
    return np.asarray(np.linalg.solve(BRADFORD, gains[:, None] * BRADFORD), np.float64)


def _fixed(numbers: Doubles) -> bytes:
    """Numbers as ICC's s15Fixed16."""
    return struct.pack(f">{len(numbers)}i", *(round(float(number) * 65_536) for number in numbers))


def _xyz_type(xyz: Doubles) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(xyz)


def _curve_type() -> bytes:
    """ICC's parametric curve of type 3."""
    scale = 1.0 / (1.0 + OFFSET)
    return b"para\0\0\0\0\0\3\0\0" + _fixed(np.array([EXPONENT, scale, OFFSET * scale, 1.0 / SLOPE, LINEAR_END]))


def _text_type(text: str) -> bytes:
    """ICC's multi-localized text with one entry, in American English."""
    content = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(content), 28) + content


def _profile(tags: dict[bytes, bytes]) -> bytes:
    """A version 4 profile of a display; equal contents of tags are stored once."""
    contents = dict.fromkeys(tags.values())
    offsets: dict[bytes, int] = {}
    data = b""
    for content in contents:
        offsets[content] = 128 + 4 + 12 * len(tags) + len(data)
        data += content + bytes(-len(content) % 4)
    table = struct.pack(">I", len(tags))
    for signature, content in tags.items():
        table += signature + struct.pack(">II", offsets[content], len(content))
    # What is left at 0: platform, flags, maker and model, and the intent, which is perceptual.
    header = struct.pack(
        ">I4xI4s4s4s6H4s28x12s48x",
        128 + len(table) + len(data),
        0x04300000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        *(2026, 1, 1, 0, 0, 0),
        b"acsp",
        _fixed(np.array(D50)),
    )
    return header + table + data
