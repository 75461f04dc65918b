"""SAM's networks, loaded from this machine, and the embeddings of a picture.

Pictures are prepared here and not by the image processors of transformers: those need torchvision, each build of which
fits one build of torch only. The networks do not need it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, Sam2Model, Sam3TrackerModel, Sam3VideoModel
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
)

# Imported from its module: the name at the top level of transformers requires torchvision, which only box prompts need.
from transformers.models.sam3.modeling_sam3 import Sam3Model

from refgc import machine
from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image
from refgc.masks import weights
from refgc.settings import settings
from refgc.weight_files import check_transformers_network, quiet_transformers

Part = Literal["tracker", "detector", "video"]
"""The network that takes clicks and boxes, the one that takes words, or both together, which follow them in a video."""

# The longest phrase that SAM 3 reads, in word pieces, start and end token included.
LONGEST_TEXT = 32
# Mean and standard deviation of each colour channel, as each SAM was trained with.
SAM2_COLOURS = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
SAM3_COLOURS = (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD)


class Networks:
    """SAM's networks, each loaded when it is first needed; the embeddings of the last picture are cached.

    Attributes:
        source: a folder, or a Hub repository that was downloaded.
        kind: the name that transformers gives to the model.
        device: that it computes on.
        dtype: of the image encoder. Marks are always encoded in float32: in bfloat16 coordinates are wrong by pixels.
    """

    def __init__(self, source: str, device: str | None, dtype: torch.dtype | None) -> None:
        """See `refgc.masks.sam.SamSegmenter`."""
        self.source = source
        self._folder = weights.find(source)
        self.kind = weights.architecture(self._folder)
        self.device = choose_device(device)
        halved = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        self.dtype = dtype or (torch.bfloat16 if halved else torch.float32)
        self._loaded: dict[str, Any] = {}
        self._cached: dict[Part, tuple[bytes, Any]] = {}

    def network(self, part: Part) -> Any:
        """A network in evaluation mode on its device.

        Raises:
            WeightFileError, OSError: its files are damaged or do not fit its config.
        """
        if part not in self._loaded:
            is_sam2 = self.kind.startswith("sam2")
            of_sam3 = {"detector": Sam3Model, "tracker": Sam3TrackerModel, "video": Sam3VideoModel}
            architecture = Sam2Model if is_sam2 else of_sam3[part]
            check_transformers_network(self._folder, architecture, part)
            with quiet_transformers():
                network = architecture.from_pretrained(
                    self._folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
                )
            self._loaded[part] = network.eval().requires_grad_(False).to(self.device)
        return self._loaded[part]

    def read(self, text: str) -> Any:
        """The word pieces of a phrase and their attention mask, both (1, LONGEST_TEXT).

        Raises:
            InputError: the phrase is too long.
        """
        if "tokenizer" not in self._loaded:
            self._loaded["tokenizer"] = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        words = self._loaded["tokenizer"](text, padding="max_length", max_length=LONGEST_TEXT, return_tensors="pt")
        if words["input_ids"].shape[1] > LONGEST_TEXT:
            raise InputError("The text is too long for SAM; name the object in a few words, such as 'red cup'.")
        return words.to(self.device)

    def autocast(self) -> torch.autocast:
        """A context in which networks, whose weights are float32, compute in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def side(self, part: Part) -> int:
        """Side in pixels of the square that a network's pictures are resized to."""
        config = self.network(part).config
        if part == "video":
            return int(config.image_size)
        size = (config.prompt_encoder_config if part == "tracker" else config.vision_config).image_size
        return int(size if isinstance(size, int) else size[0])

    def embed(self, image: Image, part: Part) -> Any:
        """The embeddings of a picture: of "tracker" the image embeddings, of "detector" the vision embeddings.

        "video" has none of a single picture.
        """
        digest = hashlib.blake2b(image.pixels.tobytes() + repr(image.size).encode()).digest()
        cached = self._cached.get(part)
        if cached is None or cached[0] != digest:
            cached = self._cached[part] = (digest, self._embed(image, part))
        return cached[1]

    def _embed(self, image: Image, part: Part) -> Any:
        network = self.network(part)
        pixels = self.prepare(image, part)
        with self.autocast():
            if part == "tracker":
                return [level.float() for level in network.get_image_embeddings(pixels)]
            embeddings = network.vision_encoder(pixels)
        for name in ("fpn_hidden_states", "fpn_position_encoding"):
            setattr(embeddings, name, tuple(level.float() for level in getattr(embeddings, name)))
        return embeddings

    def prepare(self, image: Image, part: Part) -> Tensor:
        """The picture as a network takes it: float32 (1, 3, side, side) on its device."""
        side = self.side(part)
        pixels = torch.from_numpy(image.pixels.copy()).to(self.device).permute(2, 0, 1)[None].float() / 255.0
        pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        mean, deviation = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (SAM2_COLOURS if self.kind.startswith("sam2") else SAM3_COLOURS)
        )
        return (pixels - mean) / deviation


def choose_device(asked: str | None) -> torch.device:
    """The device of that name; None reads `REFGC_DEVICE`, and without it takes a GPU if there is one.

    Raises:
        EngineError: there is no such device.
    """
    asked = asked or settings().device or ("cuda" if torch.cuda.is_available() else "cpu")
    if asked != "cpu" and asked.partition(":")[0] != "cuda":
        raise EngineError(f"{machine.DEVICE} is {asked!r}; set it to cuda, cuda:1 (the second GPU) or cpu.")
    if asked != "cpu" and not torch.cuda.is_available():
        raise EngineError(f"{machine.DEVICE} is {asked!r}, and torch finds no GPU here; set it to cpu.")
    return torch.device(asked)
