"""The structure of TIFF files and of EXIF data, checked before a decoder reads it (TIFF revision 6.0, and BigTIFF).

Pillow 12 keeps every tag in memory, even where thousands of them name the same bytes. It hands out uninitialised memory
where the stream in a strip or tile is smaller than the strip or tile.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from refgc.errors import InputError
from refgc.imaging.jpeg import frame_size
from refgc.imaging.limits import KIBIBYTE, MEBIBYTE, CheckedFile

# Cameras write about 100 tags a directory.
MAX_TAGS = 4096
# Offsets and lengths of a picture of 64 megapixels in tiles of 16x16 pixels take 4 MB.
NUMBERS_LIMIT = 8 * MEBIBYTE
# Tags may share small values, such as the resolution in both directions.
SHARED_BYTES = 64 * KIBIBYTE

WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, PLANES = 256, 257, 259, 262, 277, 278, 284
STRIP_OFFSETS, STRIP_LENGTHS, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS = 273, 279, 322, 323, 324, 325
STRUCTURE = frozenset(
    {
        *(WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, PLANES),
        *(STRIP_OFFSETS, STRIP_LENGTHS, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS),
    }
)
PROFILE, XMP = 34_675, 700
SUBDIRECTORIES = (34_665, 34_853, 40_965)
# Bytes of each type of value, and the types that are whole numbers without sign, by their `struct` code.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "L", 16: "Q"}
BYTES = (1, 2, 6, 7)

JPEG_COMPRESSION, YCBCR = 7, 6
# None, LZW, JPEG, deflate (two numbers), PackBits, LZMA and Zstandard. Of these libtiff reports a strip that holds less
# than its rows, JPEG excepted, which is checked here. Fax compressions are missing, since libtiff takes an early end of
# such a strip for its proper end and leaves the rest of the rows uninitialised.
COMPRESSIONS = frozenset({1, 5, JPEG_COMPRESSION, 8, 32_946, 32_773, 34_925, 50_000})


@dataclass(frozen=True, slots=True)
class _Tag:
    """One entry of a directory: its number, the type and count of its values, and where they lie in the file."""

    number: int
    kind: int
    count: int
    start: int

    @property
    def size(self) -> int:
        """In bytes; 0 where the type is unknown."""
        return self.count * TYPE_SIZES.get(self.kind, 0)


@dataclass(slots=True)
class _Tiff:
    """A TIFF file, or EXIF data, which are one in miniature."""

    checked: CheckedFile
    order: str = field(init=False)
    big: bool = field(init=False)

    def __post_init__(self) -> None:
        header = self.checked.read(0, 4)
        self.order = ">" if header.startswith(b"MM") else "<"
        self.big = header[2:] in (b"+\0", b"\0+")

    def first_directory(self) -> list[_Tag]:
        """The tags of the first directory.

        Raises:
            InputError: there are too many tags, or they and those of its subdirectories claim more than the file holds.
        """
        (start,) = self._place(8 if self.big else 4)
        directories = [self._directory(start)]
        for tag in directories[0]:
            # What is more than three subdirectories is a repetition.
            if tag.number in SUBDIRECTORIES and len(directories) < 4:
                directories += [self._directory(start) for start in self.values(tag)[:1]]
        tags = [tag for directory in directories for tag in directory]
        if sum(tag.size for tag in tags) > self.checked.end + SHARED_BYTES:
            self.checked.refuse()
        if sum(tag.size for tag in tags if tag.kind not in BYTES) > NUMBERS_LIMIT:
            self.checked.refuse_metadata("metadata", NUMBERS_LIMIT)
        return directories[0]

    def values(self, tag: _Tag) -> tuple[int, ...]:
        """The values of a tag of whole numbers; none where it is of another type or lies beyond the file."""
        code = WHOLE_NUMBERS.get(tag.kind)
        return self._unpack(code, tag.start, tag.count) if code else ()

    def _unpack(self, code: str, start: int, count: int = 1) -> tuple[int, ...]:
        """So many numbers of a `struct` code from a place in the file on; none where it ends before."""
        size = count * struct.calcsize(self.order + code)
        if start + size > self.checked.end:
            return ()
        return struct.unpack(f"{self.order}{count}{code}", self.checked.read(start, size))

    def _place(self, start: int) -> tuple[int]:
        """A place in the file, named at another; its end where the other lies beyond."""
        found = self._unpack("Q" if self.big else "L", start)
        return (found[0] if found else self.checked.end,)

    def _directory(self, start: int) -> list[_Tag]:
        (count,) = self._unpack("Q" if self.big else "H", start) or (0,)
        if count > MAX_TAGS:
            self.checked.refuse()
        start += 8 if self.big else 2
        step, inline = (20, 8) if self.big else (12, 4)
        tags = []
        for entry in range(start, start + step * count, step):
            number, kind = self._unpack("H", entry, 2) or (0, 0)
            (values,) = self._unpack("Q" if self.big else "L", entry + 4) or (0,)
            tag = _Tag(number, kind, values, entry + 4 + inline)
            if tag.size > inline:
                tag = _Tag(number, kind, values, *self._place(tag.start))
            # Decoders leave out what lies beyond the file.
            if number in STRUCTURE or tag.start + tag.size <= self.checked.end:
                tags.append(tag)
        return tags


def check_directories(checked: CheckedFile) -> None:
    """Check the sizes of the tags of EXIF data.

    Raises:
        InputError: there are too many tags, or they claim more than the file holds.
    """
    _Tiff(checked).first_directory()


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the pixels of a TIFF are cut into strips or tiles; sizes in pixels."""

    width: int
    height: int
    piece_width: int
    piece_height: int
    planes: int
    tiled: bool

    @property
    def whole(self) -> bool:
        """Whether there is anything in each direction."""
        return min(self.width, self.height, self.piece_width, self.piece_height, self.planes) > 0

    @property
    def columns(self) -> int:
        """Strips or tiles side by side."""
        return -(-self.width // self.piece_width)

    @property
    def pieces(self) -> int:
        """Strips or tiles in all planes together."""
        return self.columns * -(-self.height // self.piece_height) * self.planes

    def rows(self, piece: int) -> int:
        """The rows of a strip or tile; the last strip of a plane ends with the picture, tiles are all alike."""
        if self.tiled:
            return self.piece_height
        line = piece % (self.pieces // self.planes)
        return min(self.piece_height, self.height - line * self.piece_height)


def check_tiff(checked: CheckedFile) -> None:
    """Check the first picture of a TIFF file.

    Raises:
        InputError: its metadata are too large, its compression is none that is read, or a strip or tile is missing or
            holds less than its rows.
    """
    tiff = _Tiff(checked)
    tags = tiff.first_directory()
    by_number = {tag.number: tag for tag in tags}
    for number, kind in ((PROFILE, "colour profile"), (XMP, "text")):
        if number in by_number:
            checked.meet(kind, by_number[number].size)
    numbers = [tag.number for tag in tags if tag.number in STRUCTURE]
    # Of a repeated tag Pillow takes the last and libtiff the first.
    if len(set(numbers)) < len(numbers):
        checked.refuse()

    def value(number: int, default: int) -> int:
        if number not in by_number:
            return default
        values = tiff.values(by_number[number])
        return values[0] if values else checked.refuse()

    compression = value(COMPRESSION, 1)
    converted = value(PHOTOMETRIC, 0) == YCBCR and compression not in (1, JPEG_COMPRESSION)
    if compression not in COMPRESSIONS or converted:
        raise InputError(
            f"The {checked.name} {checked.path.name!r} is a TIFF of a compression that is not read here; save it with "
            f"LZW or without compression, or as PNG."
        )
    tiled = not by_number.keys().isdisjoint({TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS})
    width, height = value(WIDTH, 0), value(HEIGHT, 0)
    checked.check_pixels(width, height)
    layout = _Layout(
        width,
        height,
        value(TILE_WIDTH, 0) if tiled else width,
        value(TILE_HEIGHT, 0) if tiled else min(value(ROWS_PER_STRIP, height), height),
        value(SAMPLES, 1) if value(PLANES, 1) == 2 else 1,
        tiled,
    )
    if not layout.whole or (tiled and STRIP_OFFSETS in by_number):
        checked.refuse()
    places, lengths = (TILE_OFFSETS, TILE_LENGTHS) if tiled else (STRIP_OFFSETS, STRIP_LENGTHS)
    if places not in by_number or by_number[places].count < layout.pieces:
        checked.refuse()
    if compression == JPEG_COMPRESSION:
        found = tiff.values(by_number[places]), tiff.values(by_number[lengths]) if lengths in by_number else ()
        _check_streams(checked, layout, list(zip(*found, strict=False)))


def _check_streams(checked: CheckedFile, layout: _Layout, places: list[tuple[int, int]]) -> None:
    """Each strip or tile, at its place in the file and of its length, holds a JPEG stream at least as large."""
    if len(places) < layout.pieces:
        checked.refuse()
    for piece, (start, length) in enumerate(places[: layout.pieces]):
        # Few streams have more than their tables before their frame.
        windows = (frame_size(checked.read(start, min(length, most))) for most in (KIBIBYTE, 256 * KIBIBYTE))
        width, height = next(filter(None, windows), (0, 0))
        if width < layout.piece_width or height < layout.rows(piece):
            checked.refuse()
