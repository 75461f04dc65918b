"""Picture files that are damaged or made to do harm, and what has to become of each."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
import pillow_heif
from PIL import Image as PILImage

from tests.support.pictures import encoded, png_chunk

pillow_heif.register_heif_opener()

# It must be read, must be refused, or may be either.
Expectation: TypeAlias = Literal["ok", "refuse", "any"]

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "avif": ("AVIF", {}),
    "heic": ("HEIF", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "jpeg.tif": ("TIFF", {"compression": "jpeg"}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
}
# Those whose strips libtiff unpacks, and those that are not read, since it leaves rows of a short strip uninitialised.
TIFF_COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd")
FAX_COMPRESSIONS = ("group3", "group4", "tiff_ccitt")

ONE_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """One file: what kind of damage it has, its name, its bytes and what has to become of it."""

    kind: str
    name: str
    content: bytes
    expected: Expectation


def corpus() -> Iterator[DamagedFile]:
    """All files, the same ones in the same order every time."""
    for part in (_whole, _posing, _truncated, _altered, _lying, _bombs, _metadata, _short_strips, _repeated_work):
        yield from part()


def tenth() -> Iterator[DamagedFile]:
    """Every tenth of the files."""
    return islice(corpus(), 0, None, 10)


@cache
def picture() -> PILImage.Image:
    """Smooth colours with noise and an edge, 112x96 pixels."""
    noise = np.random.default_rng(5).normal(0, 12, (96, 112, 3))
    rows, columns = np.mgrid[:96, :112]
    smooth = np.dstack([columns * 2.2, rows * 2.6, 128 + 60 * np.sin(columns / 5) * np.cos(rows / 7)])
    smooth[30:70, 40:80] = (200, 40, 30)
    return PILImage.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


@cache
def file_of(suffix: str) -> bytes:
    """The undamaged picture in one of the `FORMATS`."""
    kind, options = FORMATS[suffix]
    return encoded(picture(), kind, **options)


# ==== no damage
def _whole() -> Iterator[DamagedFile]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif"), ("WEBP", "webp"), ("BMP", "bmp")):
            converted = PILImage.fromarray(np.asarray(picture().convert("L"), np.uint16) * 257)
            with suppress(OSError):  # not every format has every mode
                content = encoded(converted if mode == "I;16" else picture().convert(mode), kind)
                yield DamagedFile("whole", f"{mode.replace(';', '')}.{suffix}", content, "ok")
    for compression in TIFF_COMPRESSIONS:
        yield DamagedFile("whole", f"{compression}.tif", encoded(picture(), "TIFF", compression=compression), "ok")
    for suffix in FORMATS:
        yield DamagedFile("whole", f"{suffix} without suffix", file_of(suffix), "ok")
        yield DamagedFile("whole", f"{suffix}.of another suffix.png", file_of(suffix), "ok")


def _posing() -> Iterator[DamagedFile]:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n(%pipe%touch a) (w) file\nshowpage\n"
    for name, content in {
        "drawing": b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><image href="file:///x"/></svg>',
        "page": b"<html><script>alert(1)</script></html>",
        "script": script,
        "document": encoded(picture(), "PDF"),
        "icon": encoded(picture(), "ICO"),
        "archive": b"PK\3\4" + bytes(200),
        "film": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(500),
        "AVIF type only": b"\0\0\0\x18ftypavif\0\0\0\0avifmif1",
        "HEIC type only": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
        "text": b"hello\n" * 50,
        "zeros": bytes(4096),
        "noise": random.Random(2).randbytes(5000),
    }.items():
        for suffix in ("png", "jpg", "heic", "tif"):
            yield DamagedFile("posing", f"{name}.{suffix}", content, "refuse")


# ==== damage
def _truncated() -> Iterator[DamagedFile]:
    for suffix in FORMATS:
        content = file_of(suffix)
        ends = {1, 4, 12, 20, 33, 60, 100, *(len(content) * part // 12 for part in range(1, 12))}
        ends |= {len(content) - rest for rest in (1, 4, 12, 100)}
        for end in sorted(end for end in ends if 0 < end < len(content)):
            yield DamagedFile("truncated", f"first {end} bytes.{suffix}", content[:end], "any")
        yield DamagedFile("truncated", f"no bytes.{suffix}", b"", "refuse")
        yield DamagedFile("longer", f"more after its end.{suffix}", content + bytes(range(256)) * 2, "ok")


def _altered() -> Iterator[DamagedFile]:
    chance = random.Random(11)
    for suffix in FORMATS:
        for number in range(22):
            content = bytearray(file_of(suffix))
            # Bits of the header, bits anywhere, a run of bytes.
            area, count = ((400, 1), (len(content), 5), (len(content), 0))[(number >= 12) + (number >= 17)]
            for _ in range(count):
                content[chance.randrange(min(area, len(content)))] ^= 1 << chance.randrange(8)
            if not count:
                start = chance.randrange(len(content))
                content[start : start + 64] = chance.randbytes(len(content[start : start + 64]))
            yield DamagedFile("altered", f"altered {number}.{suffix}", bytes(content), "any")


# ==== headers
def png_of(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with packed rows, and chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in parts)


def small_png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of 64x64 pixels, with chunks before its pixels."""
    return png_of(64, 64, 8, 0, zlib.compress(b"\0" * 65 * 64), *chunks)


def tiff_of(tags: dict[int, int | tuple[int, int, int]], data: bytes = b"") -> bytes:
    """A TIFF with tags: one value of type LONG, or type, count and place; the data begin at byte 8 after the header."""
    entries = b""
    for number, value in sorted(tags.items()):
        kind, count, place = value if isinstance(value, tuple) else (4, 1, value)
        entries += struct.pack("<HHII", number, kind, count, place & 0xFFFFFFFF)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def grey_tiff(**changes: int | tuple[int, int, int]) -> bytes:
    """An uncompressed grey TIFF of 64x64 pixels, with tags changed, such as `_257=4096`."""
    tags: dict[int, int | tuple[int, int, int]] = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 278: 64, 279: 4096}
    tags |= {int(number[1:]): value for number, value in changes.items()}
    return tiff_of(tags, b"\x55" * 4096)


def patched_tiff(content: bytes, tags: dict[int, int]) -> bytes:
    """A little-endian TIFF with the values of tags replaced."""
    patched = bytearray(content)
    (start,) = struct.unpack_from("<I", patched, 4)
    (count,) = struct.unpack_from("<H", patched, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        number, kind = struct.unpack_from("<HH", patched, entry)
        if number in tags:
            struct.pack_into("<H" if kind == 3 else "<I", patched, entry + 8, tags[number])
    return bytes(patched)


def _lying() -> Iterator[DamagedFile]:
    empty = zlib.compress(b"")
    for width, height in ((40_000, 40_000), (2**31 - 1, 2**31 - 1), (32_768, 17), (0, 0), (0, 64)):
        yield DamagedFile("lying", f"{width}x{height}.png", png_of(width, height, 8, 2, empty), "refuse")
    for width, height in ((65_535, 65_535), (2**32 - 1, 2**32 - 1), (0, 64), (64, 0)):
        yield DamagedFile("lying", f"{width}x{height}.tif", grey_tiff(_256=width, _257=height), "refuse")
    for width, height in ((60_000, 60_000), (-60_000, 60_000), (60_000, -60_000), (2**31 - 1, 1), (64, -(2**31))):
        header = struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        yield DamagedFile("lying", f"{width}x{height}.bmp", b"BM" + header, "refuse")
    for size in (b"1000000000 1000000000", b"99999999999999999999 9", b"-5 64", b"0 0", b"64", b"6.4 64"):
        for magic in (b"P1", b"P3", b"P4", b"P6", b"Pf"):
            name = f"{magic.decode()} {size.decode()}.ppm"
            yield DamagedFile("lying", name, magic + b"\n" + size + b"\n255\n" + b"1 " * 50, "refuse")
    jpeg = bytearray(file_of("jpg"))
    frame = jpeg.index(b"\xff\xc0") + 5
    for jpeg_size in (b"\xff\xdc\xff\xdc", b"\0\0\0\x40", b"\x1f\x40\x1f\x40"):
        jpeg[frame : frame + 4] = jpeg_size
        too_large: Expectation = "refuse" if jpeg_size.startswith(b"\xff") else "any"
        yield DamagedFile("lying", f"{jpeg_size.hex()}.jpg", bytes(jpeg), too_large)
    for suffix in ("avif", "heic"):
        for side in (7000, 60_000, 2**32 - 1, 0, 32, 1):
            content = bytearray(file_of(suffix))
            start = content.index(b"ispe") + 8
            content[start : start + 8] = struct.pack(">II", side, side)
            expected: Expectation = "refuse" if side > 8000 else "any"
            yield DamagedFile("lying", f"{side}x{side}.{suffix}", bytes(content), expected)
    lossless = b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f" + struct.pack("<I", 16_383 | 16_383 << 14) + bytes(13)
    yield DamagedFile("lying", "16384x16384.webp", lossless, "refuse")
    canvas = b"RIFF\x28\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\xff" * 6 + b"ANIM\6\0\0\0" + bytes(6)
    yield DamagedFile("lying", "canvas.webp", canvas, "refuse")
    for name, frame_size, place in (("larger", 65_535, 0), ("aside", 64, 60_000)):
        frame_header = b"," + struct.pack("<HHHHB", place, place, frame_size, frame_size, 0) + b"\x02\x02\x4c\x01\0;"
        screen = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + bytes(6)
        yield DamagedFile("lying", f"{name} frame.gif", screen + frame_header, "refuse")
    for name, maximum in (("65536", b"65536"), ("0", b"0"), ("long", b"9" * 100)):
        yield DamagedFile(
            "lying", f"maximum {name}.ppm", b"P6\n64 64 " + maximum + b"\n" + bytes(64 * 64 * 6), "refuse"
        )
    indexed = zlib.compress(b"\0" * 65 * 64)
    yield DamagedFile("lying", "no palette.png", png_of(64, 64, 8, 3, indexed), "refuse")
    yield DamagedFile("lying", "short palette.png", png_of(64, 64, 8, 3, indexed, (b"PLTE", b"\1\2\3")), "any")


# ==== more than it seems
def _bombs() -> Iterator[DamagedFile]:
    nothing = zlib.compress(bytes(100 * ONE_MEGABYTE), 9)
    half = zlib.compress(bytes(900_000), 9)
    yield DamagedFile("bomb", "text.png", small_png((b"zTXt", b"a\0\0" + nothing)), "refuse")
    yield DamagedFile("bomb", "international text.png", small_png((b"iTXt", b"a\0\1\0\0\0" + nothing)), "refuse")
    many = [(b"zTXt", b"a%d\0\0" % number + half) for number in range(100)]
    yield DamagedFile("bomb", "many texts.png", small_png(*many), "refuse")
    yield DamagedFile("bomb", "profile.png", small_png((b"iCCP", b"a\0\0" + nothing)), "refuse")
    yield DamagedFile("bomb", "more rows.png", png_of(64, 64, 8, 0, nothing), "any")
    for magic in (b"P3", b"P6"):
        comment = magic + b"\n#" + b"a" * ONE_MEGABYTE + b"\n64 64 255\n" + b"1 " * 64 * 64 * 3
        yield DamagedFile("bomb", f"comment {magic.decode()}.ppm", comment, "refuse")
    yield DamagedFile("bomb", "long number.ppm", b"P3\n64 64 255\n" + b"1" * ONE_MEGABYTE, "refuse")
    header = struct.pack("<IHHIIiiHHIIiiII", 1078, 0, 0, 1078, 40, 4000, 4000, 1, 8, 1, 0, 0, 0, 256, 0)
    runs = b"BM" + header + bytes(1024) + b"\xff\x01" * 100 + b"\0\1"
    yield DamagedFile("bomb", "runs.bmp", runs, "any")
    tags: dict[str, dict[str, int | tuple[int, int, int]]] = {
        "long strip": {"_278": 0x7FFFFFFF, "_279": 0x7FFFFFFF, "_259": 8},
        "long tile": {"_322": 65_536, "_323": 65_536, "_324": 8, "_325": 100, "_259": 8},
        "many strips": {"_273": (4, 0x7FFFFFFF, 8)},
        "many samples": {"_258": (3, 0x7FFFFFFF, 8), "_277": 0x7FFFFFFF},
        "no rows": {"_278": 0},
        "two widths": {"_65000": (3, 1, 64)},
    }
    for name, changes in tags.items():
        expected: Expectation = "any" if name == "two widths" else "refuse"
        yield DamagedFile("bomb", f"{name}.tif", grey_tiff(**changes), expected)
    yield DamagedFile("bomb", "itself.tif", grey_tiff(_34665=8, _34853=8, _330=8), "any")


def exif_of(*entries: tuple[int, int, int, int]) -> bytes:
    """EXIF data with entries of number, type, count and place."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4)


def jpeg_with(segments: bytes) -> bytes:
    """The JPEG with more segments at its beginning."""
    return file_of("jpg")[:2] + segments + file_of("jpg")[2:]


def segment(marker: int, content: bytes) -> bytes:
    """One JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def gif_with(blocks: bytes) -> bytes:
    """The GIF with blocks before its picture."""
    start = 13 + 3 * 256
    return file_of("gif")[:start] + blocks + file_of("gif")[start:]


def _metadata() -> Iterator[DamagedFile]:
    repeated = b"Exif\0\0" * 300_000
    for name, chunk in {
        "eXIf": (b"eXIf", repeated),
        "text": (b"tEXt", b"exif\0" + repeated),
        "packed text": (
            b"zTXt",
            b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 9\n" + b"457869660000" * 60_000),
        ),
    }.items():
        yield DamagedFile("metadata", f"repeated prefix in {name}.png", small_png(chunk), "refuse")
    for suffix in ("webp", "avif", "heic"):
        # The encoders themselves take quadratic time.
        exif = repeated[:360_000] + b"II*\0\x08\0\0\0\0\0\0\0\0\0"
        content = encoded(picture(), FORMATS[suffix][0], exif=exif)
        yield DamagedFile("metadata", f"repeated prefix.{suffix}", content, "refuse")
    tiny = segment(0xE1, b"Exif\0\0x") * 100_000
    yield DamagedFile("metadata", "many EXIF segments.jpg", jpeg_with(tiny), "refuse")
    yield DamagedFile("metadata", "many comments.jpg", jpeg_with(segment(0xFE, b"") * 300_000), "refuse")
    yield DamagedFile("metadata", "long padding.jpg", jpeg_with(b"\xff" * ONE_MEGABYTE), "refuse")
    for name, blocks in {
        "long comment": b"!\xfe" + b"\x01x" * ONE_MEGABYTE + b"\0",
        "many comments": b"!\xfe\x01x\0" * ONE_MEGABYTE,
        "nothing": b"\x01" * ONE_MEGABYTE,
    }.items():
        yield DamagedFile("metadata", f"{name}.gif", gif_with(blocks), "refuse")
    # Thousands of tags that point to the same bytes.
    shared = exif_of(*((40_000 + number, 7, 100_000, 8) for number in range(4000))) + bytes(60_000)
    for suffix in ("png", "webp", "avif", "heic"):
        content = encoded(picture(), FORMATS[suffix][0], exif=shared)
        yield DamagedFile("metadata", f"shared values.{suffix}", content, "refuse")
    same: dict[str, int | tuple[int, int, int]] = {f"_{40_000 + number}": (7, 4000, 8) for number in range(4000)}
    yield DamagedFile("metadata", "shared values.tif", grey_tiff(**same), "refuse")
    yield DamagedFile("metadata", "large numbers.tif", grey_tiff(_40000=(5, 100_000_000, 8)), "any")
    for name, exif in {
        "empty": b"Exif\0\0",
        "no directory": b"Exif\0\0II*\0\xff\xff\xff\xff",
        "many tags": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 300,
        "long orientation": exif_of((0x112, 2, 0x7FFFFFFF, 8)),
        "itself": exif_of((0x8769, 4, 1, 8)),
        "orientation 6": exif_of((0x112, 3, 1, 6)),
        "orientation 99": exif_of((0x112, 3, 1, 99)),
    }.items():
        expected: Expectation = "any" if name == "many tags" else "ok"
        # The encoder of AVIF refuses to write what is no EXIF data.
        for suffix in ("jpg", "png", "webp", "heic", *(["avif"] if name.startswith("orientation") else [])):
            content = encoded(picture(), FORMATS[suffix][0], exif=exif)
            yield DamagedFile("metadata", f"{name}.{suffix}", content, expected)
    for name, profile in {"no profile": b"not a profile" * 20, "long profile": b"x" * 3 * ONE_MEGABYTE}.items():
        for suffix in ("jpg", "webp", "avif", "tif"):
            content = encoded(picture(), FORMATS[suffix][0], icc_profile=profile)
            yield DamagedFile("metadata", f"{name}.{suffix}", content, "ok")


# ==== TIFF strips that hold less than their rows
def short_tiff(compression: str, mode: str = "RGB") -> bytes:
    """A TIFF that says it has 512x512 pixels in one strip, of which the strip holds the first 16 rows."""
    part = PILImage.fromarray(np.random.default_rng(3).integers(0, 256, (16, 512, 3), np.uint8)).convert(mode)
    return patched_tiff(encoded(part, "TIFF", compression=compression), {257: 512, 278: 512})


def narrow_tiff() -> bytes:
    """A TIFF that says it is 512 pixels wide, of which its JPEG stream holds the first 16 columns."""
    part = PILImage.fromarray(np.random.default_rng(3).integers(0, 256, (512, 16, 3), np.uint8))
    return patched_tiff(encoded(part, "TIFF", compression="jpeg"), {256: 512})


def _short_strips() -> Iterator[DamagedFile]:
    for mode in ("RGB", "L", "CMYK", "YCbCr", "RGBA"):
        for compression in TIFF_COMPRESSIONS:
            if mode == "RGBA" and compression == "jpeg":
                continue
            yield DamagedFile("short", f"{mode} {compression}.tif", short_tiff(compression, mode), "refuse")
    for compression in FAX_COMPRESSIONS:
        yield DamagedFile("short", f"{compression}.tif", short_tiff(compression, "1"), "refuse")
    yield DamagedFile("short", "narrow.tif", narrow_tiff(), "refuse")
    yield DamagedFile("short", "missing strip.tif", grey_tiff(_278=16), "refuse")
    content = patched_tiff(encoded(picture(), "TIFF", compression="jpeg"), {279: 300})
    yield DamagedFile("short", "cut stream.tif", content, "any")


# ==== the same work many times
def _repeated_work() -> Iterator[DamagedFile]:
    progressive = encoded(PILImage.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    scan = progressive.rindex(b"\xff\xda")
    scans = progressive[:scan] + progressive[scan:-2] * 2000 + progressive[-2:]
    yield DamagedFile("repeated", "scans.jpg", scans, "refuse")
    chunks: list[tuple[bytes, bytes]] = [(b"prVt", b"")] * 200_000
    yield DamagedFile("repeated", "chunks.png", small_png(*chunks), "refuse")
    frames = [picture(), picture().rotate(90), picture().rotate(180)]
    for suffix in ("png", "gif", "webp", "avif", "heic", "tif"):
        content = encoded(frames[0], FORMATS[suffix][0], save_all=True, append_images=frames[1:])
        yield DamagedFile("repeated", f"frames.{suffix}", content, "ok")
