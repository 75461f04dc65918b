"""CLIP-I and DINO: whether a network recognises the same object in the result as in the reference."""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from refgc.errors import EngineError
from refgc.imaging.image import Image, Mask, to_pil
from refgc.metrics.memo import Memo
from refgc.metrics.metric import Need, Region, pixels_of
from refgc.metrics.networks import device, kind_of, load_network, revision_of
from refgc.metrics.sample import Sample

CLIP_KINDS = ("clip",)
DINO_KINDS = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")


class _Likeness:
    """The cosine similarity of the embeddings of the result and of the reference, in [-1, 1]."""

    name: str
    label: str
    kinds: tuple[str, ...]
    embedding: str

    unit = ""
    digits = 4
    higher_is_better = True
    regions: tuple[Region, ...] = ("whole", "inside")
    needs: frozenset[Need] = frozenset({"reference"})

    def __init__(self, source: str, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._embedded = Memo(self._embed)
        kind = kind_of(folder)
        if kind not in self.kinds:
            raise EngineError(
                f"{self._what} is {source!r}, of the architecture {kind or 'unknown'!r}; name one of "
                f"{', '.join(self.kinds)}."
            )

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRRI (the real photo, as in DreamBooth), 8-bit sRGB, resized and cropped as the network's "
            f"preprocessor says, cosine of {self.embedding}; inside compares the two objects alone on white, "
            "each in the middle of a square as large as its outline; "
            f"{revision_of(self._source, self._folder)}, float32, transformers {version('transformers')}"
        )

    @property
    def _what(self) -> str:
        return f"The network of {self.label}"

    def __call__(self, sample: Sample) -> dict[str, float]:
        """The similarity of the whole pictures, and that of the objects where both masks are there.

        Raises:
            EngineError: the network cannot be read.
        """
        if sample.reference is None:
            return {}
        figures = {self.name: _cosine(self._embedded(sample.result), self._embedded(sample.reference))}
        masks = (sample.truth_mask, sample.reference_mask)
        if all(mask is not None and pixels_of(mask).any() for mask in masks):
            result = self._embedded(sample.result, sample.truth_mask)
            reference = self._embedded(sample.reference, sample.reference_mask)
            figures[f"{self.name}_inside"] = _cosine(result, reference)
        return figures

    def _embed(self, image: Image, mask: Mask | None) -> NDArray[np.float64]:
        import torch

        picture = to_pil(image) if mask is None else object_on_white(image, mask)
        inputs = self._preprocessor(images=picture, return_tensors="pt")["pixel_values"].to(device())
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            return np.asarray(self._vector(inputs).cpu().numpy()[0], np.float64)

    # The classes that resize through Pillow: others would resize through torchvision where that is installed, and the
    # figures would depend on it.
    @cached_property
    def _preprocessor(self) -> Any:
        raise NotImplementedError

    def _vector(self, inputs: Any) -> Any:
        """The embeddings (1, width) of a preprocessed picture (1, 3, height, width)."""
        raise NotImplementedError


class ClipI(_Likeness):
    """CLIP-I (Ruiz et al., 2023): cosine similarity of CLIP's image embeddings (Radford et al., 2021)."""

    name = "clip_i"
    label = "CLIP-I"
    kinds = CLIP_KINDS
    embedding = "CLIP's projected image embeddings"

    @cached_property
    def _network(self) -> Any:
        from transformers import CLIPModel

        return load_network(CLIPModel, self._folder, self._what)

    @cached_property
    def _preprocessor(self) -> Any:
        from transformers import CLIPImageProcessorPil

        return CLIPImageProcessorPil.from_pretrained(self._folder, local_files_only=True)

    def _vector(self, inputs: Any) -> Any:
        network = self._network
        return network.visual_projection(network.vision_model(pixel_values=inputs).pooler_output)


class Dino(_Likeness):
    """The DINO score (Ruiz et al., 2023): cosine similarity of the class tokens of DINO (Caron et al., 2021)."""

    name = "dino"
    label = "DINO"
    kinds = DINO_KINDS
    embedding = "the class tokens after the last layer and its norm"

    @cached_property
    def _network(self) -> Any:
        from transformers import AutoModel

        # The pooled output is not looked at.
        return load_network(AutoModel, self._folder, self._what, unused=("pooler.",))

    @cached_property
    def _preprocessor(self) -> Any:
        from transformers import BitImageProcessorPil, ViTImageProcessorPil

        made_of = BitImageProcessorPil if kind_of(self._folder).startswith("dinov2") else ViTImageProcessorPil
        return made_of.from_pretrained(self._folder, local_files_only=True)

    def _vector(self, inputs: Any) -> Any:
        return self._network(pixel_values=inputs).last_hidden_state[:, 0]


def object_on_white(image: Image, mask: Mask) -> PILImage.Image:
    """The object alone, on white, in the middle of a square as large as the longer side of its outline.

    A mask that marks nothing gives the whole picture.
    """
    pixels = pixels_of(mask)
    if not pixels.any():
        return to_pil(image)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = np.where(pixels[part][..., None], image.pixels[part], 255)
    height, width = cut.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = cut
    return PILImage.fromarray(square)


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))
