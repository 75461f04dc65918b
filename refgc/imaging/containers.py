"""What a picture file says of itself, checked before a decoder reads it: sizes of metadata, scans, chunks and items.

Decoders trust the file: Pillow 12 strips a repeated `Exif` prefix and joins comments in quadratic time. The checks here
read the structure only, in time linear in the file. What they cannot follow they leave to the decoder, which refuses a
file that it cannot follow either.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from refgc.imaging.jpeg import START_OF_SCAN, segments
from refgc.imaging.limits import KIBIBYTE, MEBIBYTE, CheckedFile
from refgc.imaging.tiff import check_directories, check_tiff

# Pillow refuses to unpack more of a compressed text or profile in a PNG, with an error that names no remedy.
UNPACKED_LIMIT = MEBIBYTE
# Pillow appends the blocks of a GIF comment, each of which may hold one byte, one by one to a copy of those before.
GIF_COMMENT_LIMIT = 64 * KIBIBYTE
# Everything before the pixels of a JPEG or GIF. Depth maps in XMP segments of phone pictures reach some MB.
HEADER_LIMIT = 16 * MEBIBYTE
# Encoders write tens of scans at most; each scan of a large picture takes the time of decoding the whole picture.
MAX_SCANS = 200
# The longest profile and text together take some hundred segments.
MAX_SEGMENTS = 10_000
# Pillow reads byte by byte what stands between segments, nothing or a few bytes of padding, and the header of a PPM.
OUTSIDE_LIMIT = 64 * KIBIBYTE
# 25 MB in full blocks of 255 bytes.
MAX_BLOCKS = 100_000
# A picture of 64 megapixels with 16-bit RGBA in chunks of 4 KiB, stored without compression, stays under this.
MAX_CHUNKS = 150_000


def check_container(file: BinaryIO, path: Path, name: str) -> None:
    """Check the structure of a picture file; the position in the file is undefined afterwards.

    Args:
        file: the opened file.
        path: where it lies, for the error sentence.
        name: what the picture is called in an error sentence, such as "reference".

    Raises:
        InputError: metadata are larger than `METADATA_LIMITS`, a TIFF holds less than its header says, or a picture
            inside the file exceeds `MAX_PIXELS`.
    """
    checked = CheckedFile(file, file.seek(0, io.SEEK_END), path, name)
    start = checked.read(0, 16)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(checked)
    elif start.startswith(b"\xff\xd8\xff"):
        _check_jpeg(checked)
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        check_tiff(checked)
    elif start.startswith(b"GIF8"):
        _check_gif(checked)
    elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        _check_webp(checked)
    elif start[4:8] == b"ftyp":
        _check_isobmff(checked)
    elif re.match(rb"P[1-6f]\s", start):
        _check_ppm(checked)


def _check_exif(checked: CheckedFile, content: bytes) -> None:
    """EXIF data are a TIFF file in miniature, behind a prefix that some writers repeat."""
    content = re.sub(rb"\A(?:Exif\0\0)+", b"", content)
    check_directories(CheckedFile(io.BytesIO(content), len(content), checked.path, checked.name))


# ==== PNG (ISO/IEC 15948)
def _check_png(checked: CheckedFile) -> None:
    indexed, palette = False, False
    for kind, start, length in _png_chunks(checked):
        if kind == b"IHDR":
            indexed = checked.read(start, 10)[9:] == b"\x03"
        elif kind == b"PLTE":
            palette = True
        elif kind == b"IDAT" and indexed and not palette:
            checked.refuse()
        elif kind == b"eXIf":
            _check_exif(checked, checked.read_metadata("EXIF data", start, length))
        elif kind == b"iCCP":
            _, _, packed = checked.read_metadata("colour profile", start, length).partition(b"\0")
            _unpacked(checked, "colour profile", packed[1:])
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _check_png_text(checked, kind, checked.read_metadata("text", start, length))


def _png_chunks(checked: CheckedFile) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of each chunk that lies in the file whole."""
    position = 8
    for _ in range(MAX_CHUNKS):
        header = checked.read(position, 8)
        length, kind, start = int.from_bytes(header[:4], "big"), header[4:], position + 8
        if kind == b"IEND" or not re.fullmatch(rb"\w{4}", kind) or start + length > checked.end:
            return
        yield kind, start, length
        position = start + length + 4
    checked.refuse()


def _check_png_text(checked: CheckedFile, kind: bytes, content: bytes) -> None:
    keyword, _, text = content.partition(b"\0")
    packed = kind == b"zTXt"
    if packed:
        text = text[1:]
    elif kind == b"iTXt":
        packed = text[:1] not in (b"", b"\0")
        # Two flags, the language and the translated keyword stand before.
        text = b"".join(text[2:].split(b"\0", 2)[2:])
    if packed:
        text = _unpacked(checked, "text", text)
        checked.meet("text", len(text))
    # Pillow takes text under these keywords for EXIF data: plain bytes, and ImageMagick's hexadecimal digits, which
    # begin in the fourth line.
    if keyword == b"exif":
        checked.meet("EXIF data", len(text))
        _check_exif(checked, text)
    elif keyword == b"Raw profile type exif":
        digits = b"".join(b"".join(text.split(b"\n")[3:]).split())
        checked.meet("EXIF data", len(digits) // 2)
        if re.fullmatch(rb"(?:[0-9a-fA-F]{2})*", digits):
            _check_exif(checked, bytes.fromhex(digits.decode("ascii")))


def _unpacked(checked: CheckedFile, kind: str, packed: bytes) -> bytes:
    """What packed metadata hold; empty where they are broken."""
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(packed, UNPACKED_LIMIT)
    except zlib.error:
        return b""
    if unpacker.unconsumed_tail:
        checked.refuse_metadata(kind, UNPACKED_LIMIT)
    return unpacked


# ==== JPEG (ITU-T T.81)
def _check_jpeg(checked: CheckedFile) -> None:
    content = checked.read(0, HEADER_LIMIT)
    exif, scan, outside, last = b"", None, 0, 2
    for number, (code, start, stop) in enumerate(segments(content)):
        # A marker and a length stand before the content.
        outside, last = outside + start - 4 - last, stop
        if number > MAX_SEGMENTS or outside > OUTSIDE_LIMIT:
            checked.refuse()
        if code == 0xE1 and content.startswith(b"Exif\0\0", start):
            checked.meet("EXIF data", stop - start)
            # Pillow joins the segments, each without its prefix.
            exif += content[start + 6 : stop]
        elif code == 0xE2 and content.startswith(b"ICC_PROFILE\0", start):
            checked.meet("colour profile", stop - start)
        elif code == START_OF_SCAN:
            scan = start
    _check_exif(checked, exif)
    if scan is None:
        if last + OUTSIDE_LIMIT < checked.end:
            checked.refuse()
        return
    scans, position, before = 1, scan, b""
    while block := checked.read(position, MEBIBYTE):
        finished, _, rest = (before + block).partition(b"\xff\xd9")
        scans += finished.count(b"\xff\xda")
        if scans > MAX_SCANS:
            checked.refuse()
        if rest or finished != before + block:
            return
        position += len(block)
        # A marker may lie across the end of the block.
        before = b"\xff" if block.endswith(b"\xff") else b""


# ==== GIF (version 89a)
def _check_gif(checked: CheckedFile) -> None:
    content = checked.read(0, HEADER_LIMIT)
    comment = 0
    for number, (label, start, stop) in enumerate(_gif_blocks(content)):
        comment += (stop - start) * (label == b"\xfe")
        if comment > GIF_COMMENT_LIMIT:
            checked.refuse_metadata("text", GIF_COMMENT_LIMIT)
        if number > MAX_BLOCKS:
            checked.refuse()
        if stop >= HEADER_LIMIT:
            checked.refuse_metadata("metadata", HEADER_LIMIT)


def _gif_blocks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Label, start and end of each block of the extensions before the first picture; without label what is none."""
    flags = content[10] if len(content) > 10 else 0
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while (introducer := content[position : position + 1]) not in (b"", b",", b";"):
        label = content[position + 1 : position + 2] if introducer == b"!" else b""
        start, position = position, position + 1 + len(label)
        while label and position < len(content):
            length = content[position]
            position += 1 + length
            yield label, start, position
            start = position
            if not length:
                break
        if not label:
            yield label, start, position


# ==== PPM and its kin
def _check_ppm(checked: CheckedFile) -> None:
    """Pillow reads comments in the header byte by byte."""
    header = checked.read(0, OUTSIDE_LIMIT)
    # The kind, the width, the height and, of all but bitmaps, the largest value.
    fields = 3 if header[1:2] in b"14" else 4
    if len(header) == OUTSIDE_LIMIT and len(re.sub(rb"#[^\r\n]*", b"", header).split(maxsplit=4)) < fields:
        checked.refuse()


# ==== WebP (RFC 9649)
def _check_webp(checked: CheckedFile) -> None:
    position = 12
    while len(header := checked.read(position, 18)) >= 8:
        kind, length = header[:4], int.from_bytes(header[4:8], "little")
        body = header[8:]
        match kind:
            case b"VP8X" if len(body) == 10:
                checked.check_pixels(1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
            case b"VP8 " if body[3:6] == b"\x9d\x01\x2a" and len(body) == 10:
                width, height = struct.unpack_from("<HH", body, 6)
                checked.check_pixels(width & 0x3FFF, height & 0x3FFF)
            case b"VP8L" if body[:1] == b"\x2f" and len(body) >= 5:
                bits = int.from_bytes(body[1:5], "little")
                checked.check_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
            case b"EXIF":
                _check_exif(checked, checked.read_metadata("EXIF data", position + 8, length))
            case b"ICCP":
                checked.meet("colour profile", length)
            case b"XMP ":
                checked.meet("text", length)
        position += 8 + length + (length & 1)


# ==== AVIF and HEIC (ISO/IEC 14496-12)
def _check_isobmff(checked: CheckedFile) -> None:
    content = checked.read(0, checked.end)
    # They may show a small cut-out of a huge picture, which would have to be decoded whole.
    for declared in re.findall(rb"ispe\0{4}(.{8})", content, re.DOTALL):
        checked.check_pixels(*struct.unpack(">II", declared))
    for kind, start, stop in _boxes(content, 0, len(content)):
        if kind != b"meta":
            continue
        boxes = {kind: (start, stop) for kind, start, stop in _boxes(content, start + 4, stop)}
        exif_items = set(_items_of_kind(content, b"Exif", *boxes.get(b"iinf", (0, 0))))
        met, exif = 0, b""
        for item, start, length in _item_extents(content, *boxes.get(b"iloc", (0, 0))):
            met += length
            # Items may not fill memory by naming one place in the file many times.
            if met > 2 * len(content):
                checked.refuse()
            if item in exif_items:
                checked.meet("EXIF data", length)
                exif += content[start : start + length]
        # The first four bytes say how far the TIFF header is.
        _check_exif(checked, exif[4:])


def _boxes(content: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box."""
    while start + 8 <= stop:
        size, kind, head = int.from_bytes(content[start : start + 4], "big"), content[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = stop - start
        if size < head:
            return
        yield kind, start + head, min(start + size, stop)
        start += size


def _item_extents(content: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Item, start and length of each piece of the items, from the content of an `iloc` box."""
    position = start

    def number(size: int) -> int:
        nonlocal position
        position += size
        return int.from_bytes(content[position - size : position], "big")

    version = number(4) >> 24
    offset_size, length_size = divmod(number(1), 16)
    base_size, index_size = divmod(number(1), 16)
    number_size = 2 if version < 2 else 4
    for _ in range(number(number_size)):
        item = number(number_size)
        number(4 if version else 2)
        base = number(base_size)
        for _ in range(number(2) if length_size else 0):
            if position >= stop:
                return
            number(index_size if version else 0)
            offset = number(offset_size)
            yield item, base + offset, number(length_size)
        if position >= stop:
            return


def _items_of_kind(content: bytes, kind: bytes, start: int, stop: int) -> Iterator[int]:
    """The numbers of the items of a kind, from the content of an `iinf` box."""
    version = content[start] if start < stop else 0
    for box, inner, _ in _boxes(content, start + (6 if version == 0 else 8), stop):
        if box != b"infe" or content[inner] < 2:
            continue
        wide = 4 if content[inner] > 2 else 2
        if content[inner + 6 + wide : inner + 10 + wide] == kind:
            yield int.from_bytes(content[inner + 4 : inner + 4 + wide], "big")
