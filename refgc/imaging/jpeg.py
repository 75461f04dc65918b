"""The segments of a JPEG stream before its first scan (ITU-T T.81, annex B)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Sequential and progressive DCT with Huffman codes. Arithmetic codes may take less than a bit.
HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
WITHOUT_CONTENT = frozenset({0x01, *range(0xD0, 0xD8)})


def segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment up to the first scan, read as libjpeg does."""
    position = 2
    while True:
        position = content.find(b"\xff", position)
        if position < 0:
            return
        marker = position + 1
        while marker < len(content) and content[marker] == 0xFF:
            marker += 1
        if marker + 3 > len(content):
            return
        code, position = content[marker], marker + 1
        if code == 0 or code in WITHOUT_CONTENT:
            continue
        length = int.from_bytes(content[position : position + 2], "big")
        yield code, position + 2, position + length
        if code in (START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN) or length < 2:
            return
        position += length


def frame_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels of a JPEG stream, or None where its beginning holds no frame."""
    return _size(content, START_OF_FRAME)


def huffman_size(content: bytes) -> tuple[int, int] | None:
    """The same; None also where the frame is not one of 8x8 blocks with Huffman codes."""
    return _size(content, HUFFMAN)


def _size(content: bytes, frames: frozenset[int]) -> tuple[int, int] | None:
    if not content.startswith(b"\xff\xd8"):
        return None
    for code, start, _ in segments(content):
        if code in frames and start + 5 <= len(content):
            height, width = struct.unpack_from(">HH", content, start + 1)
            return width, height
    return None
