"""Pictures and masks as ComfyUI passes them, and as RefGC takes them.

ComfyUI's IMAGE is a tensor (batch, height, width, channels) of floats in [0, 1]; its MASK is (batch, height, width) or
(height, width), 1 where it marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refgc import InputError

Floats = NDArray[np.float32]

# Load Image gives an empty mask of this size for a picture without transparency.
NO_MASK = (64, 64)


def pictures_of(images: Tensor, name: str) -> list[Floats]:
    """The pictures of a batch.

    Args:
        images: an IMAGE, or one picture (height, width, channels); 1, 3 or 4 channels.
        name: what it is called in an error sentence, such as "reference".

    Returns:
        Arrays (height, width, channels). Values that nodes before have left outside [0, 1] are clipped, as ComfyUI does
        when it saves a picture; values that are not numbers stay, and are refused by RefGC.

    Raises:
        InputError: another shape, or an empty batch.
    """
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim != 4 or batch.shape[3] not in (1, 3, 4):
        raise InputError(f"The {name} has the shape {tuple(images.shape)}; connect an IMAGE of 1, 3 or 4 channels.")
    if not len(batch):
        raise InputError(f"The {name} is an empty batch; connect at least one picture.")
    return [np.clip(array, 0, 1) for array in _arrays(batch)]


def masks_of(masks: Tensor | None, name: str) -> list[Floats | None]:
    """The masks of a batch.

    Args:
        masks: a MASK; None where nothing is connected.
        name: what it is called in an error sentence.

    Returns:
        Arrays (height, width) in [0, 1]. None stands for the mask that Load Image gives for a picture without
        transparency, which marks nothing and is smaller than any picture.

    Raises:
        InputError: another shape.
    """
    if masks is None:
        return []
    batch = masks[None] if masks.ndim == 2 else masks
    if batch.ndim == 4 and 1 in (batch.shape[1], batch.shape[3]):
        batch = batch.squeeze(1 if batch.shape[1] == 1 else 3)
    if batch.ndim != 3 or not len(batch):
        raise InputError(f"The {name} has the shape {tuple(masks.shape)}; connect a MASK.")
    arrays = (np.clip(array, 0, 1) for array in _arrays(batch))
    return [None if array.shape == NO_MASK and not array.any() else array for array in arrays]


def one_for_each(masks: list[Floats | None], pictures: int, name: str) -> list[Floats | None]:
    """As many masks as pictures: one mask serves for all of a batch.

    Raises:
        InputError: the masks are neither none, one, nor one for each picture.
    """
    if len(masks) <= 1:
        return (masks or [None]) * pictures
    if len(masks) != pictures:
        raise InputError(f"There are {len(masks)} {name}s for {pictures} pictures; connect one, or one for each.")
    return masks


def image_of(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """An IMAGE of pictures of one size.

    Args:
        pictures: uint8 (height, width, 3) or (height, width, 4). Where one of them has transparency, all get it.
    """
    channels = max(picture.shape[2] for picture in pictures)
    padding = ((0, 0), (0, 0), (0, 1))
    alike = (
        picture if picture.shape[2] == channels else np.pad(picture, padding, constant_values=255)
        for picture in pictures
    )
    return torch.stack([torch.from_numpy(picture.astype(np.float32) / np.float32(255)) for picture in alike])


def mask_of(masks: Sequence[NDArray[Any]]) -> Tensor:
    """A MASK of arrays (height, width) of one size, floats in [0, 1] or uint8."""
    return torch.stack(
        [torch.from_numpy(mask.astype(np.float32) / np.float32(255 if mask.dtype == np.uint8 else 1)) for mask in masks]
    )


def _arrays(batch: Tensor) -> list[Floats]:
    return list(batch.detach().to("cpu", torch.float32).numpy())
