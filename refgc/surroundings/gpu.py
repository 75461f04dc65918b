"""The same networks on a GPU, through torch where it is installed; nothing else here needs it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from refgc.imaging.arrays import Floats
from refgc.machine import find_gpus, is_importable, missing_cuda, on_zero_gpu
from refgc.settings import settings
from refgc.surroundings.ncnn import Layer
from refgc.surroundings.network import Compiler, Segment, Step, compiled_by_opencv

if TYPE_CHECKING:
    from torch import Tensor


def find_compiler() -> Compiler | None:
    """What runs segments on this machine's GPU; None where no GPU or no torch that fits it is here."""
    # ZeroGPU lends a GPU to the diffusion engine only.
    if on_zero_gpu() or settings().device == "cpu" or not find_gpus():
        return None
    if not is_importable("torch") or missing_cuda():
        return None
    return partial(compiled_by_torch, device=settings().device or "cuda")


def compiled_by_torch(segment: Segment, device: str) -> Step:
    """A segment on a device of torch, with the processor in its place where the device's memory is full.

    Args:
        segment: as `refgc.surroundings.network.segments_of` gives it.
        device: such as "cuda", "cuda:1" or "cpu".
    """
    import torch

    weights = {
        layer.output: [torch.from_numpy(values).to(device) for values in _arrays(layer)] for layer in segment.layers
    }

    def step(features: list[Floats]) -> list[Floats]:
        # Without these, convolutions are rounded to 10 bits, and two runs may differ.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        try:
            with torch.inference_mode(), exact:
                results = {
                    layer.output: torch.from_numpy(values).to(device)[None]
                    for layer, values in zip(segment.inputs, features, strict=True)
                }
                for layer in segment.layers:
                    results[layer.output] = _result(layer, [results[name] for name in layer.inputs], weights)
                return [results[layer.output][0].cpu().numpy() for layer in segment.outputs]
        except torch.OutOfMemoryError:
            return compiled_by_opencv(segment)(features)

    return step


def _arrays(layer: Layer) -> list[Floats]:
    weight = np.asarray(layer.weight, np.float32)
    return [weight, layer.bias] if layer.kind == "convolution" else [weight]


def _result(layer: Layer, inputs: list[Tensor], weights: dict[str, list[Tensor]]) -> Tensor:
    import torch
    from torch.nn import functional

    match layer.kind:
        case "convolution":
            kernel, bias = weights[layer.output]
            convolved = functional.conv2d(inputs[0], kernel, bias, padding=1)
            return convolved if layer.slope is None else functional.leaky_relu(convolved, layer.slope)
        case "prelu":
            return functional.prelu(inputs[0], weights[layer.output][0])
        case "shuffle":
            return functional.pixel_shuffle(inputs[0], int(layer.factor))
        case "nearest":
            return functional.interpolate(inputs[0], scale_factor=int(layer.factor), mode="nearest")
        case "concatenation":
            return torch.cat(inputs, dim=1)
        case "sum":
            return layer.factor * inputs[0] + inputs[1]
        case "input":
            raise AssertionError("no segment computes its input")
