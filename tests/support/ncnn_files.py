"""Tiny networks in the format of ncnn, with random weights, and what they compute, by NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refgc.surroundings.weights import STEMS

HALF_TAG = (0x01306B47).to_bytes(4, "little")
FULL_TAG = bytes(4)
Values = NDArray[np.float32]


@dataclass
class NetworkFiles:
    """The lines and weights of a network as they are written down.

    Attributes:
        lines: of the .param file, without its two first.
        weights: the .bin file.
        half: whether weights are stored in 16 bits.
        size: of random weights.
    """

    half: bool = True
    size: float = 0.1
    lines: list[str] = field(default_factory=list)
    weights: bytes = b""
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))
    arrays: dict[str, tuple[Values, Values]] = field(default_factory=dict)

    def layer(self, kind: str, inputs: list[str], outputs: list[str], parameters: str = "") -> None:
        """Adds a layer without weights."""
        names = " ".join([*inputs, *outputs])
        self.lines.append(f"{kind} layer{len(self.lines)} {len(inputs)} {len(outputs)} {names} {parameters}".rstrip())

    def convolution(self, source: str, output: str, channels: tuple[int, int], slope: float | None = None) -> None:
        """Adds a 3x3 convolution from some channels to others."""
        before, after = channels
        weight = self.random.normal(0, self.size, (after, before, 3, 3)).astype(np.float16).astype(np.float32)
        bias = self.random.normal(0, self.size, after).astype(np.float32)
        activation = "" if slope is None else f" 9=2 -23310=1,{slope:e}"
        self.layer("Convolution", [source], [output], f"0={after} 1=3 4=1 5=1 6={weight.size}{activation}")
        if self.half:
            stored = weight.astype("<f2").tobytes()
            self.weights += HALF_TAG + stored + bytes(-len(stored) % 4)
        else:
            self.weights += FULL_TAG + weight.astype("<f4").tobytes()
        self.weights += bias.astype("<f4").tobytes()
        self.arrays[output] = weight, bias

    def prelu(self, source: str, output: str, channels: int) -> None:
        """Adds a ReLU with a slope a channel."""
        slopes = self.random.uniform(0, 0.5, channels).astype("<f4")
        self.layer("PReLU", [source], [output], f"0={channels}")
        self.weights += slopes.tobytes()
        self.arrays[output] = slopes, slopes

    def write(self, folder: Path, stem: str = "tiny") -> tuple[Path, Path]:
        """Writes both files."""
        folder.mkdir(parents=True, exist_ok=True)
        text, weights = folder / f"{stem}.param", folder / f"{stem}.bin"
        text.write_text("\n".join(["7767517", f"{len(self.lines)} {len(self.lines)}", *self.lines]) + "\n")
        weights.write_bytes(self.weights)
        return text, weights


def compact_network(*, half: bool = True, size: float = 0.1) -> NetworkFiles:
    """As the network "fast": convolutions with PReLU, a shuffle, and the enlarged picture added."""
    files = NetworkFiles(half, size)
    files.layer("Input", [], ["data"])
    files.layer("Split", ["data"], ["data_0", "data_1"])
    files.convolution("data_1", "a", (3, 5))
    files.prelu("a", "b", 5)
    files.convolution("b", "c", (5, 48))
    files.layer("PixelShuffle", ["c"], ["d"], "0=4")
    files.layer("Interp", ["data_0"], ["e"], "0=1 1=4.000000e+00 2=4.000000e+00")
    files.layer("BinaryOp", ["d", "e"], ["output"])
    return files


def residual_network() -> NetworkFiles:
    """As the network "best": two dense residual blocks, and convolutions between enlargements."""
    files = NetworkFiles()
    files.layer("Input", [], ["data"])
    files.convolution("data", "head", (3, 4))
    files.layer("Split", ["head"], [f"head_{number}" for number in range(4)])
    source, kept = "head_0", "head_1"
    for block in ("p", "q"):
        files.convolution(source, f"{block}0", (4, 3), slope=0.2)
        files.layer("Split", [f"{block}0"], [f"{block}0_0"])
        files.layer("Concat", [kept, f"{block}0_0"], [f"{block}1"])
        files.convolution(f"{block}1", f"{block}2", (7, 4))
        files.layer("Eltwise", [f"{block}2", kept], [f"{block}3"], "0=1 -23301=2,2.000000e-01,1.000000e+00")
        files.layer("Split", [f"{block}3"], [f"{block}3_0", f"{block}3_1"])
        source, kept = f"{block}3_0", f"{block}3_1"
    files.layer("Eltwise", [source, "head_2"], ["sum"], "0=1 -23301=2,2.000000e-01,1.000000e+00")
    files.layer("BinaryOp", ["sum", "head_3"], ["joined"])
    files.layer("Interp", ["joined"], ["twice"], "0=1 1=2.000000e+00 2=2.000000e+00")
    files.convolution("twice", "r", (4, 4), slope=0.2)
    files.layer("Interp", ["r"], ["four"], "0=1 1=2.000000e+00 2=2.000000e+00")
    files.convolution("four", "output", (4, 3))
    return files


def write_weights(folder: Path) -> Path:
    """A folder of weights in which both networks are a tiny one that adds faint detail; returns the folder."""
    for stem in STEMS.values():
        compact_network(size=0.03).write(folder, stem)
    return folder


def expected_picture(files: NetworkFiles, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the network makes of a picture, uint8 RGB, computed line by line."""
    results: dict[str, Values] = {}
    for line in files.lines:
        kind, _, inputs, outputs, *words = line.split()
        given = [results[name] for name in words[: int(inputs)]]
        names = words[int(inputs) : int(inputs) + int(outputs)]
        parameters = dict(word.split("=") for word in words[int(inputs) + int(outputs) :])
        result = _result(kind, given, parameters, files.arrays.get(names[0]), pixels)
        results.update(dict.fromkeys(names, result))
    picture = results["output"].transpose(1, 2, 0)
    return np.asarray(np.clip(picture * 255 + 0.5, 0, 255), np.uint8)


def _result(
    kind: str,
    given: list[Values],
    parameters: Mapping[str, str],
    arrays: tuple[Values, Values] | None,
    pixels: NDArray[np.uint8],
) -> Values:
    match kind:
        case "Input":
            return np.asarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(255)
        case "Split":
            return given[0]
        case "Convolution":
            assert arrays is not None
            convolved = _convolved(given[0], *arrays)
            return np.where(convolved < 0, 0.2 * convolved, convolved) if "9" in parameters else convolved
        case "PReLU":
            assert arrays is not None
            return np.where(given[0] < 0, arrays[0][:, None, None] * given[0], given[0])
        case "PixelShuffle":
            channels, height, width = given[0].shape
            groups = given[0].reshape(channels // 16, 4, 4, height, width)
            return groups.transpose(0, 3, 1, 4, 2).reshape(channels // 16, 4 * height, 4 * width)
        case "Interp":
            factor = int(float(parameters["1"]))
            return given[0].repeat(factor, axis=1).repeat(factor, axis=2)
        case "Concat":
            return np.concatenate(given)
        case "Eltwise":
            return np.float32(0.2) * given[0] + given[1]
    return given[0] + given[1]


def _convolved(values: Values, weight: Values, bias: Values) -> Values:
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.asarray(np.einsum("chwyx,ocyx->ohw", windows, weight) + bias[:, None, None], np.float32)
