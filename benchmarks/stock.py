"""The pipeline of diffusers itself, called as its user calls it, with one picture or with two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image as PILImage
from torch import Tensor

from benchmarks.random_model import GUIDANCE, Inputs, Sizes
from refgc.model.loading import AnyRefGCPipeline


@dataclass(slots=True)
class StockPainter:
    """Paints with `FluxKontextPipeline` or `Flux2KleinPipeline`; has what the benchmark needs of a `Painter`.

    `FluxKontextPipeline` takes one picture. Two are put side by side into one, which are as many tokens.

    Attributes:
        pipeline: of diffusers.
        inputs: what it is given.
        sizes: how large they are.
        pictures: how many of the two pictures it is given, the HRRI first.
    """

    pipeline: Any
    inputs: Inputs
    sizes: Sizes
    pictures: int

    @property
    def transformer(self) -> Any:
        """What it paints with."""
        return self.pipeline.transformer

    @property
    def vae(self) -> Any:
        """The same."""
        return self.pipeline.vae

    def warm_up(self, steps: int) -> None:
        """Everything once, and steps twice."""
        self._call(2 * steps)

    def seconds(self, count: int, clock: Callable[[], float]) -> float:
        """The time that `count` steps of the loop take, from the end of one step to the end of another."""
        ends: list[float] = []
        self._call(count + 1, lambda *_: ends.append(clock()), output_type="latent")
        return ends[-1] - ends[0]

    def paint(self) -> Tensor:
        """The whole picture, (1, 3, height, width) in [0, 1]."""
        picture: Tensor = self._call(self.sizes.steps).images
        return picture

    def forget(self) -> None:
        """Nothing is kept from one call to the next."""

    def _call(self, steps: int, ended: Callable[..., None] | None = None, output_type: str = "pt") -> Any:
        def note(_pipeline: Any, *of_step: Any) -> dict[str, Any]:
            if ended is not None:
                ended(*of_step)
            return {}

        words, area = self.inputs.words, self.sizes.height * self.sizes.width
        klein = self.sizes.architecture == "klein"
        # Kontext would resize to an area of its own otherwise, which has a megapixel.
        own = {} if klein else {"pooled_prompt_embeds": words.pooled, "_auto_resize": False, "max_area": area}
        return self.pipeline(
            self._pictures() if klein else _side_by_side(self._pictures()),
            height=self.sizes.height,
            width=self.sizes.width,
            num_inference_steps=steps,
            guidance_scale=1.0 if klein else GUIDANCE,
            prompt_embeds=words.tokens,
            output_type=output_type,
            callback_on_step_end=note,
            **own,
        )

    def _pictures(self) -> list[PILImage.Image]:
        tensors = (self.inputs.reference, self.inputs.generated)[: self.pictures]
        return [
            PILImage.fromarray(((one[0].float() + 1) * 127.5).round().to(torch.uint8).movedim(0, 2).cpu().numpy())
            for one in tensors
        ]


def stock_painter(pipeline: AnyRefGCPipeline, inputs: Inputs, sizes: Sizes, pictures: int) -> StockPainter:
    """The pipeline of diffusers over the same weights."""
    plain = pipeline.backbone.plain(pipeline)
    plain.set_progress_bar_config(disable=True)
    return StockPainter(plain, inputs, sizes, pictures)


def _side_by_side(pictures: list[PILImage.Image]) -> PILImage.Image:
    canvas = PILImage.new("RGB", (sum(one.width for one in pictures), pictures[0].height))
    left = 0
    for one in pictures:
        canvas.paste(one, (left, 0))
        left += one.width
    return canvas
