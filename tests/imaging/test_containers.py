"""Files made to do harm are refused by what they say of themselves, before a decoder reads them."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageFile

from refgc.errors import InputError
from refgc.imaging.image import Image, open_image
from tests.support.damaged import (
    FAX_COMPRESSIONS,
    TIFF_COMPRESSIONS,
    exif_of,
    file_of,
    gif_with,
    grey_tiff,
    jpeg_with,
    narrow_tiff,
    png_of,
    segment,
    short_tiff,
    small_png,
    tenth,
)
from tests.support.pictures import encoded, noise, quadrants, refusal

REPEATED_PREFIX = b"Exif\0\0"
MEGABYTE = 2**20


@pytest.fixture
def opened(tmp_path):
    """Opens a file of some bytes."""

    def opened(content: bytes) -> Image:
        path = tmp_path / "a file"
        path.write_bytes(content)
        return open_image(path, name="reference")

    return opened


def test_a_tenth_of_the_damaged_files(tmp_path):
    count = 0
    for number, file in enumerate(tenth()):
        path = tmp_path / str(number)
        path.write_bytes(file.content)
        start = time.process_time()
        outcome, sentence = "ok", "."
        try:
            open_image(path, name="reference")
        except InputError as error:
            outcome, sentence = "refuse", str(error)
        assert sentence.endswith("."), file.name
        assert "\n" not in sentence, file.name
        assert file.expected in ("any", outcome), file.name
        assert time.process_time() - start < 2, file.name
        count += 1
    assert count > 80


def test_truncated_pictures_stay_refused():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


# --- metadata -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", REPEATED_PREFIX * 1_300_000),
        (b"tEXt", b"exif\0" + REPEATED_PREFIX * 1_300_000),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n9\n" + b"457869660000" * 80_000)),
    ],
    ids=["eXIf", "text", "packed text"],
)
def test_exif_data_of_megabytes_are_refused_in_no_time(chunk, opened):
    content = small_png(chunk)
    start = time.process_time()
    sentence = refusal(lambda: opened(content))
    assert time.process_time() - start < 1
    assert "carries more EXIF data than the 128 KiB that are read here; save it again without metadata" in sentence


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "heic"])
def test_tags_that_share_their_bytes_do_not_fill_memory(suffix, opened):
    exif = exif_of(*((40_000 + number, 7, 60_000, 8) for number in range(2000))) + bytes(40_000)
    kind = {"jpg": "JPEG", "heic": "HEIF"}.get(suffix, suffix.upper())
    assert "is damaged" in refusal(lambda: opened(encoded(PILImage.fromarray(quadrants()), kind, exif=exif)))


def test_exif_data_of_many_segments_are_refused(opened):
    assert "is damaged" in refusal(lambda: opened(jpeg_with(segment(0xE1, b"Exif\0\0x") * 11_000)))
    large = segment(0xE1, b"Exif\0\0" + bytes(60_000))
    assert "more EXIF data" in refusal(lambda: opened(jpeg_with(large * 3)))


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ((b"zTXt", b"a\0\0" + zlib.compress(bytes(2 * MEGABYTE))), "text"),
        ((b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2 * MEGABYTE))), "text"),
        ((b"tEXt", b"a\0" + b"x" * 17 * MEGABYTE), "text"),
        ((b"iCCP", b"a\0\0" + zlib.compress(bytes(2 * MEGABYTE))), "colour profile"),
    ],
    ids=["packed text", "international text", "plain text", "profile"],
)
def test_large_texts_and_profiles_of_a_png_are_refused(chunk, kind, opened):
    assert f"carries more {kind} than" in refusal(lambda: opened(small_png(chunk)))


def test_texts_count_together(opened):
    text = b"a\0\0" + zlib.compress(bytes(MEGABYTE))
    assert opened(small_png(*[(b"zTXt", text)] * 15)).size == (64, 64)
    assert "carries more text than" in refusal(lambda: opened(small_png(*[(b"zTXt", text)] * 17)))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_large_profiles_are_refused(suffix, opened):
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    assert "more colour profile than" in refusal(
        lambda: opened(encoded(PILImage.fromarray(quadrants()), kind, icc_profile=bytes(5 * MEGABYTE)))
    )


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("exif", [b"\0", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_data_that_cannot_be_read_are_as_good_as_none(suffix, exif, opened):
    content = encoded(PILImage.fromarray(quadrants()), suffix.upper(), exif=exif, lossless=True)
    np.testing.assert_array_equal(opened(content).pixels, quadrants())


def test_what_editors_and_generators_write_is_read(opened):
    workflow = (b"tEXt", b"workflow\0" + b"x" * 5 * MEGABYTE)
    assert opened(small_png(workflow, (b"eXIf", exif_of((0x112, 3, 1, 6))[6:]))).size == (64, 64)
    exif = exif_of((0x112, 3, 1, 6), (0x11A, 5, 1, 8), (0x11B, 5, 1, 8)) + bytes(60_000)
    assert opened(encoded(PILImage.fromarray(quadrants()), "JPEG", exif=exif)).size == (48, 64)
    thumbnail = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(60_000)) * 50
    assert opened(jpeg_with(thumbnail)).size == (112, 96)


@pytest.mark.parametrize(
    "content",
    [
        jpeg_with(segment(0xFE, b"") * 20_000),
        jpeg_with(b"\xff" * 200_000),
        gif_with(b"!\xfe" + b"\x01x" * 100_000 + b"\0"),
        gif_with(b"!\xfe\x01x\0" * 100_000),
        gif_with(b"\x01" * 200_000),
        gif_with(b"!\xff" + b"\x01x" * 200_000 + b"\0"),
        small_png(*[(b"prVt", b"")] * 150_000),
        b"P6 #" + b"a" * 200_000 + b"\n64 64 255\n" + bytes(64 * 64 * 3),
    ],
    ids=["segments", "padding", "comment", "comments", "nothing", "extension", "chunks", "comment of a PPM"],
)
def test_what_is_read_piece_by_piece_has_a_limit(content, opened):
    start = time.process_time()
    assert "again" in refusal(lambda: opened(content))
    assert time.process_time() - start < 2


def test_comments_of_a_ppm_are_read(opened):
    assert opened(b"P5 #" + b"a" * 60_000 + b"\n64 #\n64 255\n" + bytes(64 * 64)).size == (64, 64)
    assert opened(b"P4\n1000 1000\n" + bytes(125 * 1000)).size == (1000, 1000)


def test_a_jpeg_of_many_scans_is_refused(opened):
    content = encoded(PILImage.new("RGB", (512, 512)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    assert opened(content[:last] + content[last:-2] * 100 + content[-2:]).size == (512, 512)
    assert "is damaged" in refusal(lambda: opened(content[:last] + content[last:-2] * 200 + content[-2:]))


def test_an_indexed_png_without_palette_is_refused(opened):
    content = png_of(32, 32, 8, 3, zlib.compress(b"\0" * 33 * 32))
    assert refusal(lambda: opened(content)) == (
        "The reference 'a file' is damaged or cut off; save or download it again."
    )


def test_items_that_share_their_bytes_do_not_fill_memory(opened):
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    def with_pieces(count: int) -> bytes:
        # One item, each piece of which is the first 100 bytes of the file; offsets and lengths of 4 bytes.
        item = struct.pack(">HHH", 1, 0, count) + struct.pack(">II", 0, 100) * count
        return file_of("avif")[:32] + box(b"meta", bytes(4) + box(b"iloc", bytes(4) + b"\x44\0\0\1" + item))

    assert "is not a picture that can be read" in refusal(lambda: opened(with_pieces(1)))
    assert "is damaged or cut off" in refusal(lambda: opened(with_pieces(1000)))


# --- TIFF -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", TIFF_COMPRESSIONS)
def test_a_strip_that_holds_less_than_its_rows_yields_no_pixels(compression, mode, opened):
    assert "; save" in refusal(lambda: opened(short_tiff(compression, mode)))


def test_a_strip_that_holds_less_than_its_columns_yields_no_pixels(opened):
    assert "is damaged" in refusal(lambda: opened(narrow_tiff()))


@pytest.mark.parametrize("compression", FAX_COMPRESSIONS)
def test_fax_compression_is_not_read(compression, opened):
    sentence = refusal(lambda: opened(encoded(PILImage.new("1", (64, 64)), "TIFF", compression=compression)))
    assert sentence.endswith("save it with LZW or without compression, or as PNG.")


@pytest.mark.parametrize("compression", TIFF_COMPRESSIONS)
@pytest.mark.parametrize("size", [(64, 48), (48, 500), (33, 17)])
def test_strips_that_hold_their_rows_are_read(compression, size, opened):
    pixels = noise(size[1], size[0]) // 4 + 96
    image = opened(encoded(PILImage.fromarray(pixels), "TIFF", compression=compression, strip_size=4096))
    assert image.size == size
    if compression != "jpeg":
        np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize(
    "changes",
    [{"_278": 16}, {"_278": 0}, {"_322": 16, "_323": 16}, {"_322": 16, "_323": 16, "_324": 8}, {"_273": (2, 1, 8)}],
    ids=["missing strips", "no rows", "tiles without offsets", "tiles and strips", "offsets that are no numbers"],
)
def test_strips_that_are_missing_are_refused(changes, opened):
    assert opened(grey_tiff()).size == (64, 64)
    assert "again" in refusal(lambda: opened(grey_tiff(**changes)))


def test_a_repeated_tag_is_refused(opened):
    once, twice = struct.pack("<HHII", 262, 4, 1, 1), struct.pack("<HHII", 257, 4, 1, 32)
    assert "is damaged" in refusal(lambda: opened(grey_tiff().replace(once, twice)))


def test_tags_of_a_tiff_that_share_their_bytes_are_refused(opened):
    shared = {f"_{40_000 + number}": (7, 4000, 8) for number in range(2000)}
    assert "is damaged" in refusal(lambda: opened(grey_tiff(**shared)))


def test_orientation_of_a_big_tiff_is_applied(tmp_path):
    path = Path(tmp_path, "big.tif")
    exif = PILImage.Exif()
    exif[0x0112] = 6
    PILImage.fromarray(quadrants()).save(path, big_tiff=True, exif=exif)
    assert open_image(path, name="reference").size == (48, 64)
