"""Files of layers: what their suffixes stand for, whether one can be written, and its content."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from refgc.engine import RefineResult
from refgc.errors import InputError
from refgc.imaging.encode import FileOptions
from refgc.machine import is_importable
from refgc.outputs.layers import LayeredPicture, layers_of
from refgc.outputs.openraster import openraster_bytes
from refgc.outputs.photoshop import photoshop_bytes

LayersFormat = Literal["ora", "psd"]
# The longest side of a .psd. Longer ones need Photoshop's format for large documents, which few other programs read.
PSD_MAX_SIDE = 30_000
WRITERS: Mapping[str, Callable[[LayeredPicture, FileOptions], bytes]] = {
    ".ora": openraster_bytes,
    ".psd": photoshop_bytes,
}


def check_layers(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> None:
    """Checks whether a file of layers can be written.

    Args:
        path: of the file.
        size: (width, height) of the picture in pixels; None where it is not known yet.

    Raises:
        InputError: the suffix is neither .ora nor .psd, or it is .psd and psd-tools is missing, or the picture is too
            large for it.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    if suffix not in WRITERS:
        raise InputError(f"The layers {name!r} have no suffix that can be written; end it in .ora or .psd.")
    if suffix != ".psd":
        return
    if not is_importable("psd_tools"):
        raise InputError(
            f"Layers such as {name!r} need psd-tools: pip install '.[layers]' in the project's folder, or end the name "
            "in .ora."
        )
    if size is not None and max(size) > PSD_MAX_SIDE:
        raise InputError(f"{name!r} would have a side over {PSD_MAX_SIDE} pixels, a .psd's limit; end it in .ora.")


def layers_bytes(result: RefineResult, path: str | os.PathLike[str], options: FileOptions) -> bytes:
    """The content of a file with the layers of a result; the same every time.

    Args:
        result: what an engine made.
        path: its suffix names the format, .ora or .psd.
        options: profile and bits. Layers are packed without loss, so that the quality plays no part.

    Raises:
        InputError: see `check_layers`.
    """
    check_layers(path, result.image.size)
    return WRITERS[Path(path).suffix.lower()](layers_of(result, options.bits or 8), options)
