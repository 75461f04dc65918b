"""A network run on the processor: segment after segment, and each segment in tiles, so that memory stays small.

A pixel of a segment's result depends on its input within a few pixels only. Tiles that overlap by that radius therefore
give exactly what the whole picture gives, up to rounding. The network as a whole has a radius of hundreds of pixels,
and cutting pictures into tiles before it leaves seams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats
from refgc.surroundings.ncnn import Layer
from refgc.surroundings.onnx import model_bytes

# The largest blob of features that a tile may have, in bytes. A few of them are in memory at a time. Chosen by hand; a
# quarter as many bytes cost a few hundredths of the time.
TILE_BYTES = 50_000_000

Advance = Callable[[float], None]
"""Called with the fraction done, in [0, 1]."""
Step = Callable[[list[Floats]], list[Floats]]
"""Computes the outputs of a segment from its inputs, each of shape (channels, height, width)."""


def ignore_progress(fraction: float) -> None:
    """Takes no notice."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Layers that run together.

    Attributes:
        layers: in order.
        inputs: the results of earlier segments that they take.
        outputs: those of their results that later segments take, or the picture.
        radius: how far, in pixels of the picture, a result depends on the inputs.
        tile_pixels: the most pixels of the picture in one tile.
    """

    layers: tuple[Layer, ...]
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]
    radius: int
    tile_pixels: int


Compiler = Callable[[Segment], Step]


def segments_of(layers: tuple[Layer, ...], tile_bytes: int = TILE_BYTES) -> list[Segment]:
    """Cuts a network after each of its residual blocks; between those, few features have to be kept.

    Args:
        layers: as `refgc.surroundings.ncnn.read_network` returns them.
        tile_bytes: the largest blob of features in a tile.
    """
    ends = [
        number + 1
        for number, layer in enumerate(layers[:-1])
        if layer.kind == "sum" and layers[number + 1].kind != "sum"
    ]
    by_name = {layer.output: layer for layer in layers}
    last_use = {name: number for number, layer in enumerate(layers) for name in layer.inputs}
    last_use[layers[-1].output] = len(layers)
    segments = []
    for start, end in zip([1, *ends], [*ends, len(layers)], strict=True):
        part = layers[start:end]
        own = {layer.output for layer in part}
        taken = dict.fromkeys(name for layer in part for name in layer.inputs if name not in own)
        inputs = tuple(by_name[name] for name in taken)
        outputs = tuple(layer for layer in part if last_use[layer.output] >= end)
        pixel_bytes = max(4 * layer.channels * layer.scale**2 for layer in part)
        segments.append(Segment(part, inputs, outputs, _radius(part), tile_bytes // pixel_bytes))
    return segments


def kept_bytes(layers: tuple[Layer, ...]) -> int:
    """Memory for the features that are kept of the whole picture between segments, in bytes a pixel of the picture."""
    segments = segments_of(layers)
    most = 0
    for number, segment in enumerate(segments[:-1]):
        used_later = {layer.output: layer for later in segments[number + 1 :] for layer in later.inputs}
        computed = {layer.output for earlier in segments[: number + 1] for layer in earlier.layers}
        kept = {name: layer for name, layer in used_later.items() if name in computed}
        # While a segment runs, its inputs are there beside its results.
        kept |= {layer.output: layer for layer in segment.inputs if layer is not layers[0]}
        most = max(most, sum(4 * layer.channels * layer.scale**2 for layer in kept.values()))
    return most


def compiled_by_opencv(segment: Segment) -> Step:
    """A segment on the processor, through OpenCV's module dnn."""
    inputs = {layer.output: layer.channels for layer in segment.inputs}
    outputs = {layer.output: layer.channels for layer in segment.outputs}
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model_bytes(segment.layers, inputs, outputs), np.uint8))

    def step(features: list[Floats]) -> list[Floats]:
        for name, values in zip(inputs, features, strict=True):
            net.setInput(values[None], name)
        return [np.asarray(values[0], np.float32) for values in net.forward(list(outputs))]

    return step


def run_network(
    layers: tuple[Layer, ...],
    pixels: Bytes,
    advance: Advance = ignore_progress,
    tile_bytes: int = TILE_BYTES,
    compiler: Compiler = compiled_by_opencv,
) -> Bytes:
    """Enlarges a picture.

    Args:
        layers: as `refgc.surroundings.ncnn.read_network` returns them.
        pixels: uint8 RGB of shape (height, width, 3).
        advance: called after each tile.
        tile_bytes: the largest blob of features in a tile.
        compiler: what runs the segments.

    Returns:
        uint8 RGB, as many times larger as the network makes it.
    """
    picture, last = layers[0].output, layers[-1]
    segments = segments_of(layers, tile_bytes)
    height, width = pixels.shape[:2]
    blobs: dict[str, Floats | Bytes] = {picture: pixels.transpose(2, 0, 1)}
    work = [len(segment.layers) for segment in segments]
    for number, segment in enumerate(segments):
        results = {
            layer.output: _empty((layer.channels, height * layer.scale, width * layer.scale), is_picture=layer is last)
            for layer in segment.outputs
        }
        done, share = sum(work[:number]) / sum(work), work[number] / sum(work)
        # It is made anew for each picture: prepared for the fast convolution, the weights take seven times the memory.
        step = compiler(segment)
        tiles = list(tiles_of(height, width, segment.tile_pixels))
        for position, (rows, columns) in enumerate(tiles, start=1):
            _run_tile(step, segment, blobs, results, rows, columns)
            advance(done + share * position / len(tiles))
        wanted = {layer.output for later in segments[number + 1 :] for layer in later.inputs}
        blobs = {name: blob for name, blob in (blobs | results).items() if name in wanted or name == last.output}
    return np.ascontiguousarray(blobs[last.output].transpose(1, 2, 0), np.uint8)


def tiles_of(height: int, width: int, pixels: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles that cover a picture, nearly of the same size.

    Args:
        height: of the picture.
        width: of the picture.
        pixels: the most in one tile; at least 1.
    """
    side = max(1, math.isqrt(pixels))
    # A long strip that is narrower than a tile may be cut into longer ones.
    row_count = math.ceil(height / max(side, pixels // width))
    column_count = math.ceil(width / max(side, pixels // height))
    for rows in _parts(height, row_count):
        for columns in _parts(width, column_count):
            yield rows, columns


def _parts(length: int, count: int) -> list[slice]:
    ends = [round(length * number / count) for number in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _radius(layers: tuple[Layer, ...]) -> int:
    """How far a result depends on the inputs of some layers, in pixels of the picture."""
    reach: dict[str, float] = {}
    for layer in layers:
        before = max((reach.get(name, 0.0) for name in layer.inputs), default=0.0)
        reach[layer.output] = before + (1.0 / layer.scale if layer.kind == "convolution" else 0.0)
    return math.ceil(max(reach.values()))


def _empty(shape: tuple[int, int, int], *, is_picture: bool) -> Floats | Bytes:
    return np.empty(shape, np.uint8) if is_picture else np.empty(shape, np.float32)


def _run_tile(
    step: Step,
    segment: Segment,
    blobs: dict[str, Floats | Bytes],
    results: dict[str, Floats | Bytes],
    rows: slice,
    columns: slice,
) -> None:
    """Computes a segment on one tile and writes it into the results."""
    inputs = [blobs[layer.output] for layer in segment.inputs]
    height, width = (side // segment.inputs[0].scale for side in inputs[0].shape[1:])
    top, left = max(rows.start - segment.radius, 0), max(columns.start - segment.radius, 0)
    bottom, right = min(rows.stop + segment.radius, height), min(columns.stop + segment.radius, width)
    features = []
    for layer, blob in zip(segment.inputs, inputs, strict=True):
        part = blob[:, _scaled(top, bottom, layer.scale), _scaled(left, right, layer.scale)]
        # Networks take levels from 0 to 1.
        values = part.astype(np.float32) / 255.0 if blob.dtype == np.uint8 else part
        features.append(np.ascontiguousarray(values, np.float32))
    for layer, values in zip(segment.outputs, step(features), strict=True):
        inner = values[
            :,
            _scaled(rows.start - top, rows.stop - top, layer.scale),
            _scaled(columns.start - left, columns.stop - left, layer.scale),
        ]
        target = results[layer.output]
        place = target[
            :, _scaled(rows.start, rows.stop, layer.scale), _scaled(columns.start, columns.stop, layer.scale)
        ]
        place[:] = np.clip(inner * 255.0 + 0.5, 0.0, 255.0) if target.dtype == np.uint8 else inner


def _scaled(start: int, stop: int, scale: int) -> slice:
    return slice(start * scale, stop * scale)
