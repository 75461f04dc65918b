"""Stand-in for the decoder of visitors' files, with the same interface: to be replaced when the branches meet."""

from __future__ import annotations

from pathlib import Path
from threading import Event

from refgc.imaging.image import Image, Mask, open_image, open_mask


class StoppedError(Exception):
    """The picture is no longer wanted."""


class Decoder:
    """Decodes in this process."""

    def image(self, path: Path, *, name: str, stop: Event | None = None) -> Image:
        """Open a picture file."""
        if stop is not None and stop.is_set():
            raise StoppedError
        return open_image(path, name=name)

    def mask(self, path: Path, *, size: tuple[int, int], name: str, stop: Event | None = None) -> Mask:
        """Open a mask file."""
        if stop is not None and stop.is_set():
            raise StoppedError
        return open_mask(path, size=size, name=name)

    def close(self) -> None:
        """Nothing to end."""
