"""Layers as a Photoshop document, which Photoshop, GIMP, Krita and Affinity read; psd-tools writes it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image as PILImage

from refgc.imaging.arrays import Bools, Bytes, Floats
from refgc.imaging.encode import FileOptions
from refgc.imaging.levels import Words
from refgc.imaging.profiles import from_srgb, icc_profile
from refgc.outputs.layers import LayeredPicture


def photoshop_bytes(picture: LayeredPicture, options: FileOptions) -> bytes:
    """A picture as the content of a .psd file; the same every time.

    A mask is a mask of its layer here, so that it can be painted on. In a transparent picture the upper layers are
    clipped to the lowest. The merged picture, which programs without layers show, is seen on white, as the format
    wants it.

    Args:
        picture: with 8 or 16 bits, which the file keeps.
        options: the profile of the file.

    Raises:
        ImportError: psd-tools is missing.
    """
    # Not installed with the core.
    from psd_tools import PSDImage
    from psd_tools.constants import Compression, Resource
    from psd_tools.psd import PSD
    from psd_tools.psd.header import FileHeader
    from psd_tools.psd.image_data import ImageData
    from psd_tools.psd.image_resources import ImageResource, ImageResources

    width, height = picture.size
    deep = picture.merged.dtype == np.uint16
    transparent = picture.alpha is not None
    header = FileHeader(channels=4 if transparent else 3, height=height, width=width, depth=16 if deep else 8)
    # Every program reads these. Krita 5.1 reads wrong pixels from 16 bits in the smaller form, ZIP with prediction.
    packed = Compression.RLE
    resources = ImageResources.new()
    profile = ImageResource(key=Resource.ICC_PROFILE, data=icc_profile(options.profile))
    resources[Resource.ICC_PROFILE] = profile
    record = PSD(
        header=header,
        image_resources=resources,
        image_data=ImageData(compression=packed),
    )
    document = PSDImage(record)
    for number, layer in enumerate(picture.layers):
        levels: Any = from_srgb(layer.levels, options.profile)
        if number == 0 and picture.alpha is not None:
            levels = np.dstack([levels, _levels(picture.alpha, levels)])
        added = document.create_pixel_layer_from_array(
            levels, name=layer.name, top=layer.top, left=layer.left, compression=packed
        )
        if layer.mask is not None:
            added.create_mask(_mask(layer.mask), compression=packed)
        added.clipping = number > 0 and transparent
    _merge(record, picture, options)
    content = io.BytesIO()
    # `PSDImage.save` would compute the merged picture anew, where it has the libraries for that.
    record.write(content)
    return content.getvalue()


def _merge(record: Any, picture: LayeredPicture, options: FileOptions) -> None:
    """Puts the merged picture into psd-tools' record of a document, exactly as it is."""
    flat = from_srgb(picture.flat, options.profile)
    planes = [flat[..., channel] for channel in range(3)]
    if picture.alpha is not None:
        planes.append(_levels(picture.alpha, flat))
        # A negative count of layers says that the fourth channel is the transparency of the merged picture.
        layers = record.layer_and_mask_information.layer_info
        layers.layer_count = -abs(layers.layer_count)
    record.image_data.set_data([_big_endian(plane) for plane in planes], record.header)


def _levels(alpha: Floats, like: Bytes | Words) -> Any:
    """A transparency in [0, 1] with as many bits as other levels have."""
    return np.rint(alpha * np.float32(np.iinfo(like.dtype).max)).astype(like.dtype)


def _mask(mask: Bools) -> PILImage.Image:
    return PILImage.fromarray(mask.astype(np.uint8) * np.uint8(255))


def _big_endian(plane: Bytes | Words) -> bytes:
    return plane.astype(plane.dtype.newbyteorder(">")).tobytes()
