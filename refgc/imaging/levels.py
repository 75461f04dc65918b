"""From arrays of pixel values in their many types to 8 bits or to floats in [0, 1]."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from refgc.errors import InputError
from refgc.imaging.decode import check_size

Words = NDArray[np.uint16]
Levels = TypeVar("Levels", bound=NDArray[np.uint8] | NDArray[np.uint16])
"""A picture of 8 or of 16 bits a channel."""

# Rounding in float pictures may step this far outside [0, 1] before the picture counts as wrongly scaled.
FLOAT_SLACK = 1e-3


def checked_array(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The array as (height, width, channels), with 1, 3 or 4 channels of uint8, uint16 or floats in [0, 1].

    Raises:
        InputError: another shape, size, type or range.
    """
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            f"The {name} is an array of shape {array.shape}; give (height, width), (height, width, 3) or "
            f"(height, width, 4)."
        )
    check_size((array.shape[1], array.shape[0]), name)
    if array.dtype.kind == "f":
        return checked_floats(array, name)
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise InputError(
            f"The {name} is an array of {array.dtype.name}; give uint8, uint16, or floating point from 0 to 1."
        )
    return array


def checked_floats(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """The values as float32, rounding errors outside [0, 1] clipped.

    Raises:
        InputError: a value is further outside, or not a number.
    """
    # Not-a-number fails both comparisons.
    if not (values.min() >= -FLOAT_SLACK and values.max() <= 1 + FLOAT_SLACK):
        raise InputError(f"The {name} has floating-point values outside 0 to 1 or not finite; scale them to 0 to 1.")
    return values.astype(np.float32).clip(0, 1)


def to_bytes(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8, uint16 or floats in [0, 1] as uint8, rounded to the nearest."""
    if levels.dtype.kind == "f":
        return np.rint(levels * np.float32(255)).astype(np.uint8)
    if levels.dtype.itemsize == 2:
        return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return levels


def to_words(levels: NDArray[Any]) -> NDArray[np.uint16]:
    """uint8 or uint16 as uint16; 255 becomes 65535."""
    return levels if levels.dtype.itemsize == 2 else levels.astype(np.uint16) * np.uint16(257)


def to_unit(levels: NDArray[Any]) -> NDArray[np.float32]:
    """uint8, uint16 or floats in [0, 1] as float32 in [0, 1]."""
    values = levels.astype(np.float32)
    if levels.dtype.kind != "f":
        values /= np.float32(np.iinfo(levels.dtype).max)
    return values
