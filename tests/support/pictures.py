"""Pictures, profiles and files whose right reading is known, made from scratch."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.errors import InputError

RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 180, 60), (40, 60, 200), (220, 210, 60)


def quadrants(width: int = 64, height: int = 48) -> np.ndarray:
    """Red, green / blue, yellow: every turning and flipping of it looks different."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = YELLOW
    return picture


def noise(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Every value of the type may occur."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(7).integers(0, top + 1, (height, width, channels), dtype=dtype)


def assert_close(pixels: np.ndarray, expected: np.ndarray, tolerance: int) -> None:
    """Same size, and at every pixel at most `tolerance` levels apart."""
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= tolerance


def refusal(call: Callable[[], object]) -> str:
    """The sentence with which the call is refused: one line, saying after the semicolon what to do."""
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert "; " in sentence
    return sentence


def names_in(folder: Path) -> list[str]:
    """The names of all there is in the folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def encoded(picture: PILImage.Image, kind: str, **options: object) -> bytes:
    """The bytes of the picture's file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(samples: np.ndarray, depth: int, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG made by hand, since Pillow writes no 16-bit colours. `samples` is (height, width, channels)."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2" if depth == 16 else "u1")
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in parts)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def overlap(mask: np.ndarray, file: Path) -> float:
    """Shared area over the area of both."""
    with PILImage.open(file) as picture:
        truth = np.asarray(picture.resize((mask.shape[1], mask.shape[0]))) > 127
    return float(((mask > 0.5) & truth).sum() / ((mask > 0.5) | truth).sum())


# Red, green and blue in CIE XYZ, adapted to the profiles' white D50, from the profiles' own publications.
D50 = (0.9642, 1.0, 0.8249)
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def gamma_profile(colorants: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """An RGB ICC profile of three colorants and one exponent."""
    curve = _gamma_curve(gamma)
    columns = {name: _xyz(value) for name, value in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**columns, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def grey_profile(gamma: float) -> bytes:
    """A grey ICC profile."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma_curve(gamma)})


def cmyk_profile(lightness_of_cyan: float) -> bytes:
    """A CMYK ICC profile of a press whose cyan is a neutral grey; the other inks are black, the paper white."""
    identity_matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    straight = bytes(range(256))
    nodes = b""
    for cyan in (0, 1):
        for other_inks in range(8):
            lightness = 0.0 if other_inks else (lightness_of_cyan if cyan else 100.0)
            nodes += bytes((round(lightness * 2.55), 128, 128))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity_matrix + straight * 4 + nodes + straight * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def srgb_of(pixels: np.ndarray, colorants: tuple[tuple[float, float, float], ...], gamma: float) -> np.ndarray:
    """What the profile's definition says the pixels look like in sRGB, without any colour library."""
    linear = (pixels / 255.0) ** gamma
    xyz = linear @ np.array(colorants)
    wanted = np.clip(xyz @ np.linalg.inv(np.array(SRGB)), 0, 1)
    curved = np.where(wanted <= 0.0031308, wanted * 12.92, 1.055 * wanted ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(curved * 255), np.uint8)


def _xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(number * 65536) for number in value))


def _gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(device: bytes, colours: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"made for a test\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    every = {b"desc": described, b"cprt": b"text\0\0\0\0CC0\0", b"wtpt": _xyz(D50), **tags}
    table, content = struct.pack(">I", len(every)), b""
    start = 128 + 4 + 12 * len(every)
    for tag, value in every.items():
        table += tag + struct.pack(">II", start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIII8sI3i4s44x",
        128 + len(table) + len(content), b"\0" * 4, 0x02400000, device, colours, connection, b"\0" * 12, b"acsp",
        b"\0" * 4, 0, 0, 0, b"\0" * 8, 0, *(round(number * 65536) for number in D50), b"\0" * 4,
    )  # fmt: skip
    assert len(header) == 128
    return header + table + content
