"""What someone who looks on sees while the model denoises: the picture it is heading for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor
from torch.nn import functional

from refgc.imaging.arrays import Bytes, resized
from refgc.imaging.upscale import clean_upscale
from refgc.model.locate import Windows
from refgc.model.paste import put_back
from refgc.request import SCALES, RefineRequest

STAGE = "denoising"
# Steps from one picture to the next: each costs about a quarter of what decoding the result does.
EVERY = 2
# Latents are averaged over so many each way before they are decoded.
REDUCTION = 2
# Pictures to look at are no larger than this where a smaller scale allows it.
LARGEST_SIDE = 1280


@contextmanager
def predictions(transformer: FluxTransformer2DModel, tokens: int) -> Iterator[list[Tensor]]:
    """Notes the clean latents that the model predicts at each step, z0 = z_t - sigma * v.

    Args:
        transformer: is only listened to.
        tokens: how many of those it is given are the noisy picture's; they come first.

    Yields:
        A list with the newest prediction alone in it, (1, tokens, 4 * latent channels), float32; empty before the
        first step.
    """
    newest: list[Tensor] = []

    def note(_: object, _arguments: tuple[Any, ...], given: dict[str, Any], output: tuple[Tensor, ...]) -> None:
        noisy, velocity = given["hidden_states"][:, :tokens], output[0][:, :tokens]
        # What diffusers calls the timestep, over a thousand, is sigma.
        newest[:] = [noisy.float() - given["timestep"][:, None, None].float() * velocity.float()]

    handle = transformer.register_forward_hook(note, with_kwargs=True)
    try:
        yield newest
    finally:
        handle.remove()


def decode_reduced(vae: AutoencoderKL, latents: Tensor) -> Bytes:
    """A quick look at latents.

    Args:
        vae: of the pipeline.
        latents: (1, channels, height, width) as the transformer knows them.

    Returns:
        uint8 RGB, four pixels to a latent instead of eight.
    """
    small = functional.avg_pool2d(latents, REDUCTION) / vae.config.scaling_factor + vae.config.shift_factor
    decoded = vae.decode(small.to(vae.dtype), return_dict=False)[0][0]
    levels = (decoded.float().nan_to_num() * 127.5 + 127.5).clamp(0, 255).round()
    return np.asarray(levels.to(torch.uint8).movedim(0, 2).cpu(), np.uint8)


class Outlook:
    """Lays what the model is heading for into the enlarged generated picture, at a size that is quick to make."""

    def __init__(self, request: RefineRequest, windows: Windows) -> None:
        """Enlarges the generated picture.

        Args:
            request: what is refined.
            windows: where.
        """
        width, height = request.generated.size
        allowed = [scale for scale in SCALES if scale <= request.scale and scale * max(width, height) <= LARGEST_SIDE]
        self._scale = max(allowed, default=1)
        self._upscaled = clean_upscale(request.generated.pixels, (width * self._scale, height * self._scale))
        self._windows = windows
        self._strength = request.strength

    def of(self, drawn: Bytes) -> Bytes:
        """The whole picture with the window as drawn, uint8 RGB; the window may be drawn at any size."""
        window = resized(drawn, self._windows.working_size)
        return put_back(self._upscaled, window, self._windows, self._scale, self._strength)[0]
