"""Layers as OpenRaster 0.0.6 (https://www.openraster.org), which Krita, MyPaint and most builds of GIMP read."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree as ET

import numpy as np

from refgc.imaging.encode import FileOptions, encode
from refgc.imaging.image import Image, Mask, encoded
from refgc.imaging.levels import to_bytes
from refgc.outputs.layers import Layer, LayeredPicture

VERSION = "0.0.6"
PNG = "layer.png"
THUMBNAIL_SIDE = 256


def openraster_bytes(picture: LayeredPicture, options: FileOptions) -> bytes:
    """A picture as the content of an .ora file; the same every time.

    The format has no masks beside a layer, so that a mask becomes the layer's transparency. The colours under it are
    kept. In a transparent picture the upper layers are composited "atop": shown only as far as those below are.

    Args:
        picture: with 8 or 16 bits, which its layers keep.
        options: the profile of the file.
    """
    layers = [(f"data/layer{number}.png", layer) for number, layer in enumerate(picture.layers)]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # The specification wants the kind of file first, and not compressed.
        _add(archive, "mimetype", b"image/openraster", zipfile.ZIP_STORED)
        _add(archive, "stack.xml", _stack(picture, layers), zipfile.ZIP_DEFLATED)
        for name, layer in layers:
            _add(archive, name, _layer_png(picture, layer, options), zipfile.ZIP_STORED)
        merged = encode(picture.merged, picture.alpha, PNG, options)
        _add(archive, "mergedimage.png", merged, zipfile.ZIP_STORED)
        _add(archive, "Thumbnails/thumbnail.png", _thumbnail(picture), zipfile.ZIP_STORED)
    return content.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    """Adds a file without the time of day, so that the same content gives the same bytes."""
    archive.writestr(zipfile.ZipInfo(name), content, compression)


def _stack(picture: LayeredPicture, layers: list[tuple[str, Layer]]) -> bytes:
    width, height = picture.size
    image = ET.Element("image", version=VERSION, w=str(width), h=str(height), xres="72", yres="72")
    stack = ET.SubElement(image, "stack")
    for number, (name, layer) in reversed(list(enumerate(layers))):
        clipped = number > 0 and picture.alpha is not None
        ET.SubElement(
            stack,
            "layer",
            {
                "name": layer.name,
                "src": name,
                "x": str(layer.left),
                "y": str(layer.top),
                "opacity": "1.0",
                "visibility": "visible",
                "composite-op": "svg:src-atop" if clipped else "svg:src-over",
            },
        )
    content: bytes = ET.tostring(image, "UTF-8", xml_declaration=True)
    return content


def _layer_png(picture: LayeredPicture, layer: Layer, options: FileOptions) -> bytes:
    shown = None if layer.mask is None else layer.mask.astype(np.float32)
    return encode(layer.levels, picture.alpha if layer is picture.layers[0] else shown, PNG, options)


def _thumbnail(picture: LayeredPicture) -> bytes:
    """The picture in sRGB, at most `THUMBNAIL_SIDE` pixels a side."""
    import cv2

    width, height = picture.size
    shrunk = min(1.0, THUMBNAIL_SIDE / max(width, height))
    size = max(1, round(width * shrunk)), max(1, round(height * shrunk))
    flat = cv2.resize(to_bytes(picture.flat), size, interpolation=cv2.INTER_AREA)
    alpha = None if picture.alpha is None else Mask(cv2.resize(picture.alpha, size, interpolation=cv2.INTER_AREA))
    return encoded(Image(flat, alpha), PNG)
