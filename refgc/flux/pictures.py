"""A pipeline's pictures: from the VAE's output to pixels, and from pixels to the output types of diffusers."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor

from refgc.errors import EngineError, InputError
from refgc.imaging.arrays import Bytes, Floats

OutputType = Literal["pil", "np", "pt", "latent"]


def check_output_type(name: str) -> None:
    """Refuses an unknown output type.

    Raises:
        InputError: `name` is no `OutputType`.
    """
    if name not in get_args(OutputType):
        raise InputError(f"There is no output type {name!r}; choose {', '.join(get_args(OutputType))}.")


def to_pixels(decoded: Tensor) -> Bytes:
    """A decoded picture as pixels.

    Args:
        decoded: (1, 3, height, width) in [0, 1].

    Returns:
        uint8 RGB, (height, width, 3).

    Raises:
        EngineError: it holds values that are no finite numbers.
    """
    if not torch.isfinite(decoded).all():
        raise EngineError("The model drew no finite colours: run it in bfloat16 or float32, or look to its weights.")
    levels = (decoded[0].movedim(0, 2).float() * 255).round().to(torch.uint8)
    return np.asarray(levels.cpu().numpy(), np.uint8)


def to_output_type(pixels: Bytes, output_type: OutputType) -> list[PILImage.Image] | Floats | Tensor:
    """One picture as diffusers' pipelines return pictures.

    Args:
        pixels: uint8 RGB, (height, width, 3).
        output_type: "pil", "np" for (1, height, width, 3) or "pt" for (1, 3, height, width), both in [0, 1].
    """
    if output_type == "pil":
        return [PILImage.fromarray(pixels)]
    floats = np.asarray(pixels[None] / np.float32(255), np.float32)
    return floats if output_type == "np" else torch.from_numpy(floats).movedim(3, 1)
