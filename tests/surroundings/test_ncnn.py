"""The reader of ncnn's files: what it reads, and that it refuses whatever is not such a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refgc.surroundings.ncnn import ModelFileError, read_network
from tests.support.ncnn_files import NetworkFiles, compact_network, residual_network


@pytest.mark.parametrize("half", [True, False])
def test_layers_and_weights_are_read(tmp_path: Path, half: bool) -> None:
    files = compact_network(half=half)
    layers = read_network(*files.write(tmp_path))
    assert [layer.kind for layer in layers] == [
        "input", "convolution", "prelu", "convolution", "shuffle", "nearest", "sum",
    ]  # fmt: skip
    assert (layers[-1].channels, layers[-1].scale) == (3, 4)
    for layer in layers:
        if layer.output in files.arrays:
            np.testing.assert_array_equal(layer.weight, files.arrays[layer.output][0])
        if layer.kind == "convolution":
            np.testing.assert_array_equal(layer.bias, files.arrays[layer.output][1])


def test_copies_of_a_result_are_known_by_its_first_name(tmp_path: Path) -> None:
    layers = read_network(*residual_network().write(tmp_path))
    made = {layer.output for layer in layers}
    assert all(set(layer.inputs) <= made for layer in layers)
    assert [layer.slope for layer in layers if layer.output in ("p0", "p2")] == [pytest.approx(0.2), None]
    assert next(layer.factor for layer in layers if layer.output == "p3") == pytest.approx(0.2)


def changed(old: str, new: str) -> Callable[[NetworkFiles], None]:
    def change(files: NetworkFiles) -> None:
        assert any(old in line for line in files.lines)
        files.lines = [line.replace(old, new) for line in files.lines]

    return change


def with_weights(weights: Callable[[bytes], bytes]) -> Callable[[NetworkFiles], None]:
    def change(files: NetworkFiles) -> None:
        files.weights = weights(files.weights)

    return change


def without_last_line(files: NetworkFiles) -> None:
    files.lines.pop()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_weights(lambda weights: weights[:-1]), "ends before"),
        (with_weights(lambda weights: weights + b"\0"), "longer"),
        (with_weights(lambda weights: b"\1\2\3\4" + weights[4:]), "neither of 16 nor of 32 bits"),
        (with_weights(lambda weights: weights[:4] + b"\xff\xff" + weights[6:]), "no numbers"),
        (with_weights(lambda weights: weights[:-4] + b"\0\0\xc0\x7f"), "no numbers"),
        (changed("PixelShuffle", "Softmax"), "no use for layers of the type 'Softmax'"),
        (changed("1=3 4=1", "1=3 2=2 4=1"), "no 3x3 convolution"),
        (changed("0=5 1=3", "0=999999999 1=3"), "number of channels is impossible"),
        (changed("6=135", "6=136"), "do not fit"),
        (changed("0=5", "0=6"), "do not fit its input"),
        (changed("0=1 1=4.0", "0=2 1=4.0"), "not nearest"),
        (changed("1=4.000000e+00 2=4.000000e+00", "1=2.000000e+00 2=2.000000e+00"), "differ in size"),
        (changed("data_1 a", "nowhere a"), "cannot be read"),
        (changed("layer2 1 1", "layer2 1 9"), "not as announced|cannot be read"),
        (changed("b c", "b a"), "not as announced"),
        (changed("d e output", "d e output 0=2"), "no sum of two"),
        (without_last_line, "several results"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: Callable[[NetworkFiles], None], reason: str) -> None:
    files = compact_network()
    change(files)
    with pytest.raises(ModelFileError, match=reason):
        read_network(*files.write(tmp_path))


def test_a_text_that_is_no_network_is_refused(tmp_path: Path) -> None:
    text, weights = compact_network().write(tmp_path)
    text.write_text("1234567\n1 1\nInput data 0 1 data\n")
    with pytest.raises(ModelFileError, match="no network of ncnn"):
        read_network(text, weights)
    text.write_bytes(b"\xff" * 2_000_000)
    with pytest.raises(ModelFileError, match="more than"):
        read_network(text, weights)
