"""The reader of networks in the format of ncnn: a text file of layers (.param) and a binary file of weights (.bin).

The format is described at https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure. Only those layers are
read that the networks of Real-ESRGAN (Wang et al., 2021) consist of, and only as they occur there. Everything else is
refused, so that damaged or foreign files never reach the code that computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Floats

MAGIC = "7767517"
# Tag in front of weights of 16 bits; 0 stands in front of weights of 32 bits.
HALF_TAG, FULL_TAG = 0x01306B47, 0
# Limits far above the largest of the networks, which has 999 layers, 192 channels and 33 MB. Chosen by hand.
MAX_TEXT_BYTES, MAX_WEIGHT_BYTES = 1_000_000, 100_000_000
MAX_LAYERS, MAX_CHANNELS, MAX_SCALE = 4000, 1024, 8
# Channels of a picture.
COLOURS = 3

Kind = Literal["input", "convolution", "prelu", "shuffle", "nearest", "sum", "concatenation"]
Weights = NDArray[np.float16] | Floats


class ModelFileError(ValueError):
    """Files that are no such network; `str(error)` is a phrase that says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One step of a network; it has one result.

    Attributes:
        kind: what is computed. "nearest" repeats each pixel, "shuffle" turns groups of channels into pixels, and "sum"
            adds two blobs of features.
        inputs: names of the results that it takes.
        output: name of its result.
        channels: of the result.
        scale: size of the result over that of the picture.
        weight: of a convolution, (channels, channels of the input, 3, 3); of a PReLU, (channels,) slopes.
        bias: of a convolution, (channels,).
        slope: of the leaky ReLU that follows a convolution; None where none does.
        factor: of the enlargement, for "nearest" and "shuffle"; of the first summand, for "sum".
    """

    kind: Kind
    inputs: tuple[str, ...]
    output: str
    channels: int
    scale: int
    weight: Weights = field(default_factory=lambda: np.zeros(0, np.float32))
    bias: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    slope: float | None = None
    factor: float = 1.0


def read_network(text: Path, weights: Path) -> tuple[Layer, ...]:
    """Reads a network that turns an RGB picture into an enlarged one.

    Args:
        text: the .param file.
        weights: the .bin file.

    Returns:
        The layers in an order in which each one's inputs are there. The first is the input; the last is the picture.

    Raises:
        ModelFileError: the files are damaged, too large, do not belong together, or hold another kind of network.
        OSError: a file cannot be read.
    """
    lines = _read(text, MAX_TEXT_BYTES).decode("ascii", "replace").splitlines()
    if len(lines) < 3 or lines[0].strip() != MAGIC:
        raise ModelFileError(f"{text.name} is no network of ncnn")
    if len(lines) - 2 > MAX_LAYERS:
        raise ModelFileError(f"{text.name} has more than {MAX_LAYERS} layers")
    parser = _Parser(_read(weights, MAX_WEIGHT_BYTES))
    for number, line in enumerate(lines[2:], start=3):
        if line.strip():
            try:
                parser.add(line.split())
            except (ModelFileError, ValueError, IndexError, KeyError) as error:
                reason = str(error) if isinstance(error, ModelFileError) else "it cannot be read"
                raise ModelFileError(f"line {number} of {text.name} cannot be used: {reason}") from error
    if parser.position != len(parser.data):
        raise ModelFileError(f"{weights.name} is longer than {text.name} says")
    if not parser.layers or parser.layers[0].kind != "input":
        raise ModelFileError(f"{text.name} has no input")
    used = {name for layer in parser.layers for name in layer.inputs}
    if [layer for layer in parser.layers if layer.output not in used] != parser.layers[-1:]:
        raise ModelFileError(f"{text.name} has several results")
    if parser.layers[-1].channels != COLOURS:
        raise ModelFileError(f"{text.name} does not end in a picture")
    return tuple(parser.layers)


def _read(file: Path, limit: int) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise ModelFileError(f"{file.name} has more than {limit} bytes")
    return content


class _Parser:
    """The layers read so far, and the place in the weights."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.layers: list[Layer] = []
        self._results: dict[str, Layer] = {}

    def add(self, words: list[str]) -> None:
        """Reads the layer of one line: type, name, numbers of inputs and outputs, their names, parameters."""
        kind, inputs_end = words[0], 4 + int(words[2])
        outputs_end = inputs_end + int(words[3])
        inputs = [self._results[name] for name in words[4:inputs_end]]
        outputs = words[inputs_end:outputs_end]
        parameters = dict(word.split("=") for word in words[outputs_end:])
        if outputs_end > len(words) or any(name in self._results for name in outputs):
            raise ModelFileError("its inputs and outputs are not as announced")
        if kind == "Split":
            # Copies of one result, which has to be known by several names.
            (source,) = inputs
            self._results.update(dict.fromkeys(outputs, source))
            return
        (output,) = outputs
        layer = self._layer(kind, inputs, output, parameters)
        if layer.channels > MAX_CHANNELS or layer.scale > MAX_SCALE:
            raise ModelFileError("its result is too large")
        self.layers.append(layer)
        self._results[output] = layer

    def _layer(self, kind: str, inputs: list[Layer], output: str, parameters: Mapping[str, str]) -> Layer:
        match kind:
            case "Input":
                _check(not inputs and not self.layers and not parameters, "it is a second input")
                return Layer("input", (), output, COLOURS, 1)
            case "Convolution":
                return self._convolution(inputs, output, parameters)
            case "PReLU":
                (source,) = inputs
                _check(parameters == {"0": str(source.channels)}, "it has other channels than its input")
                slopes = self._floats(source.channels)
                return Layer("prelu", (source.output,), output, source.channels, source.scale, slopes)
            case "PixelShuffle":
                (source,) = inputs
                factor = int(parameters["0"])
                _check(len(parameters) == 1 and factor in (2, 3, 4), "its factor is unknown")
                _check(source.channels % factor**2 == 0, "its input cannot be shuffled")
                channels = source.channels // factor**2
                return Layer("shuffle", (source.output,), output, channels, source.scale * factor, factor=factor)
            case "Interp":
                (source,) = inputs
                factor = int(float(parameters["1"]))
                expected = {"0": 1.0, "1": float(factor), "2": float(factor)}
                _check({key: float(value) for key, value in parameters.items()} == expected, "it is not nearest")
                _check(factor in (2, 3, 4), "its factor is unknown")
                scale = source.scale * factor
                return Layer("nearest", (source.output,), output, source.channels, scale, factor=factor)
            case "BinaryOp" | "Eltwise":
                return _sum(inputs, output, parameters, is_weighted=kind == "Eltwise")
            case "Concat":
                _check(not parameters and len(inputs) > 1, "it does not join channels")
                _check(len({source.scale for source in inputs}) == 1, "its inputs differ in size")
                names = tuple(source.output for source in inputs)
                channels = sum(source.channels for source in inputs)
                return Layer("concatenation", names, output, channels, inputs[0].scale)
        raise ModelFileError(f"there is no use for layers of the type {kind[:40]!r}")

    def _convolution(self, inputs: list[Layer], output: str, parameters: Mapping[str, str]) -> Layer:
        (source,) = inputs
        given = dict(parameters)
        channels, size = int(given.pop("0")), int(given.pop("6"))
        _check(0 < channels <= MAX_CHANNELS, "its number of channels is impossible")
        slope = None
        if given.pop("9", "0") != "0":
            _check(parameters["9"] == "2", "its activation is unknown")
            count, value = given.pop("-23310").split(",")
            slope = float(value)
            _check(count == "1" and math.isfinite(slope), "its activation is unknown")
        _check(given == {"1": "3", "4": "1", "5": "1"}, "it is no 3x3 convolution that keeps the size")
        _check(size == channels * source.channels * 9, "its weights do not fit its input")
        weight = self._tagged(size).reshape(channels, source.channels, 3, 3)
        bias = self._floats(channels)
        return Layer("convolution", (source.output,), output, channels, source.scale, weight, bias, slope)

    def _tagged(self, count: int) -> Weights:
        tag = int.from_bytes(self._bytes(4), "little")
        if tag == FULL_TAG:
            return self._floats(count)
        _check(tag == HALF_TAG, "its weights are neither of 16 nor of 32 bits")
        # The next entry begins at a multiple of 4 bytes.
        values = np.frombuffer(self._bytes((2 * count + 3) // 4 * 4), "<f2", count).astype(np.float16)
        _check(bool(np.isfinite(values).all()), "its weights are no numbers")
        return values

    def _floats(self, count: int) -> Floats:
        values = np.frombuffer(self._bytes(4 * count), "<f4").astype(np.float32)
        _check(bool(np.isfinite(values).all()), "its weights are no numbers")
        return values

    def _bytes(self, count: int) -> bytes:
        taken = self.data[self.position : self.position + count]
        _check(len(taken) == count, "the file of weights ends before it")
        self.position += count
        return taken


def _sum(inputs: list[Layer], output: str, parameters: Mapping[str, str], *, is_weighted: bool) -> Layer:
    first, second = inputs
    _check((first.channels, first.scale) == (second.channels, second.scale), "its inputs differ in size")
    factor = 1.0
    if is_weighted:
        count, *factors = parameters["-23301"].split(",")
        _check(parameters["0"] == "1" and count == "2" and len(parameters) == 2, "it is no sum of two")
        factor, other = map(float, factors)
        _check(math.isfinite(factor) and other == 1.0, "its factors are unknown")
    else:
        # Addition is the operation where none is named.
        _check(dict(parameters) in ({}, {"0": "0"}), "it is no sum of two")
    return Layer("sum", (first.output, second.output), output, first.channels, first.scale, factor=factor)


def _check(is_so: bool, reason: str) -> None:
    if not is_so:
        raise ModelFileError(reason)
