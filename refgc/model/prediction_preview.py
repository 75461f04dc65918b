"""Intermediate pictures for a viewer: the clean picture that the model predicts while it denoises."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from refgc.engine import Viewer
from refgc.imaging.arrays import Bytes, resized
from refgc.imaging.image import Image
from refgc.imaging.upscale import clean_upscale
from refgc.model.backbones.base import Backbone
from refgc.model.locate import Windows
from refgc.model.paste import put_back
from refgc.model.tokens import unpack
from refgc.request import SCALES, RefineRequest

STAGE = "denoising"
# A picture is shown after every so many steps. Each costs about a quarter of what decoding the result does.
STEPS_PER_PICTURE = 2
# Latents are averaged over squares of this side before they are decoded.
LATENT_REDUCTION = 2
# The longer side of a shown picture, in pixels, is at most this where a smaller scale allows it. Chosen by hand.
MAX_SIDE = 1280


def decode_reduced(backbone: Backbone, vae: Any, latents: Tensor) -> Bytes:
    """Decodes latents at half their size.

    Args:
        backbone: the architecture.
        vae: of the pipeline.
        latents: (1, channels, height, width), normalised as the transformer works on them.

    Returns:
        uint8 RGB, four pixels to a latent instead of eight.
    """
    small = functional.avg_pool2d(backbone.to_vae(vae, latents), LATENT_REDUCTION)
    decoded = vae.decode(small.to(vae.dtype), return_dict=False)[0][0]
    levels = (decoded.float().nan_to_num() * 127.5 + 127.5).clamp(0, 255).round()
    return np.asarray(levels.to(torch.uint8).movedim(0, 2).cpu(), np.uint8)


class PredictionPreview:
    """Shows a viewer the predicted picture, laid into the enlarged generated picture, after every other step."""

    def __init__(
        self,
        viewer: Viewer,
        request: RefineRequest,
        windows: Windows,
        backbone: Backbone,
        *,
        max_side: int = MAX_SIDE,
    ) -> None:
        """Enlarges the generated picture to the size that is shown.

        Args:
            viewer: is shown the pictures.
            request: what is refined.
            windows: where.
            backbone: the architecture.
            max_side: the longer side of a shown picture is at most this where a smaller scale allows it.
        """
        width, height = request.generated.size
        allowed = [scale for scale in SCALES if scale <= request.scale and scale * max(width, height) <= max_side]
        self._scale = max(allowed, default=1)
        self._upscaled = clean_upscale(request.generated.pixels, (width * self._scale, height * self._scale))
        self._viewer = viewer
        self._windows = windows
        self._backbone = backbone
        self._strength = request.strength

    def show(self, step: int, predicted: Tensor, vae: Any) -> None:
        """Decodes a prediction and shows it, unless this step is one that is left out.

        Args:
            step: number of the step, from 0.
            predicted: (1, tokens, 4 * latent channels), the clean latents z0 = z_t - sigma * v.
            vae: of the pipeline.
        """
        if step % STEPS_PER_PICTURE == 0:
            width, height = (side // 8 for side in self._windows.working_size)
            drawn = decode_reduced(self._backbone, vae, unpack(predicted, height, width))
            self._viewer(STAGE, Image(self.in_picture(drawn)))

    def in_picture(self, drawn: Bytes) -> Bytes:
        """The whole picture with the window as drawn, uint8 RGB.

        Args:
            drawn: uint8 RGB, the window at any size.
        """
        window = resized(drawn, self._windows.working_size)
        return put_back(self._upscaled, window, self._windows, self._scale, self._strength)[0]
