"""Limits on picture files, and a file under check against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from refgc.errors import InputError

# Full-frame cameras stay under this, and a picture of this size with its working copies still fits in 4 GB of memory.
MAX_PIXELS = 64_000_000

KIBIBYTE, MEBIBYTE = 1024, 1024**2
# The largest size of each kind of metadata, in bytes, all of one kind in a file together. EXIF data come from JPEG,
# where a segment holds 64 KiB; twice that leaves room for what editors add. Colour profiles of printers with large
# tables reach 2 to 3 MB. Texts of image generators hold whole workflows, with pictures at times; a text that is stored
# plainly costs no more than it takes on the disk.
METADATA_LIMITS: Mapping[str, int] = {
    "EXIF data": 128 * KIBIBYTE,
    "colour profile": 4 * MEBIBYTE,
    "text": 16 * MEBIBYTE,
}


def damaged(path: Path | None, name: str) -> InputError:
    """The error for a picture whose pixels cannot be had."""
    file = "" if path is None else f" {path.name!r}"
    return InputError(f"The {name}{file} is damaged or cut off; save or download it again.")


def too_many_pixels(name: str, size: tuple[int, int] | None = None) -> InputError:
    """The error for a picture that is larger than `MAX_PIXELS`; `size` is (width, height) where it is known."""
    stated = f" ({size[0]}x{size[1]} pixels)" if size else ""
    return InputError(
        f"The {name} has more than {MAX_PIXELS // 1_000_000} megapixels{stated}; make it smaller or crop it."
    )


@dataclass(slots=True)
class CheckedFile:
    """A picture file under check, with the bytes of metadata met in it so far, by kind.

    Attributes:
        file: opened for reading.
        end: its size in bytes.
        path: where it lies, for error sentences.
        name: what the picture is called in error sentences, such as "reference".
        met: bytes by kind, as in `METADATA_LIMITS`.
    """

    file: BinaryIO
    end: int
    path: Path
    name: str
    met: Counter[str] = field(default_factory=Counter)

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on."""
        self.file.seek(start)
        return self.file.read(size)

    def meet(self, kind: str, size: int) -> None:
        """Count metadata of a kind.

        Raises:
            InputError: there are more than `METADATA_LIMITS` allow.
        """
        self.met[kind] += size
        if self.met[kind] > METADATA_LIMITS[kind]:
            self.refuse_metadata(kind, METADATA_LIMITS[kind])

    def read_metadata(self, kind: str, start: int, size: int) -> bytes:
        """Metadata of a kind, counted before they are read.

        Raises:
            InputError: there are more than `METADATA_LIMITS` allow.
        """
        self.meet(kind, size)
        return self.read(start, size)

    def check_pixels(self, width: int, height: int) -> None:
        """Raises `InputError` where a picture inside the file exceeds `MAX_PIXELS`."""
        if width * height > MAX_PIXELS:
            raise too_many_pixels(self.name, (width, height))

    def refuse(self) -> NoReturn:
        """Raises `InputError`: the file is damaged."""
        raise damaged(self.path, self.name)

    def refuse_metadata(self, kind: str, limit: int) -> NoReturn:
        """Raises `InputError`: the file carries more metadata of a kind than `limit` bytes."""
        raise InputError(
            f"The {self.name} {self.path.name!r} carries more {kind} than the {limit // KIBIBYTE} KiB that are "
            f"read here; save it again without metadata."
        )
