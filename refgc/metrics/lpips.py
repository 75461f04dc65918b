"""LPIPS: the distance of a result from the truth in the features of a network (Zhang et al., 2018).

The package lpips needs torchvision, each build of which fits one build of torch alone. Only its linear layers are taken,
from its wheel, and the convolutions from the file that torchvision publishes. Both are checked before they are used:
where layers are loaded leniently, a missing one stays random, and the distances are wrong without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refgc.errors import EngineError, InputError
from refgc.imaging.arrays import Bytes
from refgc.metrics.metric import Need, Region, figure_name, region_masks
from refgc.metrics.networks import device
from refgc.metrics.sample import Sample
from refgc.wheels import LPIPS_LAYERS, damaged_files

if TYPE_CHECKING:
    from torch import Tensor

VERSION = "0.1"
# What LPIPS takes from a picture in [-1, 1] and divides it by, channel by channel.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST_NORM = 1e-10
# Pixels of the shortest side that every layer of these networks can take.
SMALLEST_SIDE = 32
ADDRESS = "https://download.pytorch.org/models/"


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with a rectified output.

    Attributes:
        place: its number in torchvision's network.
        stride: in pixels.
        padding: in pixels.
        is_compared: whether LPIPS compares its output.
    """

    place: int
    stride: int = 1
    padding: int = 1
    is_compared: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """The part of a network of torchvision that LPIPS looks at.

    Attributes:
        file: as torchvision publishes its weights; the name ends with the first characters of the file's SHA-256.
        window: side in pixels of the windows of max pooling, which have a stride of 2.
        stages: its convolutions; there is max pooling between the stages.
    """

    file: str
    window: int
    stages: tuple[tuple[Convolution, ...], ...]

    @property
    def digest(self) -> str:
        """The first characters of the SHA-256 of its file."""
        return Path(self.file).stem.rpartition("-")[2]


NETWORKS = {
    "alex": Network(
        "alexnet-owt-7be5be79.pth",
        3,
        (
            (Convolution(0, 4, 2, is_compared=True),),
            (Convolution(3, 1, 2, is_compared=True),),
            tuple(Convolution(place, is_compared=True) for place in (6, 8, 10)),
        ),
    ),
    "vgg": Network(
        "vgg16-397923af.pth",
        2,
        tuple(
            tuple(Convolution(place, is_compared=place == places[-1]) for place in places)
            for places in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
        ),
    ),
}


class Lpips:
    """LPIPS against the truth, at least 0; 0 for equal pictures."""

    name = "lpips"
    label = "LPIPS"
    unit = ""
    digits = 4
    higher_is_better = False
    regions: tuple[Region, ...] = ("whole", "inside", "outside")
    needs: frozenset[Need] = frozenset({"truth"})

    def __init__(self, net: str, folder: Path) -> None:
        """Nothing is read yet.

        Args:
            net: of `NETWORKS`.
            folder: with the files of its convolutions and linear layers.
        """
        self._net = net
        self._folder = folder

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRGT at the result's size, 8-bit sRGB scaled to [-1, 1], LPIPS {VERSION}, net {self._net} "
            f"({NETWORKS[self._net].file}), linear layers of {LPIPS_LAYERS.requirement}; inside and outside are means "
            "of the map, its layers enlarged bilinearly; float32"
        )

    def __call__(self, sample: Sample) -> dict[str, float]:
        """`lpips`, `lpips_inside` and `lpips_outside`.

        Raises:
            InputError: a side is shorter than `SMALLEST_SIDE`.
            EngineError: the layers cannot be read, or are others than those that were published.
        """
        if sample.truth is None:
            return {}
        whole, enlarged = self._distances(sample.result.pixels, sample.truth.pixels, sample.truth_mask is not None)
        return {
            figure_name(self.name, region): whole if pixels is None else float(enlarged[pixels].mean())
            for region, pixels in region_masks(sample).items()
        }

    def _distances(self, result: Bytes, truth: Bytes, mapped: bool) -> tuple[float, NDArray[np.float64]]:
        """The distance of two pictures, and its map (height, width) where it is asked for."""
        import torch
        from torch.nn.functional import interpolate

        height, width = truth.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(
                f"The result is {width}x{height} pixels, and LPIPS needs {SMALLEST_SIDE} on each side; "
                "give a larger one."
            )
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        whole, enlarged = 0.0, np.zeros((height, width))
        with torch.inference_mode(), exact:
            pairs = zip(self._features(result), self._features(truth), strict=True)
            for (one, other), linear in zip(pairs, self._linear, strict=True):
                layer = ((_normalised(one) - _normalised(other)) ** 2 * linear).sum(dim=1, keepdim=True)
                whole += float(layer.mean())
                if mapped:
                    fitted = interpolate(layer, (height, width), mode="bilinear", align_corners=False)
                    enlarged += fitted[0, 0].cpu().numpy()
        return whole, enlarged

    def _features(self, pixels: Bytes) -> Iterator[Tensor]:
        """The outputs (1, channels, height, width) of the convolutions that are compared."""
        import torch
        from torch.nn.functional import conv2d, max_pool2d

        network = NETWORKS[self._net]
        shift, scale = (torch.tensor(values, device=device()).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        x = torch.tensor(pixels, device=device()).permute(2, 0, 1)[None].to(torch.float32)
        x = (x / 127.5 - 1.0 - shift) / scale
        for number, stage in enumerate(network.stages):
            if number:
                x = max_pool2d(x, network.window, stride=2)
            for one in stage:
                weight, bias = self._convolutions[one.place]
                x = conv2d(x, weight, bias, stride=one.stride, padding=one.padding).relu()
                if one.is_compared:
                    yield x

    @cached_property
    def _convolutions(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Weights and biases by place."""
        network = NETWORKS[self._net]
        file = self._folder / network.file
        with file.open("rb") as opened:
            if not hashlib.file_digest(opened, "sha256").hexdigest().startswith(network.digest):
                raise _damaged(network.file)
        tensors = _read(file)
        try:
            return {
                one.place: (tensors[f"features.{one.place}.weight"], tensors[f"features.{one.place}.bias"])
                for stage in network.stages
                for one in stage
            }
        except KeyError as error:
            raise _damaged(network.file) from error

    @cached_property
    def _linear(self) -> list[Tensor]:
        """Weights (1, channels, 1, 1) of each layer that is compared, which are at least 0."""
        name = f"lpips-{self._net}.pth"
        if name in damaged_files(LPIPS_LAYERS, self._folder):
            raise _damaged(name)
        tensors = _read(self._folder / name)
        compared = [one for stage in NETWORKS[self._net].stages for one in stage if one.is_compared]
        layers = [tensors.get(f"lin{number}.model.1.weight") for number in range(len(compared))]
        for one, layer in zip(compared, layers, strict=True):
            channels = len(self._convolutions[one.place][1])
            if layer is None or tuple(layer.shape) != (1, channels, 1, 1) or bool((layer < 0).any()):
                raise _damaged(name)
        return [layer for layer in layers if layer is not None]


def missing_files(net: str, folder: Path) -> list[str]:
    """The names of the files that LPIPS with one of `NETWORKS` needs and that a folder lacks."""
    return [name for name in (NETWORKS[net].file, f"lpips-{net}.pth") if not (folder / name).is_file()]


def fetch_convolutions(net: str, folder: Path) -> None:
    """Downloads the convolutions of one of `NETWORKS` from where torchvision publishes them.

    Nothing is done where they are there.

    Raises:
        EngineError: they cannot be downloaded.
    """
    network = NETWORKS[net]
    if (folder / network.file).is_file():
        return
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    address = ADDRESS + network.file
    try:
        torch.hub.download_url_to_file(address, str(folder / network.file), network.digest, progress=False)
    except (OSError, RuntimeError) as error:
        raise EngineError(
            f"{address} cannot be downloaded ({error}); go online and try again, or put the file into {str(folder)!r}."
        ) from error


def _normalised(features: Tensor) -> Tensor:
    """Features of unit length at each pixel."""
    return features / ((features**2).sum(dim=1, keepdim=True).sqrt() + SMALLEST_NORM)


def _read(file: Path) -> dict[str, Any]:
    """The tensors of a file that torch saved; torch's reader admits nothing else here."""
    import torch

    try:
        found = torch.load(file, map_location=device(), weights_only=True)
    except Exception as error:
        # Of a damaged file torch raises errors of many kinds.
        raise _damaged(file.name) from error
    return found if isinstance(found, dict) else {}


def _damaged(name: str) -> EngineError:
    return EngineError(
        f"{name} is not the file of weights that was published for LPIPS; delete it in the folder of REFGC_WEIGHTS, or "
        "else in ~/.cache/refgc/weights, and run `refgc setup --metrics`."
    )
