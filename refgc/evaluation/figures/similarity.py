"""What the paper's Figure 5 measures, for any backbone: similarities of features of blocks, and of latents.

The paper does not say how its features are split and compared. Here each band of a picture's features or latents is one
vector, and the Gaussian is that of the training objective, `GAUSSIAN_SIGMA` latents wide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from refgc.errors import EngineError
from refgc.flux.checks import check_pipeline
from refgc.flux.placement import examine, place
from refgc.flux.reading import prompt_reader, reading
from refgc.flux.speed import SpeedOptions
from refgc.imaging.arrays import Bytes, Size, bicubic, size_of
from refgc.model import loading
from refgc.model import reference_cache as caching
from refgc.model.losses import frequency_split, noised_latents, precise
from refgc.model.objective_settings import GAUSSIAN_SIGMA
from refgc.model.sharding import unwrapped
from refgc.model.tokens import NOISE, PATCH, pack
from refgc.model.velocity import predict_velocity
from refgc.settings import settings as environment

# Timesteps count from 0, clean, to 1000, noise.
TIMESTEPS = 1000
KINDS = ("transformer_blocks", "single_transformer_blocks")


@dataclass(frozen=True, slots=True)
class BandSimilarities:
    """Cosine similarities of each block's features to the last block's.

    Attributes:
        low: of the low frequencies, one for each block; that of the last is 1.
        high: of the high ones.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LatentSimilarities:
    """Cosine similarities of latents to those of the HRGT.

    Attributes:
        hrri: of the HRRI.
        lrgi: of the enlarged LRGI.
        hrri_low: of the low frequencies of both.
        lrgi_low: likewise.
    """

    hrri: float
    lrgi: float
    hrri_low: float
    lrgi_low: float


@dataclass(frozen=True, slots=True, eq=False)
class SceneLatents:
    """The latents of a scene, each (1, channels, height, width), of one size."""

    hrri: Tensor
    lrgi: Tensor
    hrgt: Tensor


class Probe:
    """A model that is looked into: its VAE, and where blocks are measured its transformer and text encoders.

    Attributes:
        title: of the backbone.
        blocks: names of the blocks, in the order in which they run; empty where the transformer is not loaded.
    """

    def __init__(self, pipeline: Any, device: torch.device, embed: Any) -> None:
        """Looks into a pipeline.

        Args:
            pipeline: of `refgc.model.pipeline`; its transformer may be None.
            device: where it computes.
            embed: turns a prompt into `PromptEmbeddings`; not called where the transformer is None.
        """
        self._pipeline = pipeline
        self._device = device
        self._embed = embed
        self.title: str = pipeline.backbone.title
        self.blocks = () if pipeline.transformer is None else block_names(pipeline.transformer)

    @classmethod
    def load(cls, folders: loading.Folders, *, with_blocks: bool) -> Self:
        """Loads a model onto the GPU, or onto the CPU where `REFGC_DEVICE` says so.

        Args:
            folders: from `refgc.model.loading.fetch`.
            with_blocks: whether blocks are to be measured; the VAE alone is loaded otherwise.

        Raises:
            EngineError: the base does not load, or there is no room for it.
            InputError: the adapter is damaged or belongs to another base.
        """
        machine = examine()
        if with_blocks:
            # Nothing may skip a block or compile it into another: features are read after each.
            asked = SpeedOptions.parse(environment().speed)
            options = SpeedOptions(fuse=False, quantization=asked.quantization)
            placement = place(machine, loading.measure(folders, options), options.quantization)
            pipeline: Any = loading.load(folders, placement, options)
            backbone = pipeline.backbone
            reader = prompt_reader(folders.base, placement, pipeline=backbone.pipeline, embed=backbone.embed)
            return cls(pipeline, placement.device, reader.read)
        made_of = loading.pipeline_class(folders.base)
        device = torch.device(machine.device)
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        absent = ("transformer", *made_of.backbone.text_parts)
        with reading(folders.base):
            check_pipeline(folders.base, given=absent)
            pipeline = made_of.from_pretrained(folders.base, use_safetensors=True, dtype=dtype, **dict.fromkeys(absent))
        pipeline.vae.to(device)
        return cls(pipeline, device, None)

    @torch.no_grad()
    def encode(self, hrri: Bytes, lrgi: Bytes, hrgt: Bytes, size: Size) -> SceneLatents:
        """The latents of three pictures at one size, by bicubic interpolation.

        The HRRI is cut to the HRGT's aspect ratio around its middle, so that nothing is stretched.

        Args:
            hrri: uint8 RGB, of any size.
            lrgi: uint8 RGB, which shows the HRGT's frame.
            hrgt: uint8 RGB.
            size: (width, height), multiples of 16.
        """
        at_size = (bicubic(_cut(hrri, size), size), bicubic(lrgi, size), bicubic(hrgt, size))
        return SceneLatents(*map(self._latents, at_size))

    def _latents(self, pixels: Bytes) -> Tensor:
        picture = torch.from_numpy(pixels.copy()).to(self._device).movedim(2, 0)[None]
        vae = self._pipeline.vae
        encoded: Tensor = self._pipeline.backbone.encode(vae, (picture.float() / 127.5 - 1).to(vae.dtype))
        return precise(encoded)

    @torch.no_grad()
    def block_similarities(
        self, latents: SceneLatents, object_name: str, timestep: float, noise: Tensor
    ) -> BandSimilarities:
        """How near each block's features of the noise tokens are to the last block's.

        The HRGT's latents are noised to the timestep; HRRI, LRGI and the prompt are the conditions, as in training. Of
        a model that is guided by a second pass the first is measured.

        Args:
            latents: of the scene.
            object_name: for the prompt.
            timestep: in (0, 1000].
            noise: standard normal, of the shape of the latents.

        Raises:
            EngineError: a block did not run.
        """
        pipeline, device = self._pipeline, self._device
        backbone, transformer, freqmole = pipeline.backbone, pipeline.transformer, pipeline.freqmole
        sigma = torch.tensor([timestep / TIMESTEPS], device=device)
        size = (latents.hrgt.shape[2], latents.hrgt.shape[3])
        tokens = pack(noised_latents(latents.hrgt, noise.to(device), sigma))
        given = backbone.conditions(latents.hrri, latents.lrgi, over=size)
        words = self._embed(pipeline.prompt_for(object_name)).to(device)
        scale = backbone.schedule(pipeline).guidance if freqmole is None else freqmole.config.guidance
        caches = freqmole is not None and freqmole.config.reference_cache
        if caches:
            caching.install(transformer)
        with recorded_features(transformer, tokens.shape[1], words.tokens.shape[1]) as features:
            predict_velocity(
                transformer,
                tokens,
                backbone.positions(size, NOISE, device=device),
                given.tokens,
                given.ids,
                words.tokens,
                words.pooled,
                sigma,
                None if scale is None else torch.full_like(sigma, scale),
                reference_cache=caches,
            )
        if caches:
            caching.clear(transformer)
        missed = [name for name in self.blocks if name not in features]
        if missed:
            raise EngineError(f"{missed[0]} of the transformer did not run, so that its features are not known.")
        ordered = [features[name].to(device) for name in self.blocks]
        return similarities_to_last(ordered, (size[0] // PATCH, size[1] // PATCH))


def block_names(transformer: Any) -> tuple[str, ...]:
    """Such as "transformer_blocks.0", in the order in which they run."""
    inner = unwrapped(transformer)
    return tuple(f"{kind}.{number}" for kind in KINDS for number in range(len(getattr(inner, kind))))


@contextmanager
def recorded_features(transformer: Any, noise_tokens: int, text_tokens: int) -> Iterator[Mapping[str, Tensor]]:
    """The features of the noise tokens after each block, (1, tokens, width), of the last pass inside.

    They are kept in main memory: those of FLUX.1 at a megapixel are 1.4 GB in bfloat16.

    Args:
        transformer: of any of `refgc.model.backbones`.
        noise_tokens: how many stand first among the tokens of pictures.
        text_tokens: how many stand before these, where a block gives both in one sequence.
    """
    features: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            # Text and pictures apart, or one behind the other.
            pictures = output[1] if isinstance(output, tuple) else output[:, text_tokens:]
            features[name] = pictures[:, :noise_tokens].to("cpu")

        return hook

    inner = unwrapped(transformer)
    handles = [inner.get_submodule(name).register_forward_hook(keep(name)) for name in block_names(inner)]
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()


def similarities_to_last(features: Sequence[Tensor], grid: tuple[int, int]) -> BandSimilarities:
    """Cosine similarities of both bands of each features to those of the last ones.

    Args:
        features: of each block, (1, rows * columns, width).
        grid: rows and columns of the tokens.
    """
    last = _bands(features[-1], grid)
    low, high = [], []
    for one in features:
        bands = _bands(one, grid)
        low.append(cosine(bands[0], last[0]))
        high.append(cosine(bands[1], last[1]))
    return BandSimilarities(tuple(low), tuple(high))


@torch.no_grad()
def latent_similarities(latents: SceneLatents) -> LatentSimilarities:
    """How near HRRI and LRGI are to the HRGT, as they are and in their low frequencies."""
    low_hrri, low_lrgi, low_hrgt = (frequency_split(one)[0] for one in (latents.hrri, latents.lrgi, latents.hrgt))
    return LatentSimilarities(
        cosine(latents.hrri, latents.hrgt),
        cosine(latents.lrgi, latents.hrgt),
        cosine(low_hrri, low_hrgt),
        cosine(low_lrgi, low_hrgt),
    )


def cosine(one: Tensor, other: Tensor) -> float:
    """The cosine of the angle between two tensors, each taken as one vector; 0 where one of them is zero."""
    a, b = one.flatten().double(), other.flatten().double()
    length = float(a.norm() * b.norm())
    return max(-1.0, min(1.0, float(a @ b) / length)) if length > 0 else 0.0


def noise_for(identity: str, seed: int, like: Tensor) -> Tensor:
    """Standard normal noise of a tensor's shape that depends on the seed and a scene's id alone."""
    digest = hashlib.sha256(f"{seed} {identity}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(like.shape, generator=generator, dtype=torch.float32)


def _bands(features: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The two bands of features on their grid; the Gaussian is as wide, in pixels, as the one for latents."""
    on_grid = precise(features).mT.reshape(1, -1, *grid)
    return frequency_split(on_grid, GAUSSIAN_SIGMA / PATCH)


def _cut(pixels: Bytes, size: Size) -> Bytes:
    """The largest part around the middle of a picture that has the aspect ratio of a size."""
    width, height = size_of(pixels)
    factor = min(width / size[0], height / size[1])
    wide, high = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    left, top = (width - wide) // 2, (height - high) // 2
    return pixels[top : top + high, left : left + wide]


def model_digest(folders: loading.Folders) -> str:
    """A hash of the weights of base and adapter, of large files over samples of their bytes."""
    from refgc.training.cache_files import networks_digest

    parts = [place.name for place in folders.base.iterdir() if place.is_dir()]
    digest = hashlib.sha256(networks_digest(folders.base, parts).encode())
    adapter = folders.adapter
    for file in [] if adapter is None else sorted(adapter.iterdir()) if adapter.is_dir() else [adapter]:
        if file.suffix in (".safetensors", ".json"):
            digest.update(_file_digest(file))
    return digest.hexdigest()


def _file_digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()
